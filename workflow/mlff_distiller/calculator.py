"""The public door: the student as an ASE calculator, and what else programs outside this project use.

Whatever moves inside the package, these names stay here: ``StudentCalculator``, ``Batch``, ``load_bundle``, ``liquid_box``.
"""

import torch

from mlff_distiller.deploy.bundle import load_bundle
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.liquid import liquid_box

__all__ = ["Batch", "StudentCalculator", "liquid_box", "load_bundle"]


class StudentCalculator(PotentialCalculator):
    """The student as an ASE calculator, from its checkpoint or from a bundle.

    Energies in eV, forces in eV/A, stress in eV/A^3; see :class:`~mlff_distiller.potentials.ase.PotentialCalculator`.
    """

    @classmethod
    def from_checkpoint(
        cls,
        path: str,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        use_torch_cluster: bool | None = None,
        **kwargs,
    ) -> "StudentCalculator":
        """The plain (autograd) calculator of a checkpoint; fp32 unless ``dtype`` says otherwise."""
        student = load_student(path, device, dtype or torch.float32, use_torch_cluster=use_torch_cluster)
        return cls(AutogradPotential(student), **kwargs)

    @classmethod
    def from_bundle(cls, path: str, rebuild: bool = True, **kwargs) -> "StudentCalculator":
        """The calculator of a bundle that ``snakemake deploy`` made; see :func:`mlff_distiller.deploy.bundle.load_bundle`."""
        return cls(load_bundle(path, rebuild), **kwargs)
