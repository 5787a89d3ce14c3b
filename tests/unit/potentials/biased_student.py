"""A student for tests of hand-derived forces, in which every term of the equations counts."""

import torch

from mlff_distiller.student import wall
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.student.painn import StudentForceField


def make_student(dtype=torch.float64, **sizes):
    """A student with random weights and reference energies of a real one's size."""
    torch.manual_seed(3)
    student = StudentForceField(StudentConfig(**sizes), reference_energies=-50.0 * torch.arange(101.0).double())
    # Freshly made weights hardly mix scalars and vectors; larger biases reach every term of the equations.
    for name, parameter in student.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    # Walls that begin beyond the bonds, so that every molecule meets them.
    student.network.wall.copy_(wall.pair_table(1.1 * wall.bond_lengths(student.config.max_atomic_number)))
    return student.to(dtype)
