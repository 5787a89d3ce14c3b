"""A potential from one function of the neighbor graph that returns energies and forces together.

Compilers need a function of tensors alone, without the neighbor search (the size of its result depends on the data) and
without the number of systems: the function gets edges, the potential does the rest.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mlff_distiller.neighbors.search import edge_vectors
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.checks import InputCheck, undisturbed
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.stress import volumes

#: (numbers [N], vectors [E, 3] A, receivers [E], senders [E]) -> (atomic energies [N] eV, dE/dvectors [E, 3] eV/A).
EdgeGradient = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class EdgewisePotential(Potential):
    """Neighbor search, then ``edge_gradient``, then sums: E = sum of atomic energies, F from the edges' gradients.

    With r = x_j - x_i, dE/dx_j collects +dE/dr and dE/dx_i collects -dE/dr; the virial is sum r (x) dE/dr.
    """

    def __init__(self, student: StudentForceField, edge_gradient: EdgeGradient):
        self.student = student
        self.edge_gradient = edge_gradient
        self.cutoff, self.limits = student.cutoff, student.limits
        self.device = student.device
        self.dtype = student.dtype
        self.inputs = InputCheck(student)

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV, by the student's forward pass, which is cheaper than ``edge_gradient``."""
        self.inputs(numbers, positions, batch, cell, pbc)
        with undisturbed(self.device), torch.no_grad():
            return self.student(numbers, positions, batch, cell, pbc)

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        energies, forces, _, _, _ = self._evaluate(numbers, positions, batch, cell, pbc)
        return energies, forces

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies, forces and stresses [B, 3, 3] eV/A^3."""
        energies, forces, vectors, gradient, receivers = self._evaluate(numbers, positions, batch, cell, pbc)
        with undisturbed(self.device), torch.no_grad():
            virial = torch.zeros_like(cell).index_add(0, batch[receivers], vectors[:, :, None] * gradient[:, None, :])
            # Rotation invariance makes the virial symmetric; the average removes the rounding.
            virial = 0.5 * (virial + virial.transpose(-1, -2))
            return energies, forces, virial / volumes(cell)[:, None, None]

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The student's neighbor search alone."""
        self.inputs(None, positions, batch, cell, pbc)
        return self.student.neighbor_search(positions, self.cutoff, batch, cell, pbc)

    def _evaluate(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        n_systems = len(self.inputs(numbers, positions, batch, cell, pbc).topology.sizes)
        positions, cell = positions.detach(), None if cell is None else cell.detach()
        # Gradients stay enabled, as they were when compiled functions were traced.
        with undisturbed(self.device):
            receivers, senders, shifts = self.student.neighbor_search(positions, self.cutoff, batch, cell, pbc)
            vectors = edge_vectors(positions, receivers, senders, batch, cell, shifts)
            atomic, gradient = self.edge_gradient(numbers, vectors, receivers, senders)
            forces = torch.zeros_like(positions).index_add(0, receivers, gradient)
            forces = forces.index_add(0, senders, gradient, alpha=-1)
            atomic = atomic.to(torch.float64) + self.student.reference_energies[numbers]
            energies = torch.zeros([n_systems], dtype=torch.float64, device=self.device).index_add(0, batch, atomic)
            return energies, forces, vectors, gradient, receivers


def autograd_edge_gradient(student: StudentForceField) -> EdgeGradient:
    """The function by reverse-mode differentiation of the student's network; it can be pickled."""
    return partial(differentiated, student)


def differentiated(
    student: StudentForceField, numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor
) -> tuple[Tensor, Tensor]:
    """See :data:`EdgeGradient`."""
    with torch.enable_grad():
        leaf = vectors.detach().requires_grad_(True)
        atomic = student.network(numbers, leaf, receivers, senders)
        (gradient,) = torch.autograd.grad(atomic.sum(), leaf)
    return atomic.detach(), gradient
