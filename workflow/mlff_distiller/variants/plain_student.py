"""The student without any optimization, which variants are compared with: native neighbor search, forces by autograd."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from mlff_distiller.potentials.autograd import AutogradPotential


def fp64_reference(checkpoint: Path, neighbors: str = "native") -> "AutogradPotential":
    """In fp64 on the CPU: the reference for variants on any device.

    Args:
        checkpoint: the student (safetensors).
        neighbors: how neighbors are found; ``auto`` does not search all pairs of a large system.
    """
    import torch

    return _plain(checkpoint, "cpu", torch.float64, neighbors)


def fp32_baseline(checkpoint: Path, device: "str | torch.device", neighbors: str = "native") -> "AutogradPotential":
    """In fp32 on ``device``, by eager PyTorch: variants must be faster than this, and about as accurate."""
    import torch

    return _plain(checkpoint, device, torch.float32, neighbors)


def _plain(checkpoint: Path, device: "str | torch.device", dtype: "torch.dtype", neighbors: str) -> "AutogradPotential":
    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.student.checkpoint import load_student

    return AutogradPotential(load_student(checkpoint, device, dtype, neighbors=neighbors))
