"""What the student's last layer sums, from which its :class:`~mlff_distiller.student.domain.Domain` judges atoms."""

import torch
from torch import Tensor

from mlff_distiller.neighbors.search import edge_vectors
from mlff_distiller.student.painn import StudentForceField


@torch.no_grad()
def last_layer(
    student: StudentForceField,
    numbers: Tensor,
    positions: Tensor,
    batch: Tensor,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
) -> Tensor:
    """The values that the last layer sums [N, R], and a 1; arguments as of :meth:`StudentForceField.forward`."""
    receivers, senders, shifts = student.neighbor_search(positions, student.cutoff, batch, cell, pbc)
    vectors = edge_vectors(positions, receivers, senders, batch, cell, shifts)
    hidden = student.network.hidden(numbers, vectors, receivers, senders)
    return torch.cat([hidden, hidden.new_ones([len(numbers), 1])], dim=1)
