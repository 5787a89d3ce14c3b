"""Neighbor search in plain PyTorch: any device, TorchScript, periodic cells; cost quadratic in the size of a system."""

import math

import torch
from torch import Tensor, nn


class NativeSearch(nn.Module):
    """Tests all pairs within each system against the cutoff."""

    name = "native"

    @staticmethod
    def missing() -> str | None:
        """Why this backend cannot run here, or None."""
        return None

    def forward(
        self, positions: Tensor, cutoff: float, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """See :mod:`mlff_distiller.neighbors.search`."""
        if cell is not None and pbc is not None and bool(pbc.any()):
            return search_periodic(positions.detach(), cutoff, batch, cell.detach(), pbc)
        receivers, senders = pairs_within_systems(batch)
        vectors = positions.detach()[senders] - positions.detach()[receivers]
        # Not "<": pairs with a NaN position must stay, so that energy and forces become NaN.
        near = ~((vectors * vectors).sum(dim=-1) >= cutoff * cutoff)
        return receivers[near], senders[near], None


def pairs_within_systems(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Every ordered pair of different atoms of one system, sorted by receiver: two tensors [sum n (n - 1)]."""
    n_atoms = batch.shape[0]
    device = batch.device
    if n_atoms == 0:
        nothing = torch.zeros([0], dtype=torch.int64, device=device)
        return nothing, nothing
    sizes = torch.bincount(batch)
    if sizes.shape[0] == 1:
        # One system: all pairs form a regular grid.
        index = torch.arange(n_atoms, device=device)
        receivers = index.repeat_interleave(n_atoms - 1)
        senders = torch.arange(n_atoms - 1, device=device).repeat(n_atoms)
        return receivers, senders + (senders >= receivers).to(torch.int64)
    starts = torch.cumsum(sizes, 0) - sizes
    per_atom = (sizes - 1)[batch]
    receivers = torch.repeat_interleave(torch.arange(n_atoms, device=device), per_atom)
    first = torch.cumsum(per_atom, 0) - per_atom
    senders = torch.arange(receivers.shape[0], device=device) - first[receivers] + starts[batch[receivers]]
    return receivers, senders + (senders >= receivers).to(torch.int64)


def lattice_shifts(cell: Tensor, pbc: Tensor, reach: float) -> Tensor:
    """Lattice translations that can bring a wrapped atom within ``reach`` of another: [S, 3] int64, for one cell [3, 3]."""
    heights = 1.0 / torch.linalg.vector_norm(torch.linalg.inv(cell), dim=0)
    ranges: list[Tensor] = []
    for axis in range(3):
        # In TorchScript ceil() gives a float.
        n = int(math.ceil(reach / float(heights[axis]))) if bool(pbc[axis]) else 0  # noqa: RUF046
        ranges.append(torch.arange(-n, n + 1, device=cell.device))
    return torch.cartesian_prod(ranges[0], ranges[1], ranges[2])


def wrap(positions: Tensor, cell: Tensor, pbc: Tensor) -> tuple[Tensor, Tensor]:
    """Positions [n, 3] wrapped into the cell along its periodic axes, and the numbers of lattice vectors subtracted [n, 3]."""
    whole = torch.floor(positions @ torch.linalg.inv(cell)) * pbc.to(positions.dtype)
    return positions - whole @ cell, whole.to(torch.int64)


def complete_cell(cell: Tensor, pbc: Tensor) -> Tensor:
    """``cell`` [3, 3]; where it spans no volume, with unit vectors for the axes that are not periodic."""
    volume = torch.linalg.det(cell).abs()
    if bool(pbc.all()) or bool(volume > 1e-4 * torch.linalg.vector_norm(cell, dim=1).prod()):
        return cell
    missing = ~pbc
    # Any linearly independent vectors will do, because these axes are not periodic. The singular vectors of the smallest
    # singular values are orthogonal to the given vectors.
    rotation = torch.linalg.svd(cell * pbc[:, None].to(cell.dtype))[2]
    completed = cell.clone()
    taken = 0
    for axis in range(3):
        if bool(missing[axis]):
            completed[axis] = rotation[2 - taken]
            taken += 1
    return completed


def search_periodic(
    positions: Tensor, cutoff: float, batch: Tensor, cell: Tensor, pbc: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Periodic search, for one system and one lattice translation at a time (memory n^2)."""
    receivers: list[Tensor] = []
    senders: list[Tensor] = []
    shifts: list[Tensor] = []
    for system in range(cell.shape[0]):
        atoms = torch.nonzero(batch == system).squeeze(-1)
        full_cell = complete_cell(cell[system], pbc[system])
        inside, whole = wrap(positions[atoms], full_cell, pbc[system])
        translations = lattice_shifts(full_cell, pbc[system], cutoff)
        for index in range(translations.shape[0]):
            translation = translations[index]
            image = inside + translation.to(inside.dtype) @ full_cell
            vectors = image[None, :, :] - inside[:, None, :]
            near = ~((vectors * vectors).sum(dim=-1) >= cutoff * cutoff)
            if not bool(translation.any()):
                near.fill_diagonal_(False)
            pair = torch.nonzero(near)
            receivers.append(atoms[pair[:, 0]])
            senders.append(atoms[pair[:, 1]])
            # Undo the wrapping: shifts refer to the positions as given.
            shifts.append(translation + whole[pair[:, 0]] - whole[pair[:, 1]])
    receiver = torch.cat(receivers)
    order = torch.argsort(receiver, stable=True)
    return receiver[order], torch.cat(senders)[order], torch.cat(shifts)[order]
