"""Stage ``simulate``: NVE with one variant, judged."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlff_distiller.md import check
from mlff_distiller.md.measures import Slope
from mlff_distiller.md.nve import SimulationFailed, judge, run_nve
from mlff_distiller.md.settings import NveSettings
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.read import read_system
from mlff_distiller.utils import gpus
from mlff_distiller.utils.files import load_settings, write_text
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.gate import refusal_of_md
from mlff_distiller.variants.plain_student import fp64_reference

if TYPE_CHECKING:
    from ase import Atoms

#: NVE of a molecule, or of a periodic box of a liquid.
TASKS = ("nve", "liquid")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    check.add_arguments(parser)
    parser.add_argument("--task", choices=TASKS, default="nve", help="under which the record is filed (default: nve)")
    parser.add_argument("--reference", type=Path, help="record of the fp64 run of this system (stage md-reference)")
    parser.add_argument("--trajectory", type=Path, required=True, help="extxyz to write")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md`` and a trajectory (empty when the variant cannot run)."""
    settings = NveSettings.from_mapping(load_settings(args.settings))
    atoms = read_system(args.system)
    made = artifact.read_metadata(args.variant)
    gpus.take_one(f"{made['variant']} {atoms.info['name']}")
    entry = artifact.shared_fields(made) | {
        "task": args.task,
        "system": atoms.info["name"],
        "n_atoms": len(atoms),
        "ensemble": "NVE",
        "threads": args.threads,
    }
    entry |= {"timestep_fs": settings.timestep_fs, "n_steps": settings.steps}
    trajectory = ""
    if refused := refusal_of_md(made, args.equivalence):
        entry |= refused
    else:
        try:
            reference = read_reference(args.reference) if args.reference else None
            files = VariantFiles.from_arguments(args)
            measured, trajectory = simulate(files, atoms, settings, reference and reference.drift)
            entry |= measured | ({"fp64_energy_trace": reference.energy_trace} if reference else {})
        except SimulationFailed as error:
            # The frames until then show what went wrong.
            trajectory = "".join(error.samples.frames)
            entry |= {"status": "failed", "reason": str(error), "passed": False}
        except Exception as error:
            entry |= failure(error) | {"passed": False}
    write_text(args.trajectory, trajectory)
    schema.write(args.output, [schema.record("md", **entry)])
    return 0


def simulate(
    files: VariantFiles, atoms: "Atoms", settings: NveSettings, reference: Slope | None = None
) -> tuple[dict[str, Any], str]:
    """Run NVE with a variant and judge it; the record's fields and the trajectory as extxyz text.

    Args:
        files: of the variant.
        atoms: the start; left as it is.
        settings: lengths and gates.
        reference: drift of the fp64 run from the same state, if there is one.
    """
    potential = artifact.load_variant(files).potential
    samples = run_nve(atoms, potential, settings, fp64_reference(files.checkpoint))
    return judge(samples, settings, reference), "".join(samples.frames)


class Reference(NamedTuple):
    """What is known of the fp64 run from the same state: its drift, and ``energy_trace`` as in its record."""

    drift: Slope
    energy_trace: dict[str, list[float]]


def read_reference(path: Path) -> Reference | None:
    """The record of the stage ``md-reference``; None where that run failed.

    Raises:
        UserError: no such record.
    """
    found = schema.read(path)[0]
    if found["status"] != "ok":
        return None
    drift = Slope(found["drift_mev_per_atom_ps"], found["drift_stderr_mev_per_atom_ps"])
    return Reference(drift, found["energy_trace"])
