"""When a variant counts as the same as the student that it was made from, with the plain student in fp64 as the reference.

A variant passes on a system when, over a few rattled geometries, its error against the fp64 reference stays within
``factor`` times the error of the plain student in fp32, plus a tenth of ``tolerance`` (PyTorch's own rule for compiled
models, ``torch._dynamo.utils.same``), for the forces (RMSE over components) and for the energy per atom. The tolerances by
class of precision are NequIP's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


def answers(potential: "Potential", frames: "list[Atoms]") -> "list[Answer]":
    """Energy ([1] eV) and forces ([N, 3] eV/A) of each frame, float64 on the CPU."""
    from mlff_distiller.systems.batch import Batch

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
