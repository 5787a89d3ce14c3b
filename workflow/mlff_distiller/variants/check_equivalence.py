"""Stage ``validate``: whether one variant equals the student; the rule is that of :mod:`mlff_distiller.variants.equivalence`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils import gpus
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.cases import MOLECULE, Case, cases_of
from mlff_distiller.variants.equivalence import TOLERANCES, answers, errors_against, judge, limits
from mlff_distiller.variants.plain_student import fp32_baseline, fp64_reference

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.potentials.base import Potential


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
    """One record of kind ``equivalence`` per case."""
    gpus.take_one(str(args.variant))
    systems = read_systems(args.systems)
    files = VariantFiles.from_arguments(args)
    schema.write(args.output, check_equivalence(files, systems, args.frames, args.amplitude, args.seed))
    return 0


def check_equivalence(
    files: VariantFiles, systems: "dict[str, Atoms]", n_frames: int = 4, amplitude: float = 0.05, seed: int = 0
) -> list[dict[str, Any]]:
    """One record for each case (:mod:`mlff_distiller.variants.cases`); for a variant that was not built, the reason per molecule.

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
                case=MOLECULE,
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
            schema.record("equivalence", **fields, system=name, case=MOLECULE, n_atoms=len(atoms))
            for name, atoms in systems.items()
        ]
    # The reference may be computed anywhere; eager's error depends on the device.
    reference, eager = fp64_reference(files.checkpoint), fp32_baseline(files.checkpoint, made["device"])
    common |= {"precision": loaded.precision}
    cases = cases_of(systems, reference.limits.elements, reference.cutoff, n_frames, amplitude, seed)
    return [_record(case, common, reference, eager, loaded.potential) for case in cases]


def _record(
    case: Case,
    common: dict[str, Any],
    reference: "Potential",
    eager: "Potential",
    potential: "Potential",
) -> dict[str, Any]:
    tolerance = TOLERANCES[common["precision"]]
    stress = case.has_stress and potential.has_stress
    exact = answers(reference, case, stress)
    plain = errors_against(exact, answers(eager, case, stress))
    allowed = limits(plain, tolerance)
    entry = common | {
        "system": case.name,
        "case": case.kind,
        "n_atoms": case.n_atoms,
        "batch": case.batch,
        "tolerance_mev_per_a": 1e3 * tolerance.tolerance,
        "force_limit_mev_per_a": 1e3 * allowed["force_rmse"],
        "energy_limit_mev_per_atom": 1e3 * allowed["energy_rmse"],
        "eager_force_rmse_mev_per_a": 1e3 * plain["force_rmse"],
        "eager_energy_error_mev_per_atom": 1e3 * plain["energy_rmse"],
    }
    if stress:
        entry["virial_limit_mev_per_atom"] = 1e3 * allowed["virial_rmse"]
        entry["eager_virial_error_mev_per_atom"] = 1e3 * plain["virial_rmse"]
    try:
        errors = errors_against(exact, answers(potential, case, stress))
    except NotImplementedError as refusal:
        # Refused by name is no wrong answer; the molecules of the run are what it was asked for.
        status = "failed" if case.kind == MOLECULE else "unavailable"
        return schema.record("equivalence", **entry, equivalent=False, status=status, reason=str(refusal))
    except Exception as error:
        return schema.record("equivalence", **entry, equivalent=False, **failure(error))
    reason = judge(errors, plain, tolerance)
    entry |= {
        "force_rmse_mev_per_a": 1e3 * errors["force_rmse"],
        "force_max_mev_per_a": 1e3 * errors["force_max"],
        "energy_error_mev_per_atom": 1e3 * errors["energy_rmse"],
    }
    if stress:
        entry["virial_error_mev_per_atom"] = 1e3 * errors["virial_rmse"]
    return schema.record(
        "equivalence", **entry, equivalent=not reason, status="failed" if reason else "ok", reason=reason
    )
