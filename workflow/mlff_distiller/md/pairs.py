"""Student against teacher as a liquid: pair distributions, self-diffusion and pressure, and how fast each is.

Both run the same Langevin dynamics of the same box at the same density. Two trajectories of finite length differ even with the
same forces: ``floor`` is what the two halves of the teacher's pair distributions differ by, diffusion and pressure have standard
errors. The pressure at a fixed density tells what a barostat would make of it.
"""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md import check
from mlff_distiller.md.langevin import Samples, run_langevin
from mlff_distiller.md.liquid_measures import (
    BIN,
    Estimate,
    beyond,
    diffusion,
    pair_difference,
    pair_distributions,
    pressure,
)
from mlff_distiller.md.pairs_settings import PairsSettings
from mlff_distiller.md.teacher_trajectory import read_samples
from mlff_distiller.utils.errors import UserError
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.potentials.base import Potential


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    check.add_arguments(parser)
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's trajectory of this box (.npz)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md``, task ``pairs``."""
    measured = functools.partial(measure, teacher=args.teacher)
    return check.run_check(args, "pairs", PairsSettings, measured, ensemble="NVT")


def measure(files: VariantFiles, atoms: "Atoms", settings: PairsSettings, teacher: Path) -> dict[str, Any]:
    """Fields of the record: differences, estimates, curves, the gates.

    Args:
        files: of the variant.
        atoms: the start, a periodic box.
        settings: lengths and gates.
        teacher: trajectory of the teacher, from the stage ``md-teacher``.

    Raises:
        UserError: the box is not periodic along all three vectors, or the teacher's trajectory is of other atoms.
    """
    from mlff_distiller.md.dynamics import thermostat

    if not atoms.pbc.all():
        raise UserError(
            f"{atoms.info['name']}: a liquid is periodic along all three vectors; leave it out of md.pairs.systems"
        )
    taught, numbers = read_samples(teacher)
    if not np.array_equal(numbers, atoms.numbers):
        raise UserError(f"{teacher}: a trajectory of other atoms than {atoms.info['name']}; delete it and run again")
    start, potential = atoms.copy(), artifact.load_variant(files).potential
    student = run_langevin(atoms, settings, lambda atoms, settings: thermostat(atoms, potential, settings))
    return {
        "timestep_fs": settings.timestep_fs,
        "n_steps": settings.steps,
        "temperature_k": settings.temperature_k,
        "nvt_steps_per_s": student.steps_per_s,
        "teacher_steps_per_s": taught.steps_per_s,
        **compare(start, with_stresses(start, student, potential), taught, settings),
    }


def with_stresses(atoms: "Atoms", samples: Samples, potential: "Potential") -> Samples:
    """``samples`` with the stresses of ``potential`` at each."""
    from dataclasses import replace

    from mlff_distiller.potentials.ase import PotentialCalculator

    asked, found = atoms.copy(), []
    asked.calc = PotentialCalculator(potential)
    for positions in samples.positions:
        asked.positions = positions
        found.append(asked.get_stress()[:3])
    return replace(samples, stresses=np.array(found))


def compare(atoms: "Atoms", student: Samples, teacher: Samples, settings: PairsSettings) -> dict[str, Any]:
    """Fields of the record that tell two trajectories of ``atoms`` (cell, elements, molecules) apart; its gates among them."""
    curves = {name: pair_distributions(atoms, each.positions) for name, each in
              (("student", student), ("teacher", teacher))}  # fmt: skip
    middle = len(teacher.positions) // 2
    halves = [pair_distributions(atoms, teacher.positions[part]) for part in (slice(middle), slice(middle, None))]
    difference, worst = pair_difference(curves["student"], curves["teacher"])
    moved = {name: diffusion(atoms, each.positions, each.interval_fs) for name, each in
             (("student", student), ("teacher", teacher))}  # fmt: skip
    gates = settings.gates
    error = beyond(moved["student"], moved["teacher"]) / max(abs(moved["teacher"].value), 1e-12)
    found: dict[str, Any] = {
        "pair_difference": difference,
        "worst_pair": worst,
        "floor": pair_difference(*halves)[0],
        "pair_distributions": {
            name: {pair: values.round(4).tolist() for pair, values in each.items()} for name, each in curves.items()
        },
        "bin_a": BIN,
        "gates": {
            "pair_difference": check.at_most(difference, gates.pair_difference),
            "diffusion_error": check.at_most(error, gates.diffusion_error),
        },
        **_fields(moved, "diffusion", "e9_m2_s"),
    }
    # Not every teacher has a stress.
    if student.stresses is not None and teacher.stresses is not None:
        pressures = {
            name: pressure(each.stresses, len(atoms), atoms.get_volume(), settings.temperature_k)
            for name, each in (("student", student), ("teacher", teacher))
        }
        found |= _fields(pressures, "pressure", "gpa")
        apart = beyond(pressures["student"], pressures["teacher"])
        found["gates"]["pressure_error_gpa"] = check.at_most(apart, gates.pressure_error_gpa)
    return found


def _fields(found: dict[str, Estimate], what: str, unit: str) -> dict[str, float]:
    return {
        f"{prefix}{what}_{part}{unit}": value
        for name, prefix in (("student", ""), ("teacher", "teacher_"))
        for part, value in (("", found[name].value), ("stderr_", found[name].stderr))
    }
