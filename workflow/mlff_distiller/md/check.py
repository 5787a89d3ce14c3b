"""What the stages of MD checks have in common: one variant, one system, always one record."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.read import read_system
from mlff_distiller.utils import gpus
from mlff_distiller.utils.files import load_settings
from mlff_distiller.utils.settings import Settings
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.gate import refusal_of_md

if TYPE_CHECKING:
    from ase import Atoms

S = TypeVar("S", bound=Settings)
#: (files of the variant, system, settings) -> fields of the record, ``gates`` among them.
Measure = Callable[[VariantFiles, "Atoms", S], dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of a check."""
    artifact.add_arguments(parser)
    parser.add_argument("--equivalence", type=Path, required=True, help="records of the variant's equivalence check")
    parser.add_argument("--system", required=True, help="file of the molecule")
    parser.add_argument("--settings", default="{}", help="lengths and gates of the check (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="record to write (JSON)")


def run_check(args: argparse.Namespace, task: str, kind: type[S], measure: Measure[S], **fields: Any) -> int:
    """Write the record of ``measure``; if the variant is missing or an error is raised, the record has the reason."""
    settings = kind.from_mapping(load_settings(args.settings))
    atoms = read_system(args.system)
    made = artifact.read_metadata(args.variant)
    gpus.take_one(f"{made['variant']} {atoms.info['name']} {task}")
    entry = (
        artifact.shared_fields(made)
        | {"task": task, "system": atoms.info["name"], "n_atoms": len(atoms), "threads": args.threads}
        | fields
    )
    if refused := refusal_of_md(made, args.equivalence):
        entry |= refused
    else:
        try:
            entry |= measure(VariantFiles.from_arguments(args), atoms, settings)
            entry["passed"] = all(gate["passed"] for gate in entry["gates"].values())
        except Exception as error:
            entry |= failure(error) | {"passed": False}
    schema.write(args.output, [schema.record("md", **entry)])
    return 0


def at_most(value: float, limit: float) -> dict[str, Any]:
    """A gate that ``value`` passes up to ``limit``."""
    return {"value": value, "limit": limit, "passed": bool(value <= limit)}
