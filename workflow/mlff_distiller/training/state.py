"""Saves and loads the state of a training, so that an interrupted training can continue.

The file is safetensors (no code in it): weights, their average, what the optimizer keeps and the best average so far as
flat vectors, and the rest as JSON in the header. No state of a random generator is saved: the order of the data depends
only on the seed and the number of the epoch.

The file's name has a hash of the settings and the data, so a training with others has its own file.
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
VERSION = 3


@dataclass
class Progress:
    """Progress of a training."""

    step: int = 0
    epoch: int = 0
    #: Batches of this epoch that are done.
    batch: int = 0
    #: Wall time, summed over interrupted runs, s.
    seconds: float = 0.0
    #: Learning curve: one entry per evaluation.
    history: list[dict[str, float]] = field(default_factory=list)
    best_error: float | None = None
    #: Evaluations since the best one.
    stale: int = 0
    #: Sums of the stepper since the last evaluation.
    sums: list[float] = field(default_factory=lambda: [0.0] * 6)


def state_path(directory: str | Path, identity: dict[str, Any]) -> Path:
    """The state file in ``directory`` of the training with this ``identity`` (settings, data)."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(directory) / f"training_{digest[:12]}.safetensors"


def save_state(path: str | Path, weights: Weights, best: Tensor, progress: Progress) -> Path:
    """Write the state of a training, atomically."""
    header = {"format": FORMAT, "version": str(VERSION), "progress": json.dumps(asdict(progress))}
    tensors = weights.tensors() | {"best": best}
    return write_bytes(path, to_safetensors({n: t.cpu().contiguous() for n, t in tensors.items()}, metadata=header))


def load_state(path: str | Path) -> tuple[dict[str, Tensor], Progress] | None:
    """The state in ``path``, or None if there is no such file.

    Returns:
        Flat vectors by name (those of :class:`Weights`, and ``best``), and the progress.

    Raises:
        UserError: the file is damaged or of another version.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            header = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a dict)
        if (header["format"], header["version"]) != (FORMAT, str(VERSION)):
            raise UserError(f"{path}: state of another version; delete it to train from the start")
        progress = Progress(**json.loads(header["progress"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it to train from the start") from None
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: {name} holds NaN or infinity; delete it and lower learning_rate")
    return tensors, progress
