"""Neighbor search by vesin (cell lists in C++): the fast one for large and periodic systems on a CPU."""

import importlib.util

import torch
from torch import Tensor, nn

from mlff_distiller.neighbors.native import NativeSearch
from mlff_distiller.systems.boxes import Box, check_extent

#: Above this many atoms in a system the cell lists of vesin overtake all pairs in PyTorch.
AUTO_NATIVE_LIMIT = 200


class VesinSearch(nn.Module):
    """``vesin.NeighborList``, system by system; positions on a GPU are searched on the host."""

    name = "vesin"

    @staticmethod
    def missing() -> str | None:
        """Why this backend cannot run here, or None."""
        return None if importlib.util.find_spec("vesin") else "vesin is not installed; `pip install vesin`"

    @torch.jit.ignore
    def forward(
        self, positions: Tensor, cutoff: float, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :mod:`mlff_distiller.neighbors.search`.

        Raises:
            UserError: a periodic cell without volume; atoms that are not at finite positions, or too far apart.
        """
        import numpy as np
        from vesin import NeighborList

        search = NeighborList(cutoff=cutoff, full_list=True, sorted=True)
        points = positions.detach().to("cpu", torch.float64).numpy()
        sizes = torch.bincount(batch.cpu()).tolist()
        periodic = cell is not None and pbc is not None and bool(pbc.any())
        edges = []
        start = 0
        for system, size in enumerate(sizes):
            box = cell[system].detach().to("cpu", torch.float64).numpy() if periodic else np.zeros((3, 3))
            along = pbc[system].cpu().numpy() if periodic else np.zeros(3, dtype=bool)
            # vesin ends the process where a periodic cell has no volume, or atoms are too far apart for its own cells.
            if along.any():
                box = Box(box, along).cell
            if size and not along.all():
                check_extent(points[start : start + size])
            i, j, shifts = search.compute(points[start : start + size], box, along, "ijS")
            edges.append((i.astype(np.int64) + start, j.astype(np.int64) + start, shifts))
            start += size
        receivers, senders, shifts = (
            torch.from_numpy(np.concatenate([edge[part] for edge in edges])).to(positions.device) for part in range(3)
        )
        return receivers, senders, shifts.to(torch.int64) if periodic else None


class AutoSearch(nn.Module):
    """``native`` for small molecules, ``vesin`` (where it is installed) for the rest."""

    name = "auto"

    def __init__(self):
        super().__init__()
        self.native = NativeSearch()
        self.vesin = VesinSearch() if VesinSearch.missing() is None else None

    @staticmethod
    def missing() -> str | None:
        """Why this backend cannot run here, or None."""
        return None

    @torch.jit.ignore
    def forward(
        self, positions: Tensor, cutoff: float, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :mod:`mlff_distiller.neighbors.search`."""
        periodic = cell is not None and pbc is not None and bool(pbc.any())
        large = positions.shape[0] > 0 and int(torch.bincount(batch).max()) > AUTO_NATIVE_LIMIT
        search = self.vesin if self.vesin is not None and (periodic or large) else self.native
        return search(positions, cutoff, batch, cell, pbc)
