"""ctypes binding of a compiled kernel. Calls release the GIL; any number of threads may call at the same time."""

import ctypes
import weakref
from pathlib import Path

from mlff_distiller.kernels.structures import check_sizes
from mlff_distiller.utils.errors import UserError

INTERFACE_VERSION = 2
#: The fields of GivenWeights in painn.hpp, in the same order.
WEIGHT_FIELDS = (
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
OK, BAD_POSITION, COINCIDING, BAD_NUMBER, BAD_CELL, BAD_BATCH, OUT_OF_MEMORY = range(7)

_pointer, _int64, _int, _double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double
_SIGNATURES = {
    "mlff_interface_version": (_int, []),
    "mlff_create": (_pointer, [_pointer, _pointer, _int, *[_double] * 4]),
    "mlff_destroy": (None, [_pointer]),
    "mlff_evaluate": (_int, [_pointer, _int, _int64, _int64, *[_pointer] * 9]),
    "mlff_neighbors": (_int, [_double, _int64, _int64, *[_pointer] * 4, *[_pointer] * 3]),
    "mlff_take_neighbors": (None, [_pointer] * 4),
}


def load_library(path: str | Path) -> ctypes.CDLL:
    """Load the kernel at ``path`` and declare its signatures.

    Raises:
        UserError: it cannot be loaded here, or it is of another version of this package.
    """
    advice = "delete it and run the compile stage again"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UserError(f"{path}: not a kernel for this machine ({error}); {advice}") from error
    if (version := library.mlff_interface_version()) != INTERFACE_VERSION:
        raise UserError(f"{path}: interface version {version}, this package has {INTERFACE_VERSION}; {advice}")
    check_sizes(path, library, {"mlff_sizeof_weights": len(WEIGHT_FIELDS) * ctypes.sizeof(_pointer)})
    return library


class Model:
    """The packed weights; freed together with this object.

    Args:
        library: from :func:`load_library`.
        weights: addresses of the arrays of ``WEIGHT_FIELDS``, contiguous; copied by the constructor.
        reference_energies: address of [n_elements] float64, eV.
        n_elements: atomic numbers must be below this.
        cutoff: A.
        exponent: of the Gaussians, 1/A^2.
        norm_epsilon: added to |V v|^2 under the square root.
        wall_rest: 1 - x where what the network sees has come to rest (:data:`mlff_distiller.student.wall.REST`).
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        weights: list[int],
        reference_energies: int,
        n_elements: int,
        cutoff: float,
        exponent: float,
        norm_epsilon: float,
        wall_rest: float,
    ):
        addresses = (_pointer * len(WEIGHT_FIELDS))(*weights)
        self.handle = library.mlff_create(
            ctypes.addressof(addresses), reference_energies, n_elements, cutoff, exponent, norm_epsilon, wall_rest
        )
        if not self.handle:
            raise MemoryError("no memory for the packed weights")
        self._free = weakref.finalize(self, library.mlff_destroy, self.handle)


def explain(status: int, first: int, second: int, positions: list[float] | None = None) -> str:
    """The message for a status other than OK; ``positions`` is the position of the first atom, A."""
    if status == BAD_POSITION:
        return f"atom {first} is at {positions}: not a finite position within 1e9 A; has the simulation blown up?"
    if status == COINCIDING:
        return f"atoms {first} and {second} coincide (or an atom meets its own image): there is no force between them"
    if status == BAD_NUMBER:
        return f"atom {first} has an atomic number that the student does not know"
    if status == BAD_CELL:
        return f"the periodic cell vectors of system {first} span no volume, or a cell too flat for the cutoff"
    if status == BAD_BATCH:
        return f"batch must rise from 0 and stay below the number of systems; atom {first} breaks that"
    return "not enough memory for a call of this size; split the batch"
