"""Stage ``acceptance``: the student on what the teacher found, one record for each geometry, scan and curve.

It runs in fp64 on the CPU, with forces by autograd: what is found is the model's doing, not that of rounding or of a fast
variant, which are compared with the same model elsewhere.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.acceptance.conformers import compare_conformers
from mlff_distiller.acceptance.crystals import (
    at_volume,
    atoms_of,
    compare_elastic,
    compare_phonons,
    compare_volumes,
    elastic_constants,
    energies_at,
    equation_of_state,
    phonons,
    with_relaxed_atoms,
)
from mlff_distiller.acceptance.dimers import compare_dimers
from mlff_distiller.acceptance.energies import energies_and_forces, numbers_or_null, refused
from mlff_distiller.acceptance.exchange import read_cases
from mlff_distiller.acceptance.minima import compare_minima, optimise
from mlff_distiller.acceptance.settings import AcceptanceSettings
from mlff_distiller.acceptance.smoothness import compare_curves, slopes
from mlff_distiller.acceptance.torsions import compare_profiles
from mlff_distiller.acceptance.vibrations import compare_frequencies, frequencies
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import sha256_of

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.potentials.ase import PotentialCalculator

#: Written into every record.
DTYPE = "float64"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.description = (
        "Compare the student with its teacher: geometries, vibrations, torsions, conformers, dimers, holes."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="student (safetensors)")
    parser.add_argument("--teacher", type=Path, required=True, help="what the teacher found (`acceptance-teacher`)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="JSON of records (kind acceptance) to write")


def run(args: argparse.Namespace) -> int:
    """One record for each case; 0 when they are written, whatever they say."""
    import torch

    torch.set_num_threads(args.threads)
    found = read_cases(args.teacher)
    common = {"checkpoint_sha256": sha256_of(args.checkpoint), "labels": found["teacher"], "dtype": DTYPE}
    student = Student(args.checkpoint, AcceptanceSettings.from_mapping(found["settings"]))
    made = []
    for case in found["cases"]:
        made.append(schema.record("acceptance", variant="student", device="cpu", **common, **student.record(case)))
        print(f"{case['task']} {case['system']}: {made[-1]['status']} {made[-1]['reason']}".rstrip(), flush=True)
    schema.write(args.output, made)
    return 0


class Student:
    """Compares one student with the teacher's cases.

    Args:
        checkpoint: the student (safetensors).
        settings: those by which the teacher's cases were made.
    """

    def __init__(self, checkpoint: Path, settings: AcceptanceSettings) -> None:
        self.settings = settings
        self.calculator = calculator(checkpoint)
        #: As the other, and answers also for atoms closer together than any that it learned.
        self.unrefusing = calculator(checkpoint, allow=("distances",))
        self._minima: dict[str, np.ndarray | str] = {}
        self._crystals: dict[str, Atoms] = {}

    def record(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of the record of a case: what was found, or status and reason."""
        about = {key: case[key] for key in ("task", "system", "smiles", "split", "status", "reason")}
        about |= {"coordinate": case.get("coordinate"), "n_atoms": len(case.get("numbers", [])) or None}
        if case["status"] != "ok":
            return about
        if unknown := self.calculator.limits.unknown_element(np.array(case["numbers"])):
            return about | {"status": "unavailable", "reason": f"atom {unknown[0]} {unknown[1]}"}
        try:
            return about | getattr(self, case["task"])(case)
        except Exception as error:
            return about | failure(error)

    def geometry(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The student's minimum from the same start."""
        limits, system = self.settings.molecules, case["system"]
        self._minima[system] = "the student's optimisation failed"
        found = optimise(self.calculator, case["numbers"], case["start"], limits.force_limit, limits.max_steps)
        fields = compare_minima(case["numbers"], case["bonds"], case["minimum"], found)
        if not found["converged"]:
            self._minima[system] = f"the student's optimisation did not end in {limits.max_steps} steps"
            return fields | {"status": "failed", "reason": self._minima[system]}
        self._minima[system] = np.array(found["positions"])
        return fields

    def frequencies(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Frequencies at the student's own minimum, at every displacement.

        Raises:
            UserError: the student has no minimum of this molecule.
        """
        minimum = self._minima.get(case["system"], "the student has no minimum of it")
        if isinstance(minimum, str):
            raise UserError(minimum)
        ours = {
            f"{value:g}": frequencies(self.calculator, case["numbers"], minimum, value).tolist()
            for value in case["displacements"]
        }
        return compare_frequencies(case["displacements"], case["frequencies"], ours)

    def torsion(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The profile on the teacher's frames."""
        energies, highest = numbers_or_null(self._energies(case), 8), self.settings.torsions.highest
        return compare_profiles(case["x"], case["energies"], energies, highest)

    def conformers(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Energies of the teacher's conformers."""
        return compare_conformers(case["energies"], numbers_or_null(self._energies(case), 8))

    def dimer(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Interaction energies on the teacher's frames."""
        alone = sum(
            energies_and_forces(self.calculator, m["numbers"], np.array([m["positions"]]), refusing=True)[0][0]
            for m in case["monomers"]
        )
        theirs = np.array(case["energies"], dtype=float) - sum(case["energies_alone"])
        ours = self._energies(case) - alone
        highest = self.settings.dimers.highest
        return compare_dimers(case["x"], numbers_or_null(theirs, 8), numbers_or_null(ours, 8), highest)

    def dissociation(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Holes and cusps along the teacher's frames, also where the student refuses unless told otherwise."""
        energies, forces = energies_and_forces(self.unrefusing, case["numbers"], case["frames"], refusing=True)
        accepted = np.isfinite(energies)
        if self.calculator.limits.distances:
            accepted &= ~refused(case["numbers"], case["frames"])
        ours = slopes(forces, case["moving"]["side"], np.array(case["moving"]["direction"]))
        return compare_curves(
            case["x"],
            case["energies"],
            case["slopes"],
            energies,
            ours,
            accepted,
            self.settings.smoothness.hole_depth,
            bond=case["task"] == "dissociation",
        )

    #: Two atoms pushed together; it is computed as a bond is.
    approach = dissociation

    def volume(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Energies of the teacher's cells; the student's own minimum is where elastic constants and phonons are."""
        atoms, limits = atoms_of(case), self.settings.crystals
        energies = numbers_or_null(energies_at(self.calculator, atoms, case["volumes"], refusing=True), 8)
        fields = compare_volumes(len(atoms), case["volumes"], case["energies"], energies)
        best, *_ = equation_of_state(case["volumes"], energies)
        self._crystals[case["system"]] = with_relaxed_atoms(
            self.calculator, at_volume(atoms, best), limits.force_limit, limits.max_steps
        )
        return fields

    def elastic(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Elastic constants at the student's own minimum."""
        limits, atoms = self.settings.crystals, self._crystal(case)
        found = elastic_constants(self.calculator, atoms, limits.strain, limits.force_limit, limits.max_steps)
        return compare_elastic(case["elastic"], found)

    def phonons(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Phonons at the student's own minimum."""
        points, found = phonons(
            self.calculator, self._crystal(case), case["repeats"], self.settings.crystals.displacement
        )
        return compare_phonons(points, case["frequencies"], found)

    def _crystal(self, case: Mapping[str, Any]) -> "Atoms":
        if case["system"] not in self._crystals:
            raise UserError("the student has no minimum of it")
        return self._crystals[case["system"]]

    def _energies(self, case: Mapping[str, Any]) -> np.ndarray:
        """Energies [P] eV of the case's frames; NaN where the student refuses."""
        return energies_and_forces(self.calculator, case["numbers"], np.array(case["frames"]), refusing=True)[0]


def calculator(checkpoint: Path, allow: tuple[str, ...] = ()) -> "PotentialCalculator":
    """The student in fp64 on the CPU as an ASE calculator, as ``StudentCalculator.from_checkpoint`` makes it."""
    import torch

    from mlff_distiller.potentials.ase import PotentialCalculator
    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.student.checkpoint import load_student

    return PotentialCalculator(AutogradPotential(load_student(checkpoint, "cpu", torch.float64, allow=allow)))
