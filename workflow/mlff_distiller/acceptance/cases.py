"""What the teacher prepares and computes: the molecules, frames and energies that the student is then compared on.

A case is a mapping that JSON can hold: ``task``, ``system``, ``smiles``, ``split``, ``status``, ``reason``, and what the task
needs. A molecule that fails becomes a case with status and reason.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.acceptance.conformers import distinct
from mlff_distiller.acceptance.dimers import DIMERS, HYDRIDES, Dimer, facing
from mlff_distiller.acceptance.energies import energies_and_forces, numbers_or_null
from mlff_distiller.acceptance.minima import optimise
from mlff_distiller.acceptance.molecules import split_in, unseen
from mlff_distiller.acceptance.settings import AcceptanceSettings
from mlff_distiller.acceptance.smoothness import APART, PRESSED, PULLED, TOGETHER, single_bonds, slopes, stretched
from mlff_distiller.acceptance.torsions import torsions_of, turned
from mlff_distiller.acceptance.vibrations import frequencies
from mlff_distiller.data.geometry import Shape, make_shape, shape_of
from mlff_distiller.data.molecule_list import Molecule
from mlff_distiller.data.molecules import BENCHMARK_MOLECULES
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.records.outcome import failure
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

Case = dict[str, Any]
#: How many geometries -> the molecule with so many, the same ones each time.
Source = Callable[[int], Shape]
#: A molecule with fewer different conformers has nothing to rank.
FEWEST_CONFORMERS = 3


class CaseMaker:
    """Makes the cases of all tasks with one teacher.

    Args:
        calculator: the teacher's.
        settings: of the suite.
        sampling: by which the student's data were split; None where that is not known.
        trained: flat SMILES of molecules that were trained on whatever the split.
    """

    def __init__(
        self,
        calculator: "Calculator",
        settings: AcceptanceSettings,
        sampling: SamplingSettings | None,
        trained: Collection[str] = (),
    ) -> None:
        self.calculator, self.settings, self.sampling, self.trained = calculator, settings, sampling, trained
        self._monomers: dict[str, tuple[list[int], np.ndarray]] = {}

    def all(self, molecules: Sequence[Molecule]) -> list[Case]:
        """Every case, from the molecules of the list."""
        return [
            *self.of_molecules(molecules),
            *self.of_conformers(molecules),
            *self.of_dimers(),
            *self.of_approaches(),
        ]

    def of_molecules(self, molecules: Sequence[Molecule]) -> Iterator[Case]:
        """Geometry, frequencies, torsions and dissociation of small molecules."""
        wanted = self.settings.molecules
        known = {m.name: m.smiles for m in BENCHMARK_MOLECULES}
        chosen = {m.name: m.smiles for m in unseen(molecules, self.sampling, wanted.max_atoms)[: wanted.most]}
        for name, smiles in (chosen | {name: known[name] for name in wanted.benchmark}).items():
            yield from self._of_molecule(partial(self._case, [smiles]), name, partial(self._shape, smiles))

    def of_own(self, molecules: "Mapping[str, Atoms]", split: str) -> Iterator[Case]:
        """The same of ``molecules``, from their own geometries, and their conformers; ``split``: where they are in the data.

        Those of more atoms than the settings allow become a case that says so.
        """
        most = self.settings.molecules.most_atoms
        for name, atoms in molecules.items():
            case = partial(self._case, [], split=split)
            if len(atoms) > most:
                reason = f"{len(atoms)} atoms, acceptance.molecules.most_atoms is {most}"
                about = {"task": "geometry", "system": name, "smiles": "", "split": split}
                yield about | {"status": "unavailable", "reason": reason}
                continue
            source = partial(shape_of, atoms, seed=self.settings.seed)
            made = list(self._of_molecule(case, name, source))
            yield from made
            if self.settings.conformers.molecules and made[0]["status"] == "ok":
                found = case("conformers", name, self._conformers, source)
                if found["status"] != "ok" or len(found["energies"]) >= FEWEST_CONFORMERS:
                    yield found

    def _of_molecule(self, case: Callable[..., Case], name: str, source: Source) -> Iterator[Case]:
        geometry = case("geometry", name, self._geometry, source)
        yield geometry
        if geometry["status"] != "ok":
            return
        shape, minimum = source(1), np.array(geometry["minimum"]["positions"])
        about = {"smiles": shape.smiles}
        yield case("frequencies", name, self._frequencies, geometry) | about
        for torsion in torsions_of(shape, minimum, self.settings.torsions.per_molecule):
            yield case("torsion", name, self._torsion, shape, minimum, torsion) | about
        for bond in single_bonds(shape, self.settings.smoothness.bonds_per_molecule):
            yield case("dissociation", name, self._dissociation, shape, minimum, bond) | about

    def of_conformers(self, molecules: Sequence[Molecule]) -> Iterator[Case]:
        """Conformers of the molecules that have :data:`FEWEST_CONFORMERS` at least."""
        wanted, found = self.settings.conformers, 0
        for molecule in unseen(molecules, self.sampling, wanted.max_atoms):
            if found == wanted.molecules:
                break
            source = partial(self._shape, molecule.smiles)
            case = self._case([molecule.smiles], "conformers", molecule.name, self._conformers, source)
            if case["status"] != "ok" or len(case["energies"]) >= FEWEST_CONFORMERS:
                found += case["status"] == "ok"
                yield case

    def of_dimers(self) -> Iterator[Case]:
        """The curves of the dimers."""
        wanted = self.settings.dimers
        n = round((wanted.farthest - wanted.nearest) / wanted.step)
        distances = np.linspace(wanted.nearest, wanted.farthest, n + 1)
        for name in wanted.pairs:
            dimer = DIMERS[name]
            yield self._case([dimer.first, dimer.second], "dimer", name, self._dimer, dimer, distances)

    def of_approaches(self) -> Iterator[Case]:
        """Every two of the elements pushed together, in their hydrides."""
        wanted = self.settings.smoothness
        distances = np.arange(TOGETHER, APART + wanted.step / 2, wanted.step)
        for one, other in combinations_with_replacement(wanted.elements, 2):
            (first, end), (second, facing_end) = HYDRIDES[one], HYDRIDES[other]
            dimer = Dimer(first, second, (end, facing_end), f"{one} and {other}", 60.0)
            yield self._case([first, second], "approach", f"{one}-{other}", self._approach, dimer, distances)

    def _case(
        self, smiles: list[str], task: str, system: str, make: Callable[..., Case], *arguments: Any, split: str = ""
    ) -> Case:
        splits = dict.fromkeys(split_in(one, self.sampling, self.trained) for one in smiles)
        case = {"task": task, "system": system, "smiles": ".".join(smiles), "split": split or ", ".join(splits)}
        try:
            return case | {"status": "ok", "reason": ""} | make(*arguments)
        except Exception as error:
            self.calculator.reset()
            failed = failure(error)
            return case | failed | {"reason": f"the teacher: {failed['reason']}"}

    def _shape(self, smiles: str, conformers: int) -> Shape:
        return make_shape(smiles, conformers, self.settings.seed)

    def _optimised(self, numbers: Sequence[int], start: np.ndarray) -> Case:
        limits = self.settings.molecules
        found = optimise(self.calculator, numbers, start, limits.force_limit, limits.max_steps)
        if not found["converged"]:
            raise UserError(f"the optimisation did not end in {limits.max_steps} steps")
        return found

    def _geometry(self, source: Source) -> Case:
        shape = source(1)
        return {
            "smiles": shape.smiles,
            "numbers": shape.numbers.tolist(),
            "bonds": shape.bonds.tolist(),
            "start": shape.starts[0].tolist(),
            "minimum": self._optimised(shape.numbers, shape.starts[0]),
        }

    def _frequencies(self, geometry: Case) -> Case:
        numbers, minimum = geometry["numbers"], np.array(geometry["minimum"]["positions"])
        displacements = [self.settings.vibrations.displacement, *self.settings.vibrations.others]
        return {
            "numbers": numbers,
            "displacements": displacements,
            "frequencies": {
                f"{value:g}": frequencies(self.calculator, numbers, minimum, value).tolist() for value in displacements
            },
        }

    def _torsion(self, shape: Shape, minimum: np.ndarray, torsion: dict[str, Any]) -> Case:
        angles = np.arange(self.settings.torsions.points) * 360.0 / self.settings.torsions.points
        frames = turned(shape.numbers, minimum, torsion["atoms"], torsion["side"], angles)
        return {
            "coordinate": _named(shape.numbers, torsion["atoms"]),
            "x": angles.tolist(),
            **self._scanned(shape.numbers, frames),
        }

    def _dissociation(self, shape: Shape, minimum: np.ndarray, bond: tuple[int, int, list[int]]) -> Case:
        i, j, side = bond
        length = float(np.linalg.norm(minimum[j] - minimum[i]))
        distances = np.arange(PRESSED * length, PULLED * length, self.settings.smoothness.step)
        frames = stretched(minimum, i, j, side, distances)
        moving = {"side": side, "direction": (minimum[j] - minimum[i]).tolist()}
        return {
            "coordinate": _named(shape.numbers, (i, j)),
            "x": distances.tolist(),
            **self._scanned(shape.numbers, frames, moving),
        }

    def _conformers(self, source: Source) -> Case:
        shape = source(self.settings.conformers.tried)
        numbers = shape.numbers.tolist()
        if not shape.torsions:
            return {"smiles": shape.smiles, "numbers": numbers, "frames": [], "energies": []}
        limits = self.settings.molecules
        # Both models are asked at the same geometry: it need not be a minimum to the last digit.
        found = [
            optimise(self.calculator, numbers, start, limits.force_limit, limits.max_steps) for start in shape.starts
        ]
        energies, positions = [one["energy"] for one in found], [np.array(one["positions"]) for one in found]
        kept = distinct(energies, positions)
        return {
            "smiles": shape.smiles,
            "numbers": numbers,
            "frames": [positions[k].round(6).tolist() for k in kept],
            "energies": [energies[k] for k in kept],
        }

    def _dimer(self, dimer: Dimer, distances: np.ndarray) -> Case:
        monomers = [self._monomer(smiles) for smiles in (dimer.first, dimer.second)]
        frames = facing(monomers[0][1], monomers[1][1], dimer.ends, dimer.turn, distances)
        alone = [energies_and_forces(self.calculator, z, r[None])[0][0] for z, r in monomers]
        return {
            "coordinate": f"distance of {dimer.between}",
            "x": distances.tolist(),
            "monomers": [{"numbers": z, "positions": r.tolist()} for z, r in monomers],
            "energies_alone": alone,
            **self._scanned([*monomers[0][0], *monomers[1][0]], frames),
        }

    def _approach(self, dimer: Dimer, distances: np.ndarray) -> Case:
        monomers = [self._monomer(smiles) for smiles in (dimer.first, dimer.second)]
        frames = facing(monomers[0][1], monomers[1][1], dimer.ends, dimer.turn, distances)
        numbers = [*monomers[0][0], *monomers[1][0]]
        moving = {"side": list(range(len(monomers[0][0]), len(numbers))), "direction": [0.0, 0.0, 1.0]}
        return {
            "coordinate": f"distance of {dimer.between}",
            "x": distances.tolist(),
            **self._scanned(numbers, frames, moving),
        }

    def _monomer(self, smiles: str) -> tuple[list[int], np.ndarray]:
        """Atomic numbers and the teacher's minimum [N, 3] A, made once."""
        if smiles not in self._monomers:
            shape = self._shape(smiles, 1)
            minimum = self._optimised(shape.numbers, shape.starts[0])
            self._monomers[smiles] = shape.numbers.tolist(), np.array(minimum["positions"])
        return self._monomers[smiles]

    def _scanned(self, numbers: Sequence[int], frames: np.ndarray, moving: Case | None = None) -> Case:
        """The frames and the teacher's energies (eV) there; with ``moving``, its slopes (eV/A) too."""
        energies, forces = energies_and_forces(self.calculator, numbers, frames)
        case = {
            "numbers": [int(z) for z in numbers],
            "frames": np.round(frames, 6).tolist(),
            "energies": numbers_or_null(energies, 8),
        }
        if moving is not None:
            case |= {
                "moving": moving,
                "slopes": numbers_or_null(slopes(forces, moving["side"], np.array(moving["direction"]))),
            }
        return case


def _named(numbers: Sequence[int], atoms: Sequence[int]) -> str:
    """Atoms for people: ``C0-O1``."""
    from ase.data import chemical_symbols

    return "-".join(f"{chemical_symbols[int(numbers[atom])]}{atom}" for atom in atoms)
