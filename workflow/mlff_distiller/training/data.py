"""Labeled configurations as flat tensors on the device, and batches of fixed shapes made from them.

A batch has the same shapes at every step, as a compiled step and a CUDA graph need: whole molecules packed up to a fixed
number of atoms, pairs and molecules, then padding. Pairs of padding connect ghost atoms at twice the cutoff, where every
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
from mlff_distiller.training.messages import Graph
from mlff_distiller.utils.errors import UserError

#: Ghost atoms in a batch. Pairs of padding are spread over them, because sums into one row are serial on a GPU.
N_GHOSTS = 32
#: Pairs tested at once in the neighbor search over a whole dataset (about 50 bytes each).
TESTED_AT_ONCE = 4_000_000


class Capacity(NamedTuple):
    """Fixed sizes of a batch, padding included."""

    n_atoms: int
    n_pairs: int
    n_molecules: int


class Batch(NamedTuple):
    """Molecules of a batch, A atoms, P pairs and B molecules, padding included."""

    numbers: Tensor  # [A] int64; 0 for padding
    positions: Tensor  # [A, 3] A
    forces: Tensor  # [A, 3] eV/A
    atom_weights: Tensor  # [A] 1 for an atom, 0 for padding
    molecule: Tensor  # [A] int64, row in energies; B - 1 for padding
    energies: Tensor  # [B] eV, without the reference energies; the last row belongs to the padding
    inverse_sizes: Tensor  # [B] one over the number of atoms, 0 for padding
    first: Tensor  # [P] int64, first to codes: see Graph
    second: Tensor  # [P] int64
    starts: Tensor  # [A + 1] int64
    others: Tensor  # [2 P] int32
    codes: Tensor  # [2 P] int32
    offsets: Tensor  # [P, 3] A, added to r_second - r_first: lattice vectors of a periodic image; for padding beyond the cutoff
    virials: Tensor  # [B, 3, 3] eV, volume times stress; 0 where there is no label
    has_virial: Tensor  # [B] 1 where there is a label, else 0

    @property
    def graph(self) -> Graph:
        """The pairs."""
        return Graph(self.first, self.second, self.starts, self.others, self.codes)


class Pairs(NamedTuple):
    """The P pairs within the cutoff of all configurations, T atoms in all, each as indices within its own configuration."""

    first: Tensor  # [P] int16
    second: Tensor  # [P] int16
    images: Tensor | None  # [P, 3] A, from the second atom to its periodic image; None: no periodicity
    counts: Tensor  # [C] int64, pairs of each configuration
    n_neighbors: Tensor  # [T] int64; the two below are sorted by atom
    others: Tensor  # [2 P] int16, the neighbor
    codes: Tensor  # [2 P] int32, twice the pair, and one more where the atom is the pair's second


@dataclass(frozen=True)
class Configurations:
    """C configurations with T atoms and all their pairs within the cutoff, on one device.

    Pairs hold indices within their own configuration, so that any of these can be joined into a batch.
    """

    numbers: Tensor  # [T] int64
    positions: Tensor  # [T, 3] A
    forces: Tensor  # [T, 3] eV/A
    energies: Tensor  # [C] eV, reference energies subtracted in fp64
    atom_starts: Tensor  # [C] int64
    atom_counts: Tensor  # [C] int64
    pairs: "Pairs"
    pair_starts: Tensor  # [C] int64
    pair_counts: Tensor  # [C] int64
    host_atom_counts: np.ndarray  # the counts in host memory, where batches are planned
    host_pair_counts: np.ndarray
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
        pairs = all_pairs(positions, dataset, cutoff)
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
            pairs=pairs,
            pair_starts=torch.cumsum(pairs.counts, 0) - pairs.counts,
            pair_counts=pairs.counts,
            host_atom_counts=counts,
            host_pair_counts=pairs.counts.cpu().numpy(),
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

        pair_counts = self.pair_counts[ids] * present
        row, pair, pair_real = ragged(self.pair_starts[ids], pair_counts, capacity.n_pairs)
        first_atom = first_atoms[row.clamp(max=len(ids) - 1)]
        ghosts = atom_counts.sum() + torch.arange(capacity.n_pairs, device=device) % N_GHOSTS
        offsets = torch.zeros([capacity.n_pairs, 3], dtype=dtype, device=device)
        offsets[:, 0] = 2.0 * self.cutoff * ~pair_real
        if self.pairs.images is not None:
            offsets = offsets + self.pairs.images[pair] * pair_real[:, None]
        # Beyond the neighbors of the last atom both lists hold anything.
        row, slot, _ = ragged(2 * self.pair_starts[ids], 2 * pair_counts, 2 * capacity.n_pairs)
        row = row.clamp(max=len(ids) - 1)
        first_pairs = torch.cumsum(pair_counts, 0) - pair_counts
        ends = torch.cumsum(self.pairs.n_neighbors[source] * real, 0)

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
            first=torch.where(pair_real, self.pairs.first[pair] + first_atom, ghosts),
            second=torch.where(pair_real, self.pairs.second[pair] + first_atom, ghosts),
            starts=torch.cat([ends.new_zeros([1]), ends]),
            others=(self.pairs.others[slot] + first_atoms[row]).to(torch.int32),
            codes=(self.pairs.codes[slot] + 2 * first_pairs[row]).to(torch.int32),
            offsets=offsets,
            virials=virials,
            has_virial=has_virial,
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


def all_pairs(positions: Tensor, dataset: Dataset, cutoff: float) -> Pairs:
    """Neighbors within each configuration of a dataset, found once for the whole training.

    Args:
        positions: [T, 3] A, on the device of the result.
        dataset: C configurations, T atoms.
        cutoff: A.
    """
    search, device, sizes = NativeSearch(), positions.device, dataset.n_atoms
    tested = np.concatenate([[0], np.cumsum(sizes.astype(np.int64) ** 2)])
    chunks, first = [], 0
    while first < len(dataset):
        last = max(first + 1, int(np.searchsorted(tested, tested[first] + TESTED_AT_ONCE, side="right")) - 1)
        counts = torch.as_tensor(sizes[first:last], device=device)
        owner = torch.repeat_interleave(torch.arange(last - first, device=device), counts)
        cell, pbc = None, None
        if dataset.cells is not None:
            cell = torch.as_tensor(dataset.cells[first:last], dtype=positions.dtype, device=device)
            pbc = torch.as_tensor(dataset.pbc[first:last], device=device)
        own = positions[dataset.offsets[first] : dataset.offsets[last]]
        i, j, shifts = search(own, cutoff, owner, cell, pbc)
        keep = once(i, j, shifts)
        i, j, shifts = i[keep], j[keep], None if shifts is None else shifts[keep]
        images = None
        if dataset.cells is not None:
            no_shift = torch.zeros([len(i), 3], dtype=positions.dtype, device=device)
            images = no_shift if shifts is None else torch.einsum("es,esk->ek", shifts.to(cell.dtype), cell[owner[i]])
        per_configuration = torch.bincount(owner[i], minlength=last - first)
        start = (torch.cumsum(counts, 0) - counts)[owner[i]]
        pair = torch.arange(len(i), device=device) - (torch.cumsum(per_configuration, 0) - per_configuration)[owner[i]]
        atom, other = torch.cat([i, j]), torch.cat([j - start, i - start])
        by_atom = torch.argsort(atom, stable=True)
        chunks.append(
            Pairs(
                (i - start).to(torch.int16),
                (j - start).to(torch.int16),
                images,
                per_configuration,
                torch.bincount(atom, minlength=len(own)),
                other[by_atom].to(torch.int16),
                torch.cat([2 * pair, 2 * pair + 1])[by_atom].to(torch.int32),
            )
        )
        first = last
    parts = zip(*chunks, strict=True)
    return Pairs(*(None if values[0] is None else torch.cat(values) for values in parts))


def once(i: Tensor, j: Tensor, shifts: Tensor | None) -> Tensor:
    """Which of the edges i, j [E] with shifts [E, 3] or None to keep for each pair to be there in one direction: [E] bool."""
    if shifts is None:
        return i < j
    x, y, z = shifts.unbind(dim=1)
    positive = (x > 0) | ((x == 0) & ((y > 0) | ((y == 0) & (z > 0))))
    return (i < j) | ((i == j) & positive)


def plan_capacity(configurations: Configurations, batch_atoms: int) -> Capacity:
    """Sizes of a batch of about ``batch_atoms`` atoms; usually atoms reach their limit before pairs and molecules do.

    Every single configuration of the set fits.
    """
    atoms, pairs = configurations.host_atom_counts, configurations.host_pair_counts
    n_atoms = max(batch_atoms, int(atoms.max()))
    n_molecules = n_atoms / atoms.mean()
    # The number of pairs of a random batch varies; four standard deviations more than the mean are nearly always enough.
    scatter = np.std(pairs - atoms * pairs.sum() / atoms.sum()) * np.sqrt(n_molecules)
    n_pairs = max(int(n_atoms * pairs.sum() / atoms.sum() + 4 * scatter), int(pairs.max()))
    smallest = max(1, int(np.floor(n_atoms / atoms.min())))
    most = min(len(atoms), smallest, int(n_molecules + 4 * np.sqrt(n_molecules)) + 1)
    return Capacity(n_atoms + N_GHOSTS, _round_up(n_pairs, 64), most + 1)


def pack(order: np.ndarray, configurations: Configurations, capacity: Capacity) -> np.ndarray:
    """Splits ``order`` (ids of configurations) into batches that fit.

    Returns:
        [n_batches, capacity.n_molecules - 1] int64, rows padded with -1. A last batch less than half full is left out
        unless it is the only one: its few molecules would have the weight of a whole batch.
    """
    atoms = np.concatenate([[0], np.cumsum(configurations.host_atom_counts[order])])
    pairs = np.concatenate([[0], np.cumsum(configurations.host_pair_counts[order])])
    room = capacity.n_atoms - N_GHOSTS
    rows, first = [], 0
    while first < len(order):
        last = min(
            int(np.searchsorted(atoms, atoms[first] + room, side="right")) - 1,
            int(np.searchsorted(pairs, pairs[first] + capacity.n_pairs, side="right")) - 1,
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
