"""Predicts energies and forces of many configurations, and their errors against the labels."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.student.painn import PaiNN
from mlff_distiller.training.data import N_GHOSTS, Capacity, Configurations
from mlff_distiller.training.loss import energies_and_forces

MEV = 1000.0


def predict(
    network: PaiNN, parameters: dict[str, Tensor], configurations: Configurations, batch_atoms: int
) -> tuple[Tensor, Tensor]:
    """Energies [C] eV without reference energies, and forces [T, 3] eV/A, in the order of the configurations.

    Args:
        network, parameters: see :func:`mlff_distiller.training.loss.energies_and_forces`.
        configurations: on the device of the parameters.
        batch_atoms: atoms computed together (at least one whole configuration); affects only speed and memory.
    """
    energies, forces = [], []
    device = configurations.positions.device
    for first, last in chunks(configurations.host_atom_counts, batch_atoms):
        n_atoms = int(configurations.host_atom_counts[first:last].sum())
        n_edges = int(configurations.host_edge_counts[first:last].sum())
        capacity = Capacity(n_atoms + N_GHOSTS, n_edges, last - first + 1)
        batch = configurations.batch(torch.arange(first, last, device=device), capacity)
        energy, force = energies_and_forces(network, parameters, batch)
        energies.append(energy[:-1].detach())
        forces.append(force[:n_atoms].detach())
    return torch.cat(energies), torch.cat(forces)


def errors(configurations: Configurations, energies: Tensor, forces: Tensor) -> dict[str, float]:
    """Mean errors of predictions: force MAE and RMSE over components (meV/A), energy MAE (meV/atom)."""
    wrong = (forces - configurations.forces).to(torch.float64)
    per_atom = (energies - configurations.energies).to(torch.float64).abs() / configurations.atom_counts
    return {
        "force_mae_mev_per_a": MEV * wrong.abs().mean().item(),
        "force_rmse_mev_per_a": MEV * wrong.square().mean().sqrt().item(),
        "energy_mae_mev_per_atom": MEV * per_atom.mean().item(),
    }


def chunks(counts: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """First and end of runs of configurations with at most ``most`` atoms or edges, ``counts`` [C] of each, or of one."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(ends):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield first, last
        first = last
