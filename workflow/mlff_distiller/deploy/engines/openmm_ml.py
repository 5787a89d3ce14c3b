"""Bundles in OpenMM: ``MLPotential("mlff-distiller", bundle=...)`` of OpenMM-ML, which finds this by its entry point.

OpenMM-ML loads this module whenever it is imported; PyTorch is loaded with the first bundle.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import openmm
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from mlff_distiller.deploy.engines.openmm import Compute
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.settings import refuse_unknown


class Factory(MLPotentialImplFactory):
    """What the entry point names."""

    def createImpl(self, name: str, **options: Any) -> MLPotentialImpl:
        """The implementation; ``options`` are those of :class:`Student`."""
        refuse_unknown(options, ("bundle", "allow"), "MLPotential")
        if "bundle" not in options:
            raise UserError(f"MLPotential({name!r}) needs bundle=, the folder of a bundle")
        return Student(**options)


class Student(MLPotentialImpl):
    """A bundle as a potential of OpenMM-ML: for whole systems, or for the atoms of a mixed system.

    Args:
        bundle: its folder.
        allow: what is computed although the student has not learned it, see :class:`~mlff_distiller.systems.limits.Limits`.

    Raises:
        UserError: see :func:`mlff_distiller.deploy.bundle.load_bundle`.
    """

    def __init__(self, bundle: str | Path, allow: Iterable[str] = ()):
        self.bundle, self.allow = Path(bundle).resolve(), (allow,) if isinstance(allow, str) else tuple(allow)

    def getMLLongRange(self) -> bool:
        """False: atoms beyond the cutoff do not interact."""
        return False

    def addForces(
        self,
        topology: openmm.app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        **options: Any,
    ) -> None:
        """Add the student's force on ``atoms``, or on all, to ``system``; periodic where the topology has a box.

        Raises:
            UserError: an atom without an element; or, as the calculator does, elements and formal charges that the student
                did not learn.
        """
        everyone = list(topology.atoms())
        chosen = everyone if atoms is None else [everyone[index] for index in atoms]
        for atom in chosen:
            if atom.element is None:
                raise UserError(f"{atom} has no element: the student is for atoms, not for virtual sites")
        periodic = topology.getPeriodicBoxVectors() is not None
        numbers = [atom.element.atomic_number for atom in chosen]
        charge = sum(atom.formalCharge or 0 for atom in chosen)
        compute = Compute(self.bundle, self.allow, numbers, periodic, charge)
        force = openmm.PythonForce(compute)
        force.setForceGroup(forceGroup)
        force.setUsesPeriodicBoundaryConditions(periodic)
        if atoms is not None:
            force.setParticles([atom.index for atom in chosen])
        system.addForce(force)
