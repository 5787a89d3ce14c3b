"""PyTorch as it comes: the baseline, and the neighbor backends compared on it."""

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.variants.base import VariantFamily


class Eager(VariantFamily):
    """Nothing to compile."""

    def load(self, student, spec, folder):
        """The student with forces by autograd."""
        return AutogradPotential(student)

    def in_double(self, student):
        """The same in fp64."""
        return AutogradPotential(student)


FAMILY = Eager()
