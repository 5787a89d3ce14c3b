"""Forces by autograd: the baseline and, in fp64, the reference for all faster variants."""

import torch
from torch import Tensor, nn

from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.checks import InputCheck, countable, undisturbed
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.stress import volumes


class AutogradPotential(Potential):
    """A student's energies with F = -dE/dr by reverse-mode differentiation.

    Args:
        student: fixes device and dtype.
        module: what computes the energies, with the signature of :meth:`StudentForceField.forward`; the student itself,
            or a compiled form of it.
    """

    def __init__(self, student: StudentForceField, module: nn.Module | None = None):
        self.student = student
        self.module = student if module is None else module
        self.cutoff, self.limits = student.cutoff, student.limits
        self.device = student.device
        self.dtype = student.dtype
        self.inputs = InputCheck(student)

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV, without the graph that forces would need."""
        self.inputs(numbers, positions, batch, cell, pbc)
        with undisturbed(self.device), torch.no_grad():
            return self.module(numbers, positions, batch, cell, pbc)

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        self.inputs(numbers, positions, batch, cell, pbc)
        with undisturbed(self.device):
            numbers, positions, batch, cell, pbc = countable(numbers, positions, batch, cell, pbc)
            leaf = positions.detach().requires_grad_(True)
            energies = self.module(numbers, leaf, batch, cell, pbc)
            (gradient,) = torch.autograd.grad(energies.sum(), leaf)
            return energies.detach(), -gradient

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies, forces, and stresses [B, 3, 3] eV/A^3 from a symmetric strain of positions and cell (Knuth et al. 2015)."""
        self.inputs(numbers, positions, batch, cell, pbc)
        with undisturbed(self.device):
            numbers, positions, batch, cell, pbc = countable(numbers, positions, batch, cell, pbc)
            leaf = positions.detach().requires_grad_(True)
            strain = torch.zeros_like(cell).requires_grad_(True)
            symmetric = 0.5 * (strain + strain.transpose(-1, -2))
            strained = leaf + torch.einsum("nk,nkl->nl", leaf, symmetric[batch])
            energies = self.module(numbers, strained, batch, cell + cell @ symmetric, pbc)
            gradient, virial = torch.autograd.grad(energies.sum(), (leaf, strain))
            volume = volumes(cell.detach())[:, None, None]
            return energies.detach(), -gradient, virial / volume

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The student's neighbor search alone."""
        self.inputs(None, positions, batch, cell, pbc)
        return self.student.neighbor_search(positions, self.cutoff, batch, cell, pbc)
