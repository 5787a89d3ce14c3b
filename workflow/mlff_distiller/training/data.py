"""Labeled configurations as flat tensors on the device, and batches of fixed shapes made from them.

A batch has the same shapes at every step, as a compiled step and a CUDA graph need: whole molecules packed up to a fixed
number of atoms, edges and molecules, then padding. Padding edges connect ghost atoms at twice the cutoff, where every
filter is exactly zero, so they change neither energies nor gradients.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.data.dataset import Dataset, element_energies
from mlff_distiller.neighbors.native import NativeSearch
from mlff_distiller.systems.stress import volumes
from mlff_distiller.utils.errors import UserError

#: Ghost atoms in a batch. Padding edges are spread over them, because sums into one row are serial on a GPU.
N_GHOSTS = 32
#: Pairs tested at once in the neighbor search over a whole dataset (about 50 bytes each).
PAIRS_AT_ONCE = 4_000_000


class Capacity(NamedTuple):
    """Fixed sizes of a batch, padding included."""

    n_atoms: int
    n_edges: int
    n_molecules: int


class Batch(NamedTuple):
    """Molecules of a batch, A atoms, E edges and B molecules, padding included."""

    numbers: Tensor  # [A] int64; 0 for padding
    positions: Tensor  # [A, 3] A
    forces: Tensor  # [A, 3] eV/A
    atom_weights: Tensor  # [A] 1 for an atom, 0 for padding
    molecule: Tensor  # [A] int64, row in energies; B - 1 for padding
    energies: Tensor  # [B] eV, without the reference energies; the last row belongs to the padding
    inverse_sizes: Tensor  # [B] one over the number of atoms, 0 for padding
    receivers: Tensor  # [E] int64
    senders: Tensor  # [E] int64
    virials: Tensor  # [B, 3, 3] eV, volume times stress; 0 where there is no label
    has_virial: Tensor  # [B] 1 where there is a label, else 0
    offsets: Tensor  # [E, 3] A, added to r_j - r_i: lattice vectors of a periodic image; for padding beyond the cutoff


@dataclass(frozen=True)
class Configurations:
    """C configurations with T atoms and all their edges, on one device.

    Edges hold indices of atoms within their own molecule, so that any molecules can be joined into a batch.
    """

    numbers: Tensor  # [T] int64
    positions: Tensor  # [T, 3] A
    forces: Tensor  # [T, 3] eV/A
    energies: Tensor  # [C] eV, reference energies subtracted in fp64
    atom_starts: Tensor  # [C] int64
    atom_counts: Tensor  # [C] int64
    receivers: Tensor  # [sum E] int16
    senders: Tensor  # [sum E] int16
    images: Tensor | None  # [sum E, 3] A: from the sender to its periodic image; None: no periodicity
    edge_starts: Tensor  # [C] int64
    edge_counts: Tensor  # [C] int64
    host_atom_counts: np.ndarray  # the counts in host memory, where batches are planned
    host_edge_counts: np.ndarray
    cutoff: float
    virials: Tensor | None = None  # [C, 3, 3] eV, volume times stress, 0 without a label; None: no label has a stress
    has_virial: Tensor | None = None  # [C]
    volumes: Tensor | None = None  # [C] A^3, 1 where has_virial is 0

    def __len__(self) -> int:
        return len(self.host_atom_counts)

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        reference_energies: np.ndarray,
        cutoff: float,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "Configurations":
        """From a labeled dataset.

        Args:
            dataset: C >= 1 configurations, periodic or not.
            reference_energies: [Z] eV by atomic number, float64.
            cutoff: A.
            device: of the tensors.
            dtype: of positions, forces and energies.

        Raises:
            UserError: no configurations.
        """
        if len(dataset) == 0:
            raise UserError("no configurations in this split of the dataset; sample more molecules")
        counts = dataset.n_atoms
        energies = dataset.energies - composition_energies(dataset, reference_energies)
        positions = torch.as_tensor(dataset.positions, dtype=dtype, device=device)
        receivers, senders, images, edge_counts = all_edges(positions, dataset, cutoff)
        stressed: dict[str, Tensor] = {}
        if (known := dataset.has_stress).any():
            sizes = np.where(known, volumes(dataset.cells), 1.0)
            virials = np.where(known[:, None, None], sizes[:, None, None] * dataset.stresses, 0.0)
            values = {"virials": virials, "has_virial": known, "volumes": sizes}
            stressed = {name: torch.as_tensor(value, dtype=dtype, device=device) for name, value in values.items()}
        return cls(
            numbers=torch.as_tensor(dataset.numbers.astype(np.int64), device=device),
            positions=positions,
            forces=torch.as_tensor(dataset.forces, dtype=dtype, device=device),
            energies=torch.as_tensor(energies, dtype=dtype, device=device),
            atom_starts=torch.as_tensor(dataset.offsets[:-1], device=device),
            atom_counts=torch.as_tensor(counts, device=device),
            receivers=receivers,
            senders=senders,
            images=images,
            edge_starts=torch.cumsum(edge_counts, 0) - edge_counts,
            edge_counts=edge_counts,
            host_atom_counts=counts,
            host_edge_counts=edge_counts.cpu().numpy(),
            cutoff=cutoff,
            **stressed,
        )

    def batch(self, ids: Tensor, capacity: Capacity) -> Batch:
        """The configurations ``ids`` [B - 1] int64 (negative: no configuration) as one padded batch.

        Runs on the device without waiting for it; the caller ensures that they fit (see :func:`pack`).
        """
        device, dtype = self.positions.device, self.positions.dtype
        present = ids >= 0
        ids = ids.clamp(min=0)
        atom_counts = self.atom_counts[ids] * present
        first_atoms = torch.cumsum(atom_counts, 0) - atom_counts
        molecule, source, real = ragged(self.atom_starts[ids], atom_counts, capacity.n_atoms)
        weights = real.to(dtype)

        edge_counts = self.edge_counts[ids] * present
        row, edge_source, edge_real = ragged(self.edge_starts[ids], edge_counts, capacity.n_edges)
        first = first_atoms[row.clamp(max=len(ids) - 1)]
        ghosts = atom_counts.sum() + torch.arange(capacity.n_edges, device=device) % N_GHOSTS
        offsets = torch.zeros([capacity.n_edges, 3], dtype=dtype, device=device)
        offsets[:, 0] = 2.0 * self.cutoff * ~edge_real
        if self.images is not None:
            offsets = offsets + self.images[edge_source] * edge_real[:, None]

        none = torch.zeros([1], dtype=dtype, device=device)
        sizes = torch.cat([atom_counts.to(dtype), none])
        virials = torch.zeros([len(ids) + 1, 3, 3], dtype=dtype, device=device)
        has_virial = torch.zeros([len(ids) + 1], dtype=dtype, device=device)
        if self.virials is not None and self.has_virial is not None:
            has_virial = torch.cat([self.has_virial[ids] * present, none])
            virials = torch.cat([self.virials[ids], none.expand(1, 3, 3)]) * has_virial[:, None, None]
        return Batch(
            numbers=self.numbers[source] * real,
            positions=self.positions[source] * weights[:, None],
            forces=self.forces[source] * weights[:, None],
            atom_weights=weights,
            molecule=molecule,
            energies=torch.cat([self.energies[ids] * present, none]),
            inverse_sizes=(sizes > 0) / sizes.clamp(min=1.0),
            receivers=torch.where(edge_real, self.receivers[edge_source] + first, ghosts),
            senders=torch.where(edge_real, self.senders[edge_source] + first, ghosts),
            virials=virials,
            has_virial=has_virial,
            offsets=offsets,
        )


def ragged(starts: Tensor, counts: Tensor, capacity: int) -> tuple[Tensor, Tensor, Tensor]:
    """Joins slices of a flat array: slot k of the result holds element source[k] and belongs to slice row[k].

    Args:
        starts, counts: [B] int64, the slices.
        capacity: slots in the result, at least sum(counts).

    Returns:
        row [capacity] (B for unused slots), source [capacity] (0 for unused slots), real [capacity] bool (False for them).
    """
    ends = torch.cumsum(counts, 0)
    slots = torch.arange(capacity, device=starts.device)
    row = torch.searchsorted(ends, slots, right=True)
    real = row < len(counts)
    inside = row.clamp(max=len(counts) - 1)
    source = torch.where(real, starts[inside] + slots - (ends - counts)[inside], 0)
    return row, source, real


def all_edges(positions: Tensor, dataset: Dataset, cutoff: float) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Neighbors within each configuration of a dataset, found once for the whole training.

    Args:
        positions: [T, 3] A, on the device of the result.
        dataset: C configurations, T atoms.
        cutoff: A.

    Returns:
        receivers, senders [sum E] int16, as indices within their configuration; images [sum E, 3] A or None (see
        :class:`Configurations`); the number of edges of each configuration [C].
    """
    search, device, sizes = NativeSearch(), positions.device, dataset.n_atoms
    pairs = np.concatenate([[0], np.cumsum(sizes.astype(np.int64) ** 2)])
    chunks, first = [], 0
    while first < len(dataset):
        last = max(first + 1, int(np.searchsorted(pairs, pairs[first] + PAIRS_AT_ONCE, side="right")) - 1)
        counts = torch.as_tensor(sizes[first:last], device=device)
        owner = torch.repeat_interleave(torch.arange(last - first, device=device), counts)
        cell, pbc = None, None
        if dataset.cells is not None:
            cell = torch.as_tensor(dataset.cells[first:last], dtype=positions.dtype, device=device)
            pbc = torch.as_tensor(dataset.pbc[first:last], device=device)
        own = positions[dataset.offsets[first] : dataset.offsets[last]]
        i, j, shifts = search(own, cutoff, owner, cell, pbc)
        start = (torch.cumsum(counts, 0) - counts)[owner[i]]
        images = None
        if dataset.cells is not None:
            no_shift = torch.zeros([len(i), 3], dtype=positions.dtype, device=device)
            images = no_shift if shifts is None else torch.einsum("es,esk->ek", shifts.to(cell.dtype), cell[owner[i]])
        per_configuration = torch.bincount(owner[i], minlength=last - first)
        chunks.append(((i - start).to(torch.int16), (j - start).to(torch.int16), images, per_configuration))
        first = last
    receivers, senders, images, edge_counts = zip(*chunks, strict=True)
    images = None if images[0] is None else torch.cat(images)
    return torch.cat(receivers), torch.cat(senders), images, torch.cat(edge_counts)


def plan_capacity(configurations: Configurations, batch_atoms: int) -> Capacity:
    """Sizes of a batch of about ``batch_atoms`` atoms; usually atoms reach their limit before edges and molecules do.

    Every single configuration of the set fits.
    """
    atoms, edges = configurations.host_atom_counts, configurations.host_edge_counts
    n_atoms = max(batch_atoms, int(atoms.max()))
    n_molecules = n_atoms / atoms.mean()
    # The number of edges of a random batch varies; four standard deviations more than the mean are nearly always enough.
    scatter = np.std(edges - atoms * edges.sum() / atoms.sum()) * np.sqrt(n_molecules)
    n_edges = max(int(n_atoms * edges.sum() / atoms.sum() + 4 * scatter), int(edges.max()))
    smallest = max(1, int(np.floor(n_atoms / atoms.min())))
    most = min(len(atoms), smallest, int(n_molecules + 4 * np.sqrt(n_molecules)) + 1)
    return Capacity(n_atoms + N_GHOSTS, _round_up(n_edges, 64), most + 1)


def pack(order: np.ndarray, configurations: Configurations, capacity: Capacity) -> np.ndarray:
    """Splits ``order`` (ids of configurations) into batches that fit.

    Returns:
        [n_batches, capacity.n_molecules - 1] int64, rows padded with -1. A last batch less than half full is left out
        unless it is the only one: its few molecules would have the weight of a whole batch.
    """
    atoms = np.concatenate([[0], np.cumsum(configurations.host_atom_counts[order])])
    edges = np.concatenate([[0], np.cumsum(configurations.host_edge_counts[order])])
    room = capacity.n_atoms - N_GHOSTS
    rows, first = [], 0
    while first < len(order):
        last = min(
            int(np.searchsorted(atoms, atoms[first] + room, side="right")) - 1,
            int(np.searchsorted(edges, edges[first] + capacity.n_edges, side="right")) - 1,
            first + capacity.n_molecules - 1,
        )
        if last == first:
            raise ValueError(f"configuration {order[first]} does not fit into a batch of {capacity}")
        rows.append((first, last))
        first = last
    if len(rows) > 1 and atoms[rows[-1][1]] - atoms[rows[-1][0]] < room / 2:
        rows.pop()
    table = np.full([len(rows), capacity.n_molecules - 1], -1, dtype=np.int64)
    for row, (first, last) in enumerate(rows):
        table[row, : last - first] = order[first:last]
    return table


def composition_energies(dataset: Dataset, reference_energies: np.ndarray) -> np.ndarray:
    """Sum of the reference energies of each configuration: [C] eV, float64."""
    return np.add.reduceat(reference_energies[dataset.numbers].astype(np.float64), dataset.offsets[:-1])


def fit_reference_energies(dataset: Dataset, max_atomic_number: int) -> np.ndarray:
    """Energies per element whose sums fit the total energies best (least squares, float64).

    Returns:
        [max_atomic_number + 1] eV; 0 for elements that do not occur.

    Raises:
        UserError: an atomic number beyond ``max_atomic_number``.
    """
    elements, energies = element_energies(dataset)
    if elements.max() > max_atomic_number:
        raise UserError(f"atomic number {elements.max()} in the dataset; the student knows 1 to {max_atomic_number}")
    fitted = np.zeros(max_atomic_number + 1)
    fitted[elements] = energies
    return fitted


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
