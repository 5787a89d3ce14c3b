"""Checks of the files that the configuration names, before any work: molecules, the checkpoint, a user's own labels."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.records import schema
from mlff_distiller.systems.read import fingerprint, read_systems
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings

if TYPE_CHECKING:
    from ase import Atoms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--checkpoint", type=Path, help="a student of the user's own")
    parser.add_argument("--dataset", type=Path, help="labels of the user's own")
    parser.add_argument("--settings", default="{}", help="how they are read (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="the record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Load and check all of it; the first mistake is a :class:`UserError` that names it."""
    systems = read_systems(args.systems)
    if args.checkpoint:
        check_elements(systems, args.checkpoint)
    elif args.dataset:
        check_covered(systems, args.dataset, OwnDataSettings.from_mapping(load_settings(args.settings)))
    checks = [{"name": name, "value": f"{len(a)} atoms, {a.get_chemical_formula()}", "ok": True, "advice": ""}
              for name, a in systems.items()]  # fmt: skip
    molecules = {name: fingerprint(atoms) for name, atoms in systems.items()}
    schema.write(args.output, [schema.record("preflight", task="inputs", checks=checks, molecules=molecules)])
    return 0


def check_covered(systems: "Mapping[str, Atoms]", dataset: Path, own_data: OwnDataSettings) -> None:
    """Raise a :class:`UserError` for labels that are not right, or that lack an element which ``systems`` have."""
    from ase.data import chemical_symbols

    from mlff_distiller.data.read import read_dataset

    known = set(read_dataset(dataset, own_data).numbers.tolist())
    for name, atoms in systems.items():
        if strange := sorted(set(atoms.numbers.tolist()) - known):
            elements = ", ".join(chemical_symbols[number] for number in strange)
            raise UserError(
                f"{name}: no {elements} in {dataset}, so that its student would know nothing of it; leave the molecule "
                "out of molecules.systems (and of md.systems)"
            )


def check_elements(systems: "Mapping[str, Atoms]", checkpoint: Path) -> None:
    """Raise a :class:`UserError` for an element that the student in ``checkpoint`` cannot know, or never saw in training."""
    from ase.data import chemical_symbols

    from mlff_distiller.student.checkpoint import learned_elements, load_student

    largest = load_student(checkpoint).config.max_atomic_number
    learned = learned_elements(checkpoint)
    known = learned or set(range(largest + 1))
    for name, atoms in systems.items():
        if strange := sorted(set(atoms.numbers.tolist()) - known):
            elements = ", ".join(chemical_symbols[number] for number in strange)
            told = (
                ", ".join(chemical_symbols[number] for number in sorted(learned))
                if learned
                else f"atomic numbers up to {largest}"
            )
            raise UserError(
                f"{name}: the student in {checkpoint} knows nothing of {elements}; it was trained on {told}. "
                "Leave the molecule out, or train a student on data with these elements"
            )
