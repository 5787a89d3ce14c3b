"""Check of the teacher before any work: it can be made, and labels a molecule of the run."""

import argparse
import time
from pathlib import Path

from mlff_distiller.data.teacher import LabelError, label, make_calculator, teacher_name
from mlff_distiller.data.teacher_settings import TeacherInput
from mlff_distiller.records import schema
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules; the smallest is labeled")
    parser.add_argument("--settings", default="{}", help="with a 'teacher' mapping (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="the record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Make the teacher and label the smallest molecule; what goes wrong is a :class:`UserError`."""
    teacher = TeacherInput.from_mapping(load_settings(args.settings)).teacher.to_mapping()
    systems = read_systems(args.systems)
    name = min(systems, key=lambda name: len(systems[name]))
    calculator = make_calculator(teacher)
    started = time.perf_counter()
    try:
        energy, _ = label(systems[name], calculator)
    except LabelError as error:
        raise UserError(
            f"teacher: {teacher_name(teacher)} cannot label {name}: {error}; mend teacher.calculator or teacher.arguments"
        ) from None
    value = f"{teacher_name(teacher)}: {name} has {energy:.6g} eV, in {time.perf_counter() - started:.2g} s"
    checks = [{"name": "teacher", "value": value, "ok": True, "advice": ""}]
    schema.write(args.output, [schema.record("preflight", task="teacher", checks=checks)])
    return 0
