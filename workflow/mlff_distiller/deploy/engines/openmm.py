"""The force of a bundle in OpenMM. XML files and copies of a system name :class:`Compute` as it stands here.

OpenMM-ML is not imported: it would import what uses this module while this module is being imported.
"""

from pathlib import Path

import numpy as np
import openmm
from ase import Atoms

from mlff_distiller.systems.units import KJ_PER_MOL

#: A for a nm. kJ/mol for an eV are by the definition of the SI, as in OpenMM; ASE's eV is that of CODATA 2014, 8e-9 larger.
ANGSTROM = 10.0


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
