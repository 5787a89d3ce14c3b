"""Positions of a running simulation, moved so that float32 keeps their digits: :mod:`mlff_distiller.systems.boxes` in torch."""

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.systems.boxes import Box


class NearOrigin:
    """Moves the atoms of each system by what changes neither energy nor forces; can be captured in a CUDA graph.

    Into the box along periodic axes, at each call; along the others, and for molecules, by what brings the average of the
    positions given here to the origin.

    Args:
        positions: [N, 3] A, float64, at the start.
        batch: [N] int64, the system of each atom.
        cell: [B, 3, 3] A, or None.
        pbc: [B, 3] bool, or None.

    Raises:
        UserError: a cell that :class:`~mlff_distiller.systems.boxes.Box` refuses.
    """

    def __init__(self, positions: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None):
        n_systems = cell.shape[0] if cell is not None else int(batch.max()) + 1 if len(batch) else 0
        zeros = torch.zeros([n_systems, 3], dtype=torch.float64, device=positions.device)
        atoms = torch.bincount(batch, minlength=n_systems).clamp(min=1)[:, None]
        # A position that is no number stays that of its atom alone.
        known = torch.where(positions.isfinite(), positions, 0.0).to(torch.float64)
        average = zeros.index_add(0, batch, known) / atoms
        self.vectors: Tensor | None = None
        if cell is not None and pbc is not None and bool(pbc.any()):
            periodic = pbc.cpu().numpy()
            spans = [_vectors(one, axes) for one, axes in zip(cell.cpu().double().numpy(), periodic, strict=True)]
            vectors = torch.from_numpy(np.stack(spans)).to(positions.device)
            inverse = torch.linalg.inv(vectors)
            along = torch.from_numpy(periodic).to(positions.device)
            # What is left of the average along axes that are not periodic.
            average = ((average[:, None] @ inverse * ~along[:, None]) @ vectors)[:, 0]
            self.vectors = (vectors * along[:, :, None])[batch]
            self.inverse = inverse[batch]
        self.offset = average[batch]

    def write(self, positions: Tensor, out: Tensor) -> None:
        """``positions`` [N, 3] A, float64, moved and written to ``out``, in its dtype."""
        if self.vectors is None:
            torch.sub(positions, self.offset, out=out)
            return
        whole = torch.floor(positions[:, None] @ self.inverse)
        torch.sub(positions - self.offset, (whole @ self.vectors)[:, 0], out=out)


def _vectors(cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """[3, 3] A, with unit vectors along axes that are not periodic; of a system that is not periodic, the axes."""
    return Box(cell, pbc).vectors if pbc.any() else np.eye(3)
