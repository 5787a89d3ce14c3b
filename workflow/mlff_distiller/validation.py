"""Equivalence of a variant to the student it was made from, with fp64 as the referee.

The referee is the plain student in fp64. A variant passes on a system when, over a few shaken geometries, its error
against the referee stays within ``factor`` times the error of the plain student in fp32, plus a tenth of ``tolerance``
(PyTorch's own rule for compiled models, ``torch._dynamo.utils.same``), for the forces (RMSE over components) and for the
energy per atom. Tolerances by class of precision are NequIP's.
"""

import argparse
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller import records
from mlff_distiller.systems import read_systems
from mlff_distiller.variants import artifact

if TYPE_CHECKING:
    from ase import Atoms
    from torch import Tensor

    from mlff_distiller.potentials.base import Potential

    Answer = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Tolerance:
    """``factor`` without unit; ``tolerance`` in eV/A for forces and eV/atom for energies."""

    factor: float
    tolerance: float


TOLERANCES = {
    "float32": Tolerance(2.0, 5e-5),
    "tf32": Tolerance(2.0, 2e-3),
    "16bit": Tolerance(3.0, 2e-3),
}


def shaken(atoms: "Atoms", n_frames: int, amplitude: float, seed: int) -> "list[Atoms]":
    """``n_frames`` copies: the geometry itself, then copies with each coordinate moved by a normal deviate of ``amplitude`` A."""
    import numpy as np

    generator = np.random.default_rng(seed)
    frames = [atoms.copy() for _ in range(n_frames)]
    for frame in frames[1:]:
        frame.positions += amplitude * generator.standard_normal(frame.positions.shape)
    return frames


def answers(potential: "Potential", frames: "list[Atoms]") -> "list[Answer]":
    """Energy ([1] eV) and forces ([N, 3] eV/A) of each frame, float64 on the CPU."""
    from mlff_distiller.batch import Batch

    found = (potential(*Batch.from_atoms([frame], potential.device, potential.dtype)) for frame in frames)
    return [(energy.double().cpu(), forces.double().cpu()) for energy, forces in found]


def errors_against(exact: "list[Answer]", found: "list[Answer]") -> dict[str, float]:
    """Errors over the frames of one system, of what :func:`answers` gives.

    Returns:
        ``force_rmse``, ``force_max`` in eV/A and ``energy_rmse`` in eV/atom; NaN when any result is not finite.
    """
    import torch

    force_errors, energy_errors = [], []
    for (exact_energy, exact_forces), (energy, forces) in zip(exact, found, strict=True):
        force_errors.append((forces - exact_forces).flatten())
        energy_errors.append((energy - exact_energy) / len(forces))
    force_error, energy_error = torch.cat(force_errors), torch.cat(energy_errors)
    return {
        "force_rmse": float(force_error.square().mean().sqrt()),
        "force_max": float(force_error.abs().max()) if bool(torch.isfinite(force_error).all()) else float("nan"),
        "energy_rmse": float(energy_error.square().mean().sqrt()),
    }


def judge(variant: dict[str, float], eager: dict[str, float], tolerance: Tolerance) -> str:
    """Why a variant is not equivalent, in words; empty when it is. Arguments as :func:`errors_against` returns them."""
    complaints = []
    for key, what, unit in (("force_rmse", "force RMSE", "eV/A"), ("energy_rmse", "energy error", "eV/atom")):
        limit = tolerance.factor * eager[key] + tolerance.tolerance / 10
        # Written so that NaN fails.
        if not variant[key] <= limit:
            complaints.append(f"{what} against fp64 {variant[key]:.2e} {unit}, allowed {limit:.2e}")
    return "; ".join(complaints)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--frames", type=int, default=4, help="geometries per molecule (default %(default)s)")
    parser.add_argument(
        "--amplitude", type=float, default=0.05, help="how far they are shaken, A (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``equivalence`` per system."""
    systems = read_systems(args.systems)
    records.write(args.output, check_equivalence(args, systems))
    return 0


def check_equivalence(args: argparse.Namespace, systems: "dict[str, Atoms]") -> list[dict[str, Any]]:
    """The records of the stage; a variant that is not there gets records that say so."""
    made = artifact.read_metadata(args.variant)
    common = artifact.shared_fields(made)
    try:
        loaded = artifact.load_variant(args)
    except artifact.VariantNotThere as gone:
        return [
            records.record(
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
        from mlff_distiller.batch import Batch

        # Nothing to be equal to. It must run, all the same.
        for atoms in systems.values():
            loaded.potential(*Batch.from_atoms([atoms], loaded.potential.device, loaded.potential.dtype))
        fields = common | {"equivalent": None, "reason": "another network than the student: not compared with it"}
        return [
            records.record("equivalence", **fields, system=name, n_atoms=len(atoms)) for name, atoms in systems.items()
        ]
    import torch

    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.student.checkpoint import load_student

    device = made["device"]
    # The truth does not depend on where it is computed; the eager error does.
    referee = AutogradPotential(load_student(args.checkpoint, "cpu", torch.float64, neighbors="native"))
    eager = AutogradPotential(load_student(args.checkpoint, device, torch.float32, neighbors="native"))
    tolerance = TOLERANCES[loaded.precision]
    rows = []
    for name, atoms in systems.items():
        frames = shaken(atoms, args.frames, args.amplitude, args.seed)
        exact = answers(referee, frames)
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
            traceback.print_exc()
            reason = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
            )
        entry |= {"equivalent": not reason, "status": "failed" if reason else "ok", "reason": reason}
        rows.append(records.record("equivalence", **entry))
    return rows
