"""The force of a bundle in OpenMM. XML files and copies of a system name :class:`Compute` as it stands here.

OpenMM-ML is not imported: it would import what uses this module while this module is being imported.
"""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openmm
from ase import Atoms

from mlff_distiller.systems.units import KJ_PER_MOL

if TYPE_CHECKING:
    from mlff_distiller.potentials.moving import MovingSystem

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

        self._arguments = bundle, allow, numbers, periodic, charge
        self._atoms = Atoms(numbers, pbc=periodic, info={"charge": charge} if charge else {})
        self._potential = load_bundle(bundle, allow=allow)
        self._potential.limits.check_numbers(self._atoms.numbers)
        self._potential.limits.check_charge_and_spin(self._atoms)
        self._nm = np.empty([len(numbers), 3])
        self._moving: MovingSystem | None = None
        # Contexts of one system share this.
        self._turn = threading.Lock()

    def __reduce__(self):
        return type(self), self._arguments

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Energy in kJ/mol and forces [N, 3] in kJ/mol/nm."""
        from mlff_distiller.potentials.moving import MovingSystem

        with self._turn:
            # As getPositions does, which takes a third of the time of a small molecule's forces for units and a cache.
            state._getVectorAsNumpy(openmm.State.Positions, self._nm)
            positions = self._nm * ANGSTROM
            if self._atoms.pbc.any():
                cell = state.getPeriodicBoxVectors(asNumpy=True)._value * ANGSTROM
                if cell.tobytes() != self._atoms.cell.array.tobytes():
                    self._atoms.cell, self._moving = cell, None
            if self._moving is None:
                self._atoms.positions = positions
                self._moving = MovingSystem(self._potential, self._atoms)
            else:
                self._moving.move(positions)
            energy, forces = self._moving.energy_and_forces()
        return energy / KJ_PER_MOL, forces * (ANGSTROM / KJ_PER_MOL)
