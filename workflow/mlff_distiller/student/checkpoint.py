"""Student checkpoints: safetensors with a versioned header, checked on the way in.

Header (the metadata of the safetensors file): ``format`` = ``mlff-distiller-student``, ``version``, ``config`` (JSON of
:class:`StudentConfig`), ``neighbors`` (since version 2) and ``card`` (JSON: teacher, data, figures; may be empty).
Version 1 had no ``neighbors``: such files load with the native search. Since version 3 there may be tensors ``domain.*``, the
student's :class:`~mlff_distiller.student.domain.Domain`. Since version 4 there are ``norm_epsilon`` in ``config`` and the
tensor ``network.wall``; older students had 1e-4 and no wall (see :mod:`mlff_distiller.student.wall`).
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from mlff_distiller.student import wall
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.student.domain import Domain
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.limits import Limits
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_bytes

FORMAT = "mlff-distiller-student"
VERSION = 4
#: What students had before version 4, which do not say it.
OLD_NORM_EPSILON = 1e-4
#: What the names of the domain's tensors begin with.
DOMAIN = "domain."
#: Of the weights in a file, and of a student that is to run.
PRECISIONS = (torch.float32, torch.float64)
_MEND = "Copy the file anew from where it came, or make one: `snakemake -c4 distill`"


def save_student(path: str | Path, student: StudentForceField, card: dict[str, Any] | None = None) -> Path:
    """Write ``student`` and its domain to ``path`` (atomically), with ``card`` saying where it comes from."""
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(student.config.to_mapping()),
        "neighbors": student.neighbor_search.name,
        "card": json.dumps(card or {}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    if student.domain is not None:
        tensors |= {f"{DOMAIN}{name}": tensor for name, tensor in student.domain.tensors().items()}
    return write_bytes(path, to_safetensors(tensors, metadata=header))


def load_student(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
    neighbors: str | None = None,
    use_torch_cluster: bool | None = None,
    allow: Iterable[str] = (),
) -> StudentForceField:
    """The student in ``path``, in evaluation mode, its parameters frozen.

    Args:
        path: a checkpoint written by :func:`save_student`, of this version or an older one.
        device, dtype: where and in which precision to run: torch.float32 or torch.float64, or their names.
        neighbors, use_torch_cluster: override the file's choice of neighbor search.
        allow: what it is to answer although it never learned it, see :class:`~mlff_distiller.systems.limits.Limits`.

    Returns:
        The student; its ``limits`` hold the elements that the card says it learned.

    Raises:
        UserError: the file is missing, damaged, of another program or of a newer version; its header lacks the sizes or is
            no JSON; its tensors hold NaN, are of other shapes, or not float32 or float64; or ``dtype`` is neither.
    """
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(dtype, dtype)
    if dtype not in PRECISIONS:
        raise UserError(f"dtype must be torch.float32 or torch.float64, not {dtype!r}: the student needs their digits")
    header, tensors = _read(path)
    sizes, elements = _mapping(path, header, "config"), _elements(path, _mapping(path, header, "card", optional=True))
    old = int(header["version"]) < 4
    try:
        config = StudentConfig.from_mapping({"norm_epsilon": OLD_NORM_EPSILON} | sizes if old else sizes, "config")
        found = {name: tensors.pop(name) for name in list(tensors) if name.startswith(DOMAIN)}
        if old:
            tensors.setdefault("network.wall", wall.no_wall(config.max_atomic_number))
        _check_tensors(config, tensors)
        domain = _domain(config, {name.removeprefix(DOMAIN): tensor for name, tensor in found.items()})
        student = StudentForceField(
            config, neighbors=neighbors or header.get("neighbors", "native"), use_torch_cluster=use_torch_cluster
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    student.load_state_dict(tensors)
    student.domain = domain
    student.limits = Limits(elements, allow, config.max_atomic_number)
    return student.to(device=device, dtype=dtype).eval().requires_grad_(False)


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a checkpoint: where it comes from and how good it is."""
    return _mapping(path, _read(path)[0], "card", optional=True)


def learned_elements(path: str | Path) -> frozenset[int] | None:
    """Atomic numbers in the data that a student was trained on, by its card; None when the card does not say."""
    return _elements(path, read_card(path))


def _elements(path: str | Path, card: dict[str, Any]) -> frozenset[int] | None:
    try:
        # Of students that were not trained here only the elements are known.
        known = card.get("data", {}).get("atoms_by_atomic_number") or card.get("elements")
        return frozenset(int(number) for number in known) if known else None
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"{path}: the card in its header is broken: data.atoms_by_atomic_number is not a mapping of atomic numbers, or "
            f"elements no list of them. {_MEND}"
        ) from None


def _mapping(path: str | Path, header: dict[str, str], key: str, optional: bool = False) -> dict[str, Any]:
    """The JSON mapping under ``key`` of a header."""
    if key not in header and optional:
        return {}
    try:
        value = json.loads(header[key])
    except KeyError:
        raise UserError(f"{path}: its header has no {key!r}. {_MEND}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: {key!r} in its header is no JSON ({error}). {_MEND}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: {key!r} in its header is {value!r}, not a mapping. {_MEND}")
    return value


def _domain(config: StudentConfig, tensors: dict[str, torch.Tensor]) -> Domain | None:
    """The domain in a checkpoint; None where it has none."""
    if not tensors:
        return None
    wide = [config.readout_width + 1] * 2
    n_elements = len(tensors.get("elements", ()))
    shapes = {"elements": [n_elements], "atoms": [n_elements, *wide], "systems": wide}
    expected = {each.name: shapes.get(each.name, []) for each in fields(Domain)}
    for name, shape in expected.items():
        if name not in tensors or list(tensors[name].shape) != shape or not torch.isfinite(tensors[name]).all():
            raise UserError(f"{DOMAIN}{name} is missing, not finite or not of shape {shape}. {_MEND}")
    return Domain.from_tensors({name: tensors[name].double() for name in expected})


def _check_tensors(config: StudentConfig, tensors: dict[str, torch.Tensor]) -> None:
    """Compare with what a student of these sizes holds, before memory is taken for one."""
    with torch.device("meta"):
        expected = StudentForceField(config).state_dict()
    wrong = [f"{name} is missing" for name in expected if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in expected]
    wrong += [
        f"{name} is {list(tensors[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise UserError(f"the weights do not fit the sizes in the header: {', '.join(wrong[:3])}{more}. {_MEND}")
    for name, tensor in tensors.items():
        if tensor.dtype not in PRECISIONS:
            raise UserError(
                f"{name} is {tensor.dtype}; only float32 and float64 are read. A file made smaller like this has "
                "lost the digits that forces need: take the original"
            )
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} holds NaN or infinity; the training diverged or the file is damaged")


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint; `snakemake -c4 distill` makes one")
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable safetensors file ({error}); it is damaged or of another kind"
        ) from None
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: a safetensors file of another program (format {header.get('format')!r}, not {FORMAT!r})"
        )
    if not header.get("version", "").isdecimal() or int(header["version"]) > VERSION:
        raise UserError(
            f"{path}: header version {header.get('version')!r}; this program reads 1 to {VERSION}: update it"
        )
    return header, tensors
