"""The loss on energies and forces and its gradient, which needs second derivatives of the energy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_distiller.student.painn import PaiNN
from mlff_distiller.training.data import Batch
from mlff_distiller.training.network import atomic_energies
from mlff_distiller.training.settings import TrainingSettings


@dataclass(frozen=True)
class Loss:
    """Weighted sum of two pseudo-Huber losses: quadratic for small errors, linear for large ones.

    The force term uses the length of an atom's error vector, so it does not depend on the axes; the energy term uses the
    error per atom, so it does not grow with the molecule.
    """

    force_weight: float
    force_delta: float
    energy_delta: float

    @classmethod
    def of(cls, settings: TrainingSettings) -> "Loss":
        """The loss with the deltas and the force weight of the settings."""
        return cls(settings.force_weight, settings.force_delta, settings.energy_delta)

    def terms(self, energies: Tensor, forces: Tensor, batch: Batch) -> Tensor:
        """The force term (eV/A) and energy term (eV/atom) without weights: [2].

        Args:
            energies: [B] eV, without reference energies.
            forces: [A, 3] eV/A.
            batch: the labels.
        """
        wrong = ((forces - batch.forces) ** 2).sum(dim=-1)
        per_atom = ((energies - batch.energies) * batch.inverse_sizes) ** 2
        force = (torch.sqrt(wrong + self.force_delta**2) - self.force_delta) * batch.atom_weights
        energy = (torch.sqrt(per_atom + self.energy_delta**2) - self.energy_delta) * (batch.inverse_sizes > 0)
        n_molecules = (batch.inverse_sizes > 0).sum().clamp(min=1)
        return torch.stack([force.sum() / batch.atom_weights.sum().clamp(min=1.0), energy.sum() / n_molecules])

    def total(self, terms: Tensor, energy_weight: Tensor | float) -> Tensor:
        """The weighted sum of :meth:`terms`."""
        return self.force_weight * terms[0] + energy_weight * terms[1]


def energies_and_forces(
    network: PaiNN, parameters: dict[str, Tensor], batch: Batch, differentiable: bool = False
) -> tuple[Tensor, Tensor]:
    """Energies [B] eV without reference energies and forces [A, 3] eV/A of a batch.

    Args:
        network: gives the sizes; its own parameters are not used.
        parameters: by name, used instead.
        batch: see :class:`Batch`.
        differentiable: keep the graph, so that a loss on the forces can be differentiated.
    """
    positions = batch.positions.detach().requires_grad_(True)
    vectors = positions[batch.senders] - positions[batch.receivers] + batch.offsets
    atomic = atomic_energies(network, parameters, batch.numbers, vectors, batch.receivers, batch.senders)
    energies = atomic.new_zeros(batch.energies.shape).index_add(0, batch.molecule, atomic * batch.atom_weights)
    (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=differentiable)
    return energies if differentiable else energies.detach(), -gradient


def loss_and_gradient(
    network: PaiNN,
    names: list[str],
    parameters: list[Tensor],
    batch: Batch,
    loss: Loss,
    energy_weight: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """The loss terms [2] and the gradient of the weighted loss as one flat vector [P], in the order of ``names``."""
    leaves = [parameter.detach().requires_grad_(True) for parameter in parameters]
    energies, forces = energies_and_forces(network, dict(zip(names, leaves, strict=True)), batch, differentiable=True)
    terms = loss.terms(energies, forces, batch)
    gradients = torch.autograd.grad(loss.total(terms, energy_weight), leaves)
    return terms.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])
