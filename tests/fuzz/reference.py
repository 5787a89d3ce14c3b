"""Right energies and forces: the network on neighbors that are counted out here, without the package's searches."""

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms

from mlff_distiller.student.painn import StudentForceField


def edges(atoms: Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Receivers [E], senders [E] and r_j - r_i [E, 3] A of all pairs closer than ``cutoff``, by trying all images."""
    vectors = atoms.positions[None] - atoms.positions[:, None]
    translations = np.zeros((1, 3))
    if atoms.pbc.any():
        cell = completed(atoms)
        inverse = np.linalg.inv(cell)
        # The nearest image along each axis first, then as many on either side as the cutoff may reach.
        vectors = vectors - np.round(vectors @ inverse) * atoms.pbc @ cell
        reach = np.ceil(cutoff * np.linalg.norm(inverse, axis=0) + 1).astype(int) * atoms.pbc
        images = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), -1).reshape(-1, 3)
        translations = images @ cell
    n = len(atoms)
    found = (vectors[:, :, None] + translations).reshape(n, n, -1, 3)
    squares = (found**2).sum(-1)
    # An atom is no neighbor of itself, but its images are.
    itself = np.eye(n, dtype=bool)[:, :, None] & (np.abs(translations).max(axis=1) == 0)
    receivers, senders, image = np.nonzero((squares < cutoff**2) & ~itself)
    return receivers, senders, found[receivers, senders, image]


def completed(atoms: Atoms) -> np.ndarray:
    """The cell with vectors that do not repeat, and may be zero, replaced by ones across the others."""
    cell = atoms.cell.array.copy()
    flat = ~atoms.pbc
    if flat.any():
        _, _, axes = np.linalg.svd(np.where(atoms.pbc[:, None], cell, 0.0))
        cell[flat] = axes[3 - flat.sum() :]
    return cell


def energies_and_forces(
    student: StudentForceField, systems: Sequence[Atoms]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies [B] eV, forces [N, 3] eV/A and the sum of the forces' sizes along all edges (eV/A), in the student's dtype.

    Positions are rounded to that dtype near the origin, as they may be in a calculator.
    """
    receivers, senders, vectors, start = [], [], [], 0
    for atoms in systems:
        rounded = atoms.copy()
        if atoms.pbc.any():
            cell = completed(atoms)
            rounded.positions -= np.floor(atoms.positions @ np.linalg.inv(cell)) * atoms.pbc @ cell
        rounded.positions -= np.where(atoms.pbc.any(), 0.0, rounded.positions.mean(axis=0))
        if student.dtype == torch.float32:
            rounded.positions = rounded.positions.astype(np.float32)
            rounded.cell = rounded.cell.array.astype(np.float32)
        i, j, r = edges(rounded, student.cutoff)
        receivers.append(i + start), senders.append(j + start), vectors.append(r)
        start += len(atoms)
    i, j = (torch.from_numpy(np.concatenate(part)) for part in (receivers, senders))
    r = torch.from_numpy(np.concatenate(vectors)).to(student.dtype).requires_grad_(True)
    numbers = torch.from_numpy(np.concatenate([atoms.numbers for atoms in systems]))
    batch = torch.repeat_interleave(torch.arange(len(systems)), torch.tensor([len(atoms) for atoms in systems]))
    atomic = student.network(numbers, r, i, j).double() + student.reference_energies[numbers]
    energies = torch.zeros(len(systems), dtype=torch.float64).index_add(0, batch, atomic)
    (pull,) = torch.autograd.grad(energies.sum(), r)
    forces = torch.zeros(len(numbers), 3, dtype=student.dtype).index_add(0, i, pull).index_add(0, j, -pull)
    return energies.detach(), forces, torch.linalg.vector_norm(pull.double(), dim=1).sum()
