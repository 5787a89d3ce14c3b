"""Stage ``validate``: whether one variant equals the student; the rule is that of :mod:`mlff_distiller.variants.equivalence`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.systems.read import read_systems
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.equivalence import TOLERANCES, answers, errors_against, judge
from mlff_distiller.variants.plain_student import fp32_baseline, fp64_reference

if TYPE_CHECKING:
    from ase import Atoms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--frames", type=int, default=4, help="geometries per molecule (default %(default)s)")
    parser.add_argument(
        "--amplitude", type=float, default=0.05, help="how far atoms are displaced, A (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``equivalence`` per system."""
    systems = read_systems(args.systems)
    files = VariantFiles.from_arguments(args)
    schema.write(args.output, check_equivalence(files, systems, args.frames, args.amplitude, args.seed))
    return 0


def check_equivalence(
    files: VariantFiles, systems: "dict[str, Atoms]", n_frames: int = 4, amplitude: float = 0.05, seed: int = 0
) -> list[dict[str, Any]]:
    """One record for each system; for a variant that was not built, records with the reason.

    Args:
        files: of the variant.
        systems: molecules by name.
        n_frames: geometries of each.
        amplitude: how far atoms are displaced, A.
        seed: of the displacements.
    """
    made = artifact.read_metadata(files.variant)
    common = artifact.shared_fields(made)
    try:
        loaded = artifact.load_variant(files)
    except artifact.VariantNotThere as gone:
        return [
            schema.record(
                "equivalence",
                **common,
                system=name,
                n_atoms=len(atoms),
                equivalent=False,
                status=gone.status,
                reason=str(gone),
            )
            for name, atoms in systems.items()
        ]
    if made.get("another_network"):
        from mlff_distiller.systems.batch import Batch

        # There is nothing to compare it with, but it must run.
        for atoms in systems.values():
            loaded.potential(*Batch.from_atoms([atoms], loaded.potential.device, loaded.potential.dtype))
        fields = common | {"equivalent": None, "reason": "another network than the student: not compared with it"}
        return [
            schema.record("equivalence", **fields, system=name, n_atoms=len(atoms)) for name, atoms in systems.items()
        ]
    # The reference may be computed anywhere; eager's error depends on the device.
    reference, eager = fp64_reference(files.checkpoint), fp32_baseline(files.checkpoint, made["device"])
    tolerance = TOLERANCES[loaded.precision]
    rows = []
    for name, atoms in systems.items():
        frames = rattled(atoms, n_frames, amplitude, seed)
        exact = answers(reference, frames)
        plain = errors_against(exact, answers(eager, frames))
        entry = common | {
            "system": name,
            "n_atoms": len(atoms),
            "tolerance_mev_per_a": 1e3 * tolerance.tolerance,
            "eager_force_rmse_mev_per_a": 1e3 * plain["force_rmse"],
            "eager_energy_error_mev_per_atom": 1e3 * plain["energy_rmse"],
        }
        try:
            errors = errors_against(exact, answers(loaded.potential, frames))
            reason = judge(errors, plain, tolerance)
            entry |= {
                "force_rmse_mev_per_a": 1e3 * errors["force_rmse"],
                "force_max_mev_per_a": 1e3 * errors["force_max"],
                "energy_error_mev_per_atom": 1e3 * errors["energy_rmse"],
            }
        except Exception as error:
            reason = failure(error)["reason"]
        entry |= {"equivalent": not reason, "status": "failed" if reason else "ok", "reason": reason}
        rows.append(schema.record("equivalence", **entry))
    return rows
