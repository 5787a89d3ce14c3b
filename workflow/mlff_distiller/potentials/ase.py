"""Any potential as an ASE calculator."""

import threading
import warnings
from typing import TYPE_CHECKING

from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.moving import MovingSystem
from mlff_distiller.student.domain import INSIDE, Domain
from mlff_distiller.student.last_layer import last_layer
from mlff_distiller.systems.boxes import box_of
from mlff_distiller.systems.stress import no_stress
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.settings import refuse_unknown

if TYPE_CHECKING:
    from ase import Atoms


#: What errors to expect, as properties of the calculator.
UNCERTAINTIES = ("energy_uncertainty", "force_uncertainties")
#: Calls between two looks whether the system is like those trained on.
LOOK_EVERY = 20
WITHOUT_DOMAIN = (
    "the student's checkpoint does not say what it was trained on; `python -m mlff_distiller learn-domain` fits that to "
    "labels like those that it was trained on"
)


class OutsideTraining(UserWarning):
    """A system unlike anything that the student was trained on."""


class PotentialCalculator(Calculator):
    """Energy (eV), free energy, forces (eV/A) and stress (eV/A^3, Voigt) of a potential; no energies per atom.

    Where the student's checkpoint has a :class:`~mlff_distiller.student.domain.Domain`, also what errors to expect, when asked
    for by ``get_property``: ``energy_uncertainty`` (eV) and, for each atom, ``force_uncertainties`` (eV/A, of a component).

    ASE keeps the results and asks again whenever positions, elements, cell or periodicity have changed.

    Stress is dE/dstrain over the volume of the cell. Systems that are periodic along one or two axes have one when their
    cell has three lattice vectors: it is that of the cell with its vacuum, as in ASE. Molecules have none.

    Args:
        potential: any :class:`~mlff_distiller.potentials.base.Potential`; its ``limits`` say which systems it accepts.
        warn: look at the first call and every :data:`LOOK_EVERY`-th whether an atom's surroundings are unlike any that the
            student was trained on, and warn once (:class:`OutsideTraining`), naming the atom. A look takes a fraction of
            the plain student's time.

    Threads may share one: its calls take turns. Copies and pickles have their own atoms and results.

    Raises:
        UserError: from every method that computes, for atoms beyond the limits, invalid positions or cells, and energies
            that are not finite; and at once, where ``warn`` is asked of a student without a domain.
    """

    implemented_properties = [  # noqa: RUF012 (ASE's convention)
        *("energy", "free_energy", "forces", "stress"),
        *UNCERTAINTIES,
    ]

    def __init__(self, potential: Potential, warn: bool = False, **kwargs):
        # ASE takes any other keyword for a parameter of the calculation, a misspelt one too.
        refuse_unknown(kwargs, ("atoms", "directory", "label", "restart"), type(self).__name__)
        super().__init__(**kwargs)
        self.potential = potential
        self.limits = potential.limits
        self.warn = warn
        if warn and potential.domain is None:
            raise UserError(f"warn=True: {WITHOUT_DOMAIN}")
        self._calls = 0
        self._last: MovingSystem | None = None
        self._turn = threading.RLock()

    def __getstate__(self):
        # Copies must not share what calls write in place; a lock cannot be copied.
        own = {"atoms": self.atoms and self.atoms.copy(), "results": dict(self.results), "_last": None, "_turn": None}
        return self.__dict__ | own

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._turn = threading.RLock()

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
        changes = [name for name, (known, now) in pairs.items() if known.tobytes() != now.tobytes()]
        if self.limits.charge_or_spin(atoms):
            # They change no result, but the results are not valid for such atoms.
            changes += ["initial_charges", "initial_magmoms"]
        return changes

    def get_property(self, name: str, atoms: "Atoms | None" = None, allow_calculation: bool = True):
        """As ASE has it; the result is that of ``atoms`` also when several threads ask."""
        with self._turn:
            return super().get_property(name, atoms, allow_calculation)

    def calculate_properties(self, atoms: "Atoms", properties):
        """As ASE has it; the results are those of ``atoms`` also when several threads ask."""
        with self._turn:
            return super().calculate_properties(atoms, properties)

    def calculate(self, atoms: "Atoms | None" = None, properties=("energy",), system_changes=all_changes) -> None:
        """Fill ``self.results``; stress only when asked for, since it costs more."""
        with self._turn:
            self._calculate(self.atoms if atoms is None else atoms, properties, system_changes)

    def _calculate(self, atoms: "Atoms | None", properties, system_changes) -> None:
        for name in properties:
            if name not in self.implemented_properties:
                raise PropertyNotImplementedError(f"no property {name!r}{nearest(name, self.implemented_properties)}")
        if atoms is None or len(atoms) == 0:
            raise UserError("no atoms: there is nothing to compute")
        if "stress" in properties and (why := no_stress(box_of(atoms))):
            raise PropertyNotImplementedError(why)
        # Cleared until this call has new ones: an error in between must not leave old results.
        last, self._last = self._last, None
        self.results = {}
        if last is not None and set(system_changes) <= {"positions"}:
            # Copying the atoms, as ASE does, takes as long as a small molecule's forces on a GPU.
            last.move(atoms.positions)
        else:
            last = MovingSystem(self.potential, atoms)
        self.atoms = last.atoms
        more = {}
        if "stress" in properties:
            try:
                energy, forces, stress = last.with_stress()
            except NotImplementedError as error:
                raise PropertyNotImplementedError(str(error)) from None
            more["stress"] = full_3x3_to_voigt_6_stress(stress)
        else:
            energy, forces = last.energy_and_forces()
        self._last = last
        self.results = {"energy": energy, "free_energy": energy, "forces": forces} | more
        if not set(UNCERTAINTIES).isdisjoint(properties):
            self._add_uncertainties(last)
        if self.warn and self._calls % LOOK_EVERY == 0:
            self._look(last)
        self._calls += 1

    def _add_uncertainties(self, last: MovingSystem) -> None:
        domain, features = self._features(last)
        self.results["energy_uncertainty"] = float(domain.energy_errors(features, last.batch.batch, 1)[0])
        self.results["force_uncertainties"] = domain.force_errors(
            domain.distances(features, last.batch.numbers)
        ).numpy()

    def _look(self, last: MovingSystem) -> None:
        """Warn, once, where an atom is unlike any trained."""
        domain, features = self._features(last)
        distances = domain.distances(features, last.batch.numbers)
        atom = int(distances.argmax())
        if float(distances[atom]) <= domain.limit:
            return
        self.warn = False
        error = float(domain.force_errors(distances[atom : atom + 1])[0])
        warnings.warn(
            f"atom {atom} ({last.atoms.symbols[atom]}) has surroundings unlike any that the student was trained on: "
            f"{float(distances[atom]) / domain.limit:.2g} times the distance within which {INSIDE:.1%} of atoms that it had not "
            f"seen lie; expect errors of its force of {error:.2g} eV/A or more. This is said once",
            OutsideTraining,
            stacklevel=2,
        )

    def _features(self, last: MovingSystem) -> tuple[Domain, Tensor]:
        """The student's domain, and the values of its last layer for these atoms."""
        student = self.potential.student
        if student is None or student.domain is None:
            raise PropertyNotImplementedError(WITHOUT_DOMAIN)
        return student.domain, last_layer(student, *last.batch)
