"""The loss on energies, forces and stress, and its gradient, which needs second derivatives of the energy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mlff_distiller.student.painn import PaiNN
from mlff_distiller.training.data import Batch
from mlff_distiller.training.network import atomic_energies
from mlff_distiller.training.settings import TrainingSettings


@dataclass(frozen=True)
class Loss:
    """Weighted sum of pseudo-Huber losses: quadratic for small errors, linear for large ones.

    The force term uses the length of an atom's error vector, so it does not depend on the axes; the energy term uses the
    error per atom, so it does not grow with the molecule. The stress term uses the error of the virial (volume times stress)
    per atom, its Frobenius norm, which has both properties; without a ``stress_weight`` no virial is computed.
    """

    force_weight: float
    force_delta: float
    energy_delta: float
    stress_weight: float = 0.0
    stress_delta: float = 0.01

    @classmethod
    def of(cls, settings: TrainingSettings, with_stress: bool = False) -> "Loss":
        """The loss with the deltas and weights of the settings; without a stress term where no label has a stress."""
        weight = settings.stress_weight if with_stress else 0.0
        return cls(settings.force_weight, settings.force_delta, settings.energy_delta, weight, settings.stress_delta)

    def terms(self, energies: Tensor, forces: Tensor, virials: Tensor | None, batch: Batch) -> Tensor:
        """The force term (eV/A), energy term (eV/atom) and stress term (eV/atom) without weights: [3].

        Args:
            energies: [B] eV, without reference energies.
            forces: [A, 3] eV/A.
            virials: [B, 3, 3] eV; None: the stress term is 0.
            batch: the labels.
        """
        wrong = ((forces - batch.forces) ** 2).sum(dim=-1)
        per_atom = ((energies - batch.energies) * batch.inverse_sizes) ** 2
        force = (torch.sqrt(wrong + self.force_delta**2) - self.force_delta) * batch.atom_weights
        energy = (torch.sqrt(per_atom + self.energy_delta**2) - self.energy_delta) * (batch.inverse_sizes > 0)
        n_molecules = (batch.inverse_sizes > 0).sum().clamp(min=1)
        stress = energy.new_zeros([])
        if virials is not None:
            wrong = (((virials - batch.virials) * batch.inverse_sizes[:, None, None]) ** 2).sum(dim=(1, 2))
            each = (torch.sqrt(wrong + self.stress_delta**2) - self.stress_delta) * batch.has_virial
            stress = each.sum() / batch.has_virial.sum().clamp(min=1.0)
        return torch.stack([force.sum() / batch.atom_weights.sum().clamp(min=1.0), energy.sum() / n_molecules, stress])

    def total(self, terms: Tensor, energy_weight: Tensor | float) -> Tensor:
        """The weighted sum of :meth:`terms`."""
        total = self.force_weight * terms[0] + energy_weight * terms[1]
        return total + self.stress_weight * terms[2] if self.stress_weight else total


def energies_and_forces(
    network: PaiNN, parameters: dict[str, Tensor], batch: Batch, differentiable: bool = False, virial: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Energies [B] eV without reference energies, forces [A, 3] eV/A and virials [B, 3, 3] eV of a batch.

    A virial is the volume times the stress: the derivative of the energy by a strain of all pairs, sum of r_ij (dE/dr_ij)^T
    (Knuth et al., Comput. Phys. Commun. 190, 33 (2015)). It is symmetric, because no rotation changes the energy.

    Args:
        network: gives the sizes; its own parameters are not used.
        parameters: by name, used instead.
        batch: see :class:`Batch`.
        differentiable: keep the graph, so that a loss on the forces can be differentiated.
        virial: whether virials are wanted; None else.
    """
    positions = batch.positions.detach().requires_grad_(True)
    vectors = positions[batch.second] - positions[batch.first] + batch.offsets
    atomic = atomic_energies(network, parameters, batch.numbers, vectors, batch.graph)
    energies = atomic.new_zeros(batch.energies.shape).index_add(0, batch.molecule, atomic * batch.atom_weights)
    wanted = (positions, vectors) if virial else (positions,)
    gradient, *by_pair = torch.autograd.grad(energies.sum(), wanted, create_graph=differentiable)
    virials = None
    if virial:
        pairs = vectors[:, :, None] * by_pair[0][:, None, :]
        virials = pairs.new_zeros(batch.virials.shape).index_add(0, batch.molecule[batch.first], pairs)
        virials = virials if differentiable else virials.detach()
    return energies if differentiable else energies.detach(), -gradient, virials


def loss_and_gradient(
    network: PaiNN,
    names: list[str],
    parameters: list[Tensor],
    batch: Batch,
    loss: Loss,
    energy_weight: Tensor | float,
) -> tuple[Tensor, Tensor]:
    """The loss terms [3] and the gradient of the weighted loss as one flat vector [P], in the order of ``names``."""
    leaves = [parameter.detach().requires_grad_(True) for parameter in parameters]
    predicted = energies_and_forces(
        network, dict(zip(names, leaves, strict=True)), batch, differentiable=True, virial=loss.stress_weight > 0
    )
    terms = loss.terms(*predicted, batch)
    gradients = torch.autograd.grad(loss.total(terms, energy_weight), leaves)
    return terms.detach(), torch.cat([gradient.reshape(-1) for gradient in gradients])
