"""Everything that the configuration names, looked at before any work: molecules, the checkpoint, the stages' settings."""

import argparse
from pathlib import Path

from mlff_distiller import records
from mlff_distiller.errors import UserError
from mlff_distiller.files import load_settings
from mlff_distiller.systems import read_systems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--checkpoint", type=Path, help="a student of the user's own")
    parser.add_argument("--settings", default="{}", help="the sections 'student' and 'md' (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="the record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Load and check all of it; the first mistake is a :class:`UserError` that names it."""
    from mlff_distiller.md_settings import settings_with_defaults
    from mlff_distiller.sampling import checked_settings
    from mlff_distiller.training.settings import TrainingSettings

    settings = load_settings(args.settings)
    systems = read_systems(args.systems)
    largest = 100
    if args.checkpoint:
        from mlff_distiller.student.checkpoint import load_student

        largest = load_student(args.checkpoint).config.max_atomic_number
    else:
        TrainingSettings.from_mapping(settings.get("student", {}).get("training", {}))
    for name, atoms in systems.items():
        if atoms.numbers.max() > largest:
            raise UserError(f"{name}: atomic number {atoms.numbers.max()} is beyond the student's {largest}")
    checked_settings(settings.get("student", {}).get("sampling", {}))
    settings_with_defaults(settings.get("md", {}).get("settings", {}))
    checks = [{"name": name, "value": f"{len(a)} atoms, {a.get_chemical_formula()}", "ok": True, "advice": ""}
              for name, a in systems.items()]  # fmt: skip
    records.write(args.output, [records.record("preflight", task="inputs", checks=checks)])
    return 0
