"""Neighbor search by torch-cluster; for periodic systems among explicit images of the atoms."""

import importlib.util

import torch
from torch import Tensor, nn

from mlff_distiller.neighbors.native import complete_cell, lattice_shifts, wrap


class TorchClusterSearch(nn.Module):
    """``torch_cluster.radius`` without a limit on neighbors (by default it silently returns at most 32 per atom)."""

    name = "torch_cluster"

    def __init__(self):
        super().__init__()
        # Registers torch.ops.torch_cluster, which forward() uses so that TorchScript can compile it.
        import torch_cluster  # noqa: F401

    @staticmethod
    def missing() -> str | None:
        """Why this backend cannot run here, or None."""
        if importlib.util.find_spec("torch_cluster") is None:
            return "torch-cluster is not installed; `snakemake -c4 preflight` obtains it"
        try:
            import torch_cluster  # noqa: F401
        except (ImportError, OSError, RuntimeError) as error:
            return f"torch-cluster does not import: {error}"
        return None

    def forward(
        self, positions: Tensor, cutoff: float, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :mod:`mlff_distiller.neighbors.search`."""
        positions = positions.detach()
        if cell is not None and pbc is not None and bool(pbc.any()):
            return self.search_images(positions, cutoff, batch, cell.detach(), pbc)
        receivers, senders = self.radius(positions, positions, cutoff, batch, batch)
        other = receivers != senders
        return receivers[other], senders[other], None

    def radius(
        self, sources: Tensor, targets: Tensor, cutoff: float, source_batch: Tensor, target_batch: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(target, source) of each pair closer than ``cutoff``, sorted by target; includes each atom with itself."""
        n_systems = int(source_batch.max().item()) + 1 if source_batch.shape[0] > 0 else 0
        source_sizes = torch.bincount(source_batch, minlength=n_systems)
        most = int(source_sizes.max().item()) if n_systems > 0 else 0
        bound = torch.zeros([n_systems + 1], dtype=torch.int64, device=sources.device)
        source_ends = bound.clone()
        source_ends[1:] = torch.cumsum(source_sizes, 0)
        target_ends = bound.clone()
        target_ends[1:] = torch.cumsum(torch.bincount(target_batch, minlength=n_systems), 0)
        pairs = torch.ops.torch_cluster.radius(sources, targets, source_ends, target_ends, cutoff, most, 1)
        order = torch.argsort(pairs[0], stable=True)
        return pairs[0][order], pairs[1][order]

    def search_images(
        self, positions: Tensor, cutoff: float, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Periodic search: the atoms against all images that can be within the cutoff."""
        images: list[Tensor] = []
        owners: list[Tensor] = []
        translations: list[Tensor] = []
        wrapped = positions.clone()
        whole = torch.zeros([positions.shape[0], 3], dtype=torch.int64, device=positions.device)
        for system in range(cell.shape[0]):
            atoms = torch.nonzero(batch == system).squeeze(-1)
            full_cell = complete_cell(cell[system], pbc[system])
            inside, moved = wrap(positions[atoms], full_cell, pbc[system])
            wrapped[atoms] = inside
            whole[atoms] = moved
            shifts = lattice_shifts(full_cell, pbc[system], cutoff)
            images.append((inside[None, :, :] + (shifts.to(inside.dtype) @ full_cell)[:, None, :]).reshape(-1, 3))
            owners.append(atoms.repeat(shifts.shape[0]))
            translations.append(shifts.repeat_interleave(atoms.shape[0], dim=0))
        owner = torch.cat(owners)
        receivers, image = self.radius(torch.cat(images), wrapped, cutoff, batch[owner], batch)
        senders = owner[image]
        translation = torch.cat(translations)[image]
        other = (receivers != senders) | translation.any(dim=1)
        receivers, senders, translation = receivers[other], senders[other], translation[other]
        return receivers, senders, translation + whole[receivers] - whole[senders]
