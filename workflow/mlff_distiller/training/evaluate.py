"""Predicts energies, forces and stresses of many configurations, and their errors against the labels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.student.painn import PaiNN
from mlff_distiller.systems.units import GPA
from mlff_distiller.training.data import N_GHOSTS, Capacity, Configurations
from mlff_distiller.training.loss import energies_and_forces

MEV = 1000.0


class Predicted(NamedTuple):
    """What a network says of C configurations with T atoms, in their order."""

    energies: Tensor  # [C] eV, without reference energies
    forces: Tensor  # [T, 3] eV/A
    stresses: Tensor | None  # [C, 3, 3] eV/A^3, of use where there is a label; None where no label has a stress


def predict(
    network: PaiNN, parameters: dict[str, Tensor], configurations: Configurations, batch_atoms: int
) -> Predicted:
    """Energies, forces, and the stress where any label has one.

    Args:
        network, parameters: see :func:`mlff_distiller.training.loss.energies_and_forces`.
        configurations: on the device of the parameters.
        batch_atoms: atoms computed together (at least one whole configuration); affects only speed and memory.
    """
    energies, forces, virials = [], [], []
    volumes = configurations.volumes
    device = configurations.positions.device
    for first, last in chunks(configurations.host_atom_counts, batch_atoms):
        n_atoms = int(configurations.host_atom_counts[first:last].sum())
        n_pairs = int(configurations.host_pair_counts[first:last].sum())
        capacity = Capacity(n_atoms + N_GHOSTS, n_pairs, last - first + 1)
        batch = configurations.batch(torch.arange(first, last, device=device), capacity)
        energy, force, virial = energies_and_forces(network, parameters, batch, virial=volumes is not None)
        energies.append(energy[:-1].detach())
        forces.append(force[:n_atoms].detach())
        virials += [] if virial is None else [virial[:-1]]
    stresses = None if volumes is None else torch.cat(virials) / volumes[:, None, None]
    return Predicted(torch.cat(energies), torch.cat(forces), stresses)


def errors(configurations: Configurations, predicted: Predicted) -> dict[str, float]:
    """Mean errors of predictions: force MAE and RMSE over components (meV/A), energy MAE (meV/atom).

    Where any label has a stress also the MAE over its components (GPa).
    """
    energies, forces, stresses = predicted
    wrong = (forces - configurations.forces).to(torch.float64)
    per_atom = (energies - configurations.energies).to(torch.float64).abs() / configurations.atom_counts
    return {
        "force_mae_mev_per_a": MEV * wrong.abs().mean().item(),
        "force_rmse_mev_per_a": MEV * wrong.square().mean().sqrt().item(),
        "energy_mae_mev_per_atom": MEV * per_atom.mean().item(),
    } | ({} if stresses is None else {"stress_mae_gpa": stress_errors(configurations, stresses)["stress_mae_gpa"]})


def stress_errors(configurations: Configurations, stresses: Tensor) -> dict[str, float]:
    """Errors of predicted stresses [C, 3, 3] eV/A^3 over the components of the labels that have one.

    Returns:
        ``n_stresses``, and in GPa the MAE, the RMSE and the root mean square of the labels.
    """
    assert configurations.virials is not None
    assert configurations.has_virial is not None
    assert configurations.volumes is not None
    known = configurations.has_virial > 0
    truth = (configurations.virials / configurations.volumes[:, None, None])[known].double()
    wrong = stresses[known].double() - truth
    return {
        "n_stresses": int(known.sum()),
        "stress_mae_gpa": wrong.abs().mean().item() / GPA,
        "stress_rmse_gpa": wrong.square().mean().sqrt().item() / GPA,
        "stress_rms_gpa": truth.square().mean().sqrt().item() / GPA,
    }


def chunks(counts: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """First and end of runs of configurations with at most ``most`` atoms or pairs, ``counts`` [C] of each, or of one."""
    ends = np.cumsum(counts)
    first = 0
    while first < len(ends):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + most, side="right")))
        yield first, last
        first = last
