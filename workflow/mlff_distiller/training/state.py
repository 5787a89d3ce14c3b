"""How far a training has come, stored so that an interrupted one goes on where it was.

The file is safetensors (no code in it): weights, their average, the optimizer's moments and the best average so far as
flat vectors, and everything else as JSON in the header. No state of a random generator is needed: the order of the data
is drawn anew from the seed and the number of the epoch.

Its name carries a hash of the settings and the data: a training with others starts anew and leaves it alone.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mlff_distiller.training.step import Weights
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_bytes

FORMAT = "mlff-distiller-training"
VERSION = 1


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


def state_path(directory: str | Path, identity: dict[str, Any]) -> Path:
    """Where the state of the training that ``identity`` (settings, data) belongs to is kept in ``directory``."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(directory) / f"training_{digest[:12]}.safetensors"


def save_state(path: str | Path, weights: Weights, best: Tensor, progress: Progress) -> Path:
    """Write the state of a training, atomically."""
    header = {"format": FORMAT, "version": str(VERSION), "progress": json.dumps(asdict(progress))}
    tensors = weights.tensors() | {"best": best}
    return write_bytes(path, to_safetensors({n: t.cpu().contiguous() for n, t in tensors.items()}, metadata=header))


def load_state(path: str | Path) -> tuple[dict[str, Tensor], Progress] | None:
    """The state in ``path``, or None where no training was interrupted.

    Returns:
        Flat vectors by name (those of :class:`Weights`, and ``best``), and where the training stands.

    Raises:
        UserError: a damaged file, or one of another version.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
        if (header["format"], header["version"]) != (FORMAT, str(VERSION)):
            raise UserError(f"{path}: a training of another version; delete it to train from the start")
        progress = Progress(**json.loads(header["progress"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it to train from the start") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; delete it and lower learning_rate")
    return tensors, progress
