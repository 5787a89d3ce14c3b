"""How far a training has come, stored so that an interrupted one goes on where it was.

The file is safetensors (no code in it): weights, their average, the optimizer's moments and the best average so far as
flat vectors, and everything else as JSON in the header. No state of a random generator is needed: the order of the data
is drawn anew from the seed and the number of the epoch.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mlff_distiller.errors import UserError
from mlff_distiller.files import write_bytes
from mlff_distiller.training.step import Weights

FORMAT = "mlff-distiller-training"
VERSION = 1
FILE_NAME = "training.safetensors"


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    epoch: int = 0
    #: Batches of this epoch that are done.
    batch: int = 0
    #: Wall time, all parts together, s.
    seconds: float = 0.0
    #: Learning curve: one entry per evaluation.
    history: list[dict[str, float]] = field(default_factory=list)
    best_error: float | None = None
    #: Evaluations since the best one.
    stale: int = 0
    #: Of the stepper, since the last evaluation.
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)


def save_state(
    directory: str | Path, weights: Weights, best: Tensor, progress: Progress, identity: dict[str, Any]
) -> Path:
    """Write the state of a training into ``directory``, atomically; ``identity`` says what it belongs to."""
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "progress": json.dumps(progress.__dict__),
        "identity": json.dumps(identity, sort_keys=True),
    }
    tensors = weights.tensors() | {"best": best}
    data = to_safetensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata=header)
    return write_bytes(Path(directory) / FILE_NAME, data)


def load_state(directory: str | Path, identity: dict[str, Any]) -> tuple[dict[str, Tensor], Progress] | None:
    """The state in ``directory``, or None where no training was interrupted.

    Args:
        directory: as given to :func:`save_state`.
        identity: of the training that wants to go on.

    Returns:
        Flat vectors by name (those of :class:`Weights`, and ``best``), and where the training stands.

    Raises:
        UserError: a damaged file, or one of a training with other settings or data, naming what differs.
    """
    path = Path(directory) / FILE_NAME
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
        if (header["format"], header["version"]) != (FORMAT, str(VERSION)):
            raise UserError(f"{path}: a training of another version; delete {directory} to train from the start")
        stored = json.loads(header["identity"])
        progress = Progress(**json.loads(header["progress"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete {directory} to train from the start") from None
    wanted = json.loads(json.dumps(identity))
    if differing := sorted(name for name in stored | wanted if stored.get(name) != wanted.get(name)):
        raise UserError(
            f"{path}: the interrupted training differs in {', '.join(differing)}; "
            f"give the same settings and data, or delete {directory} to train from the start"
        )
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; delete {directory} and lower learning_rate")
    return tensors, progress
