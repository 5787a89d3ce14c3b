"""Any potential as an ASE calculator."""

import math
from typing import TYPE_CHECKING

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from mlff_distiller.potentials.base import Potential
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms


class PotentialCalculator(Calculator):
    """Energy (eV), free energy, forces (eV/A) and, for fully periodic systems, stress (eV/A^3, Voigt) of a potential.

    Args:
        potential: any :class:`~mlff_distiller.potentials.base.Potential`.

    ASE keeps the results and asks again whenever positions, elements, cell or periodicity have changed.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's convention)

    def __init__(self, potential: Potential, **kwargs):
        super().__init__(**kwargs)
        self.potential = potential
        self._last: tuple[Atoms, Batch] | None = None

    def check_state(self, atoms: "Atoms", tol: float = 0.0) -> list[str]:
        """What has changed since the last results, of what energies and forces depend on.

        Compared exactly: ASE's comparison within a tolerance takes as long as the forces of a small molecule.
        """
        if self.atoms is None:
            return all_changes[:]
        pairs = {
            "positions": (self.atoms.positions, atoms.positions),
            "numbers": (self.atoms.numbers, atoms.numbers),
            "cell": (self.atoms.cell.array, atoms.cell.array),
            "pbc": (self.atoms.pbc, atoms.pbc),
        }
        return [name for name, (known, now) in pairs.items() if known.tobytes() != now.tobytes()]

    def calculate(self, atoms: "Atoms | None" = None, properties=("energy",), system_changes=all_changes) -> None:
        """Fill ``self.results``; stress only when asked for, since it costs more."""
        # Taken away until this call has made its own: an error in between must leave nothing that is out of date.
        last, self._last = self._last, None
        self.results = {}
        atoms = self.atoms if atoms is None else atoms
        moved = last is not None and set(system_changes) <= {"positions"}
        if moved:
            # Copying all of the atoms anew, as ASE does, would take as long as a small molecule's forces on a GPU.
            self.atoms, batch = last
            self.atoms.positions[:] = atoms.positions
        else:
            self.atoms = atoms.copy()
        if len(self.atoms) == 0:
            raise UserError("no atoms: there is nothing to compute")
        # One sum tells; and before the batch is made, whose centering would spread one bad atom to all.
        if not math.isfinite(self.atoms.positions.sum()):
            lost = int(np.flatnonzero(~np.isfinite(self.atoms.positions).all(axis=1))[0])
            where = self.atoms.positions[lost].tolist()
            raise UserError(f"atom {lost} is at {where}: not a finite position; has the simulation blown up?")
        if moved:
            batch = batch.moved(self.atoms)
        else:
            batch = Batch.from_atoms([self.atoms], self.potential.device, self.potential.dtype)
        self._last = self.atoms, batch
        if "stress" in properties:
            if not self.atoms.pbc.all():
                raise UserError("stress needs a system that is periodic in all three directions")
            energies, forces, stress = self.potential.with_stress(*batch)
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress[0].cpu().double().numpy())
        else:
            energies, forces = self.potential.on_host(*batch)
        self.results["energy"] = self.results["free_energy"] = float(energies)
        self.results["forces"] = forces.cpu().double().numpy()
