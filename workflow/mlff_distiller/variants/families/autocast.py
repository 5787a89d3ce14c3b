"""Mixed precision: matrix products in 16 bits by ``torch.autocast``, sums and geometry in fp32."""

import torch
from torch import nn

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.variants.base import VariantFamily


class AutocastModule(nn.Module):
    """A student whose forward runs under autocast."""

    def __init__(self, student: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.student = student
        self.dtype = dtype

    def forward(self, numbers, positions, batch, cell=None, pbc=None):
        """See :meth:`mlff_distiller.student.painn.StudentForceField.forward`."""
        with torch.autocast(positions.device.type, self.dtype):
            return self.student(numbers, positions, batch, cell, pbc)


class Autocast(VariantFamily):
    """Nothing to compile: autocast chooses per operation as it runs."""

    precision = "16bit"

    def load(self, student, spec, folder):
        """The student under autocast."""
        return AutogradPotential(student, AutocastModule(student, getattr(torch, spec["dtype"])))


FAMILY = Autocast()
