"""The public door: the student as an ASE calculator, and what else programs outside this project use.

Whatever moves inside the package, these names stay here: ``StudentCalculator``, ``load``, ``Batch``, ``load_bundle``,
``liquid_box``, ``UserError``.

The student refuses what it cannot answer, with the reason: elements that it never learned, a charge or unpaired electrons
(in ``atoms.info``, initial charges or magnetic moments), atoms closer together than any that it learned. Where a program
knows better, ``allow=("elements", "charge", "spin", "distances")``, or some of them, has it answer all the same.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from mlff_distiller.deploy.bundle import load_bundle
from mlff_distiller.potentials.ase import OutsideTraining, PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.utils.errors import UserError

__all__ = ["Batch", "OutsideTraining", "StudentCalculator", "UserError", "liquid_box", "load", "load_bundle"]


class StudentCalculator(PotentialCalculator):
    """The student as an ASE calculator, from its checkpoint or from a bundle.

    Energies in eV, forces in eV/A, stress in eV/A^3; see :class:`~mlff_distiller.potentials.ase.PotentialCalculator`.
    """

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        device: str = "cpu",
        dtype: torch.dtype | str | None = None,
        use_torch_cluster: bool | None = None,
        allow: Iterable[str] = (),
        **kwargs,
    ) -> "StudentCalculator":
        """The plain (autograd) calculator of a checkpoint; fp32 unless ``dtype`` says float64."""
        student = load_student(path, device, dtype or torch.float32, use_torch_cluster=use_torch_cluster, allow=allow)
        return cls(AutogradPotential(student), **kwargs)

    @classmethod
    def from_bundle(
        cls, path: str | Path, rebuild: bool = True, allow: Iterable[str] = (), **kwargs
    ) -> "StudentCalculator":
        """The calculator of a bundle that ``snakemake deploy`` made; see :func:`mlff_distiller.deploy.bundle.load_bundle`."""
        return cls(load_bundle(path, rebuild, allow), **kwargs)


def load(path: str | Path, device: str | None = None, **options: Any) -> StudentCalculator:
    """The calculator of a bundle's folder or of a ``.safetensors`` checkpoint: for tools that want one name to call.

    Args:
        path: of either.
        device: ``cpu`` or ``cuda``; by default ``cpu`` for a checkpoint, and what it was made for for a bundle.
        options: those of :meth:`StudentCalculator.from_checkpoint` or :meth:`StudentCalculator.from_bundle`.

    Raises:
        UserError: there is neither; or the bundle was made for another device.
    """
    if not Path(path).is_dir():
        return StudentCalculator.from_checkpoint(path, device or "cpu", **options)
    calculator = StudentCalculator.from_bundle(path, **options)
    made_for = calculator.potential.device
    if device is not None and torch.device(device).type != made_for.type:
        raise UserError(
            f"{path}: made for {made_for.type}, not {device}; load its student.safetensors, or leave device out"
        )
    return calculator
