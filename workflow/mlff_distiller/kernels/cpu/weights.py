"""The weights file that the compiled kernel reads, without torch or any parser: ``weights.hpp`` has its form."""

import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

MAGIC = b"MLFFWGHT"
VERSION = 2
#: The arrays in the student's precision, in their order.
FIELDS = (
    "centers",
    "wall",
    "filters",
    "filters_bias",
    "embedding",
    "first_message",
    "phi_in",
    "phi_in_bias",
    "phi_out",
    "phi_out_bias",
    "mix_uv",
    "mlp_in",
    "mlp_in_bias",
    "mlp_out",
    "mlp_out_bias",
    "readout_in",
    "readout_in_bias",
    "readout_out",
    "readout_out_bias",
)
#: What the header says of a student's domain, in its order.
DOMAIN_SCALES = ("energy_scale", "force_scale", "force_power", "limit")
#: That of a student whose checkpoint says nothing of its errors.
NO_DOMAIN = {name: np.zeros(0) for name in ("elements", "atoms", "systems")} | dict.fromkeys(
    DOMAIN_SCALES, np.zeros(())
)
#: What the header says of a student's sizes, in its order; names as in its configuration.
SIZES = ("n_features", "mlp_width", "readout_width", "n_blocks", "n_radial")
_BEGINNING = struct.Struct("<8sII")
_HEADER = struct.Struct("<Q10I8d")


def weights_bytes(
    sizes: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
    reference_energies: np.ndarray,
    radii: np.ndarray,
    learned: Sequence[int] | None,
    constants: tuple[float, float, float, float],
    domain: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """The contents of a weights file.

    Args:
        sizes: those of :data:`SIZES`.
        arrays: those of :data:`FIELDS`, all float32 or all float64, shaped as in
            :class:`~mlff_distiller.potentials.analytic.AnalyticWeights`.
        reference_energies: [Z] eV.
        radii: [Z] A; atoms closer than the sum of theirs are refused.
        learned: atomic numbers that the student learned; None: it does not say, and then no distance is refused either.
        constants: cutoff (A), exponent of the Gaussians (1/A^2), the norm's epsilon, and where walls have come to rest.
        domain: the tensors of the student's :class:`~mlff_distiller.student.domain.Domain`, which tells the errors to expect;
            None: there is none.
    """
    n_elements = len(reference_energies)
    dtype = arrays[FIELDS[0]].dtype
    known = np.zeros(n_elements, dtype=np.uint8)
    known[[z for z in learned or () if z < n_elements]] = 1
    domain = domain or NO_DOMAIN
    parts = [np.asarray(reference_energies, "<f8"), np.asarray(radii, "<f8"), known]
    parts += [domain["elements"].astype("u1"), domain["atoms"].astype("<f8"), domain["systems"].astype("<f8")]
    parts += [np.asarray(arrays[name], dtype.newbyteorder("<")) for name in FIELDS]
    contents = b"".join(part.tobytes() + bytes(-part.nbytes % 8) for part in parts)
    header = _HEADER.pack(
        _BEGINNING.size + _HEADER.size + len(contents),
        dtype.itemsize,
        n_elements,
        *(int(sizes[name]) for name in SIZES),
        learned is not None,
        len(domain["elements"]),
        0,
        *constants,
        *(float(domain[name]) for name in DOMAIN_SCALES),
    )
    return _BEGINNING.pack(MAGIC, VERSION, zlib.crc32(contents, zlib.crc32(header))) + header + contents
