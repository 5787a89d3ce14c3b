"""What the teacher prepares and computes of crystals (see :mod:`.cases`)."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.acceptance.crystals import (
    SEARCHED,
    at_volume,
    atoms_of,
    elastic_constants,
    energies_at,
    equation_of_state,
    phonons,
    repeats_for,
    with_relaxed_atoms,
)
from mlff_distiller.acceptance.energies import numbers_or_null
from mlff_distiller.acceptance.settings import Crystals
from mlff_distiller.records.outcome import failure
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

Case = dict[str, Any]
#: Why there are no elastic constants where the configuration says that the teacher's stress is wrong.
WITHOUT_STRESS = "elastic constants need the teacher's stress, and teacher.stress is false"


def crystal_cases(
    calculator: "Calculator", settings: Crystals, crystals: "Mapping[str, Atoms]", split: str, with_stress: bool = True
) -> Iterator[Case]:
    """Energy along the volume, elastic constants and phonons of each crystal, by the teacher.

    Args:
        calculator: the teacher's.
        settings: of the comparison.
        crystals: by name; molecules are passed over.
        split: the part of the student's data that they belong to.
        with_stress: False: the teacher's stress is not to be asked for, so there are no elastic constants.
    """

    def case(task: str, name: str, make: Callable[..., Case], *arguments: Any) -> Case:
        about = {"task": task, "system": name, "smiles": "", "split": split}
        try:
            return about | {"status": "ok", "reason": ""} | make(calculator, settings, *arguments)
        except Exception as error:
            calculator.reset()
            failed = failure(error)
            return about | failed | {"reason": f"the teacher: {failed['reason']}"}

    for name, atoms in crystals.items():
        if not atoms.pbc.any():
            continue
        if reason := unserved(atoms, settings):
            about = {"task": "volume", "system": name, "smiles": "", "split": split}
            yield about | {"status": "unavailable", "reason": reason}
            continue
        volume = case("volume", name, _volume, atoms)
        yield volume
        if volume["status"] == "ok":
            if with_stress:
                yield case("elastic", name, _elastic, volume)
            else:
                about = {"task": "elastic", "system": name, "smiles": "", "split": split}
                yield about | {"status": "unavailable", "reason": WITHOUT_STRESS}
            yield case("phonons", name, _phonons, volume)


def unserved(atoms: "Atoms", settings: Crystals) -> str:
    """Why a structure is not compared as a crystal; empty where it is."""
    if not atoms.pbc.all():
        return "not periodic along all three vectors"
    if len(atoms) > settings.most_atoms:
        return f"{len(atoms)} atoms in the cell, acceptance.crystals.most_atoms is {settings.most_atoms}: give the smallest cell"
    return ""


def _volume(calculator: "Calculator", settings: Crystals, given: "Atoms") -> Case:
    searched = given.get_volume() * SEARCHED
    energies = energies_at(calculator, given, searched)
    if not np.isfinite(energies).any():
        raise UserError("no energy at any volume")
    # The equation of state holds near the minimum alone.
    lowest = int(np.nanargmin(energies))
    near = slice(max(lowest - 3, 0), lowest + 4)
    best, *_ = equation_of_state(searched[near], energies[near])
    atoms = with_relaxed_atoms(calculator, at_volume(given, best), settings.force_limit, settings.max_steps)
    volumes = best * np.linspace(1 - settings.volume_range, 1 + settings.volume_range, settings.volumes)
    energies = energies_at(calculator, atoms, volumes)
    best, *_ = equation_of_state(volumes, energies.tolist())
    return {
        "numbers": atoms.numbers.tolist(),
        "fractions": atoms.get_scaled_positions().tolist(),
        "cell": at_volume(atoms, best).cell.array.tolist(),
        "volumes": volumes.tolist(),
        "energies": numbers_or_null(energies, 8),
    }


def _elastic(calculator: "Calculator", settings: Crystals, volume: Case) -> Case:
    atoms = with_relaxed_atoms(calculator, atoms_of(volume), settings.force_limit, settings.max_steps)
    constants = elastic_constants(calculator, atoms, settings.strain, settings.force_limit, settings.max_steps)
    return {"numbers": volume["numbers"], "elastic": constants.tolist()}


def _phonons(calculator: "Calculator", settings: Crystals, volume: Case) -> Case:
    atoms = with_relaxed_atoms(calculator, atoms_of(volume), settings.force_limit, settings.max_steps)
    repeats = repeats_for(atoms, settings.supercell_width)
    points, found = phonons(calculator, atoms, repeats, settings.displacement)
    return {"numbers": volume["numbers"], "repeats": repeats, "points": points, "frequencies": found.tolist()}
