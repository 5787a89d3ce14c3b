"""Student checkpoints: safetensors with a versioned header, checked on the way in.

Header (the metadata of the safetensors file): ``format`` = ``mlff-distiller-student``, ``version``, ``config`` (JSON of
:class:`StudentConfig`), ``neighbors`` (since version 2) and ``card`` (JSON: teacher, data, figures; may be empty).
Version 1 had no ``neighbors``: such files load with the native search.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors

from mlff_distiller.student.config import StudentConfig
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_bytes

FORMAT = "mlff-distiller-student"
VERSION = 2


def save_student(path: str | Path, student: StudentForceField, card: dict[str, Any] | None = None) -> Path:
    """Write ``student`` to ``path`` (atomically), with ``card`` saying where it comes from."""
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(student.config.to_mapping()),
        "neighbors": student.neighbor_search.name,
        "card": json.dumps(card or {}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    return write_bytes(path, to_safetensors(tensors, metadata=header))


def load_student(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    neighbors: str | None = None,
    use_torch_cluster: bool | None = None,
) -> StudentForceField:
    """The student in ``path``, in evaluation mode, its parameters frozen.

    Args:
        path: a checkpoint written by :func:`save_student`, of this version or an older one.
        device, dtype: where and in which precision to run.
        neighbors, use_torch_cluster: override the file's choice of neighbor search.

    Raises:
        UserError: the file is missing, damaged, of another program, of a newer version, or holds NaN or wrong shapes.
    """
    header, tensors = _read(path)
    try:
        config = StudentConfig.from_mapping(json.loads(header["config"]), "config")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    student = StudentForceField(
        config, neighbors=neighbors or header.get("neighbors", "native"), use_torch_cluster=use_torch_cluster
    )
    try:
        student.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path}: the weights do not fit the sizes in the header: {error}") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; the training diverged or the file is damaged")
    return student.to(device=device, dtype=dtype).eval().requires_grad_(False)


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a checkpoint: where it comes from and how good it is."""
    return json.loads(_read(path)[0].get("card", "{}"))


def learned_elements(path: str | Path) -> set[int] | None:
    """Atomic numbers in the data that a student was trained on, by its card; None when the card does not say."""
    counts = read_card(path).get("data", {}).get("atoms_by_atomic_number")
    return {int(number) for number in counts} if counts else None


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
    if not header.get("version", "").isdigit() or int(header["version"]) > VERSION:
        raise UserError(
            f"{path}: header version {header.get('version')!r}; this program reads 1 to {VERSION}: update it"
        )
    return header, tensors
