"""Energy and forces by one contract, however they are computed."""

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.base import Potential

__all__ = ["AutogradPotential", "Potential"]
