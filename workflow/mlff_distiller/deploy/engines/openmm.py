"""Bundles in OpenMM: ``MLPotential("mlff-distiller", bundle=...)`` of OpenMM-ML, which finds this by its entry point.

OpenMM-ML loads this module whenever it is imported; PyTorch is loaded with the first bundle.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openmm
from ase import Atoms
from openmmml.mlpotential import MLPotentialImpl, MLPotentialImplFactory

from mlff_distiller.systems.units import KJ_PER_MOL
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.settings import refuse_unknown

#: kJ/mol for an eV, and A for a nm. By the definition of the SI, as in OpenMM; ASE's eV is that of CODATA 2014, 8e-9 larger.
ANGSTROM = 10.0


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


class Compute:
    """Energy and forces of a state of OpenMM. Copies and XML files hold the path of the bundle, which they load again.

    Args:
        bundle, allow: as of :class:`Student`.
        numbers: atomic numbers.
        periodic: along all three vectors of the box.
        charge: of all atoms, e.
    """

    def __init__(self, bundle: Path, allow: tuple[str, ...], numbers: list[int], periodic: bool, charge: int):
        from mlff_distiller.deploy.bundle import load_bundle
        from mlff_distiller.potentials.ase import PotentialCalculator

        self._arguments = bundle, allow, numbers, periodic, charge
        self._atoms = Atoms(numbers, pbc=periodic, info={"charge": charge} if charge else {})
        self._atoms.calc = PotentialCalculator(load_bundle(bundle, allow=allow))
        limits = self._atoms.calc.limits
        limits.check_numbers(self._atoms.numbers)
        limits.check_charge_and_spin(self._atoms)

    def __reduce__(self):
        return type(self), self._arguments

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy in kJ/mol and forces [N, 3] in kJ/mol/nm."""
        # States are in nm; to have that converted takes as long as the forces of a small molecule.
        self._atoms.positions = state.getPositions(asNumpy=True)._value * ANGSTROM
        if self._atoms.pbc.any():
            self._atoms.cell = state.getPeriodicBoxVectors(asNumpy=True)._value * ANGSTROM
        forces = self._atoms.calc.get_property("forces", self._atoms)
        return self._atoms.calc.results["energy"] / KJ_PER_MOL, forces * (ANGSTROM / KJ_PER_MOL)
