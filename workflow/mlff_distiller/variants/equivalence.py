"""When a variant counts as the same as the student that it was made from, with the plain student in fp64 as the reference.

A variant passes on a case (:mod:`mlff_distiller.variants.cases`) when, over its geometries, its error against the fp64
reference stays within ``factor`` times the error of the plain student in fp32, plus a tenth of ``tolerance`` (PyTorch's own
rule for compiled models, ``torch._dynamo.utils.same``), for the forces (RMSE over components) and for the energy per atom.
The tolerances by class of precision are NequIP's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mlff_distiller.potentials.base import Potential
    from mlff_distiller.variants.cases import Case

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


def answers(potential: "Potential", case: "Case") -> "list[Answer]":
    """Energies ([B] eV per atom) and forces ([N, 3] eV/A) of each frame, float64 on the CPU."""
    import torch

    from mlff_distiller.systems.batch import Batch

    found = []
    for frame in case.frames:
        energies, forces = potential(*Batch.from_atoms(frame, potential.device, potential.dtype))
        found.append((energies.double().cpu() / torch.tensor([len(atoms) for atoms in frame]), forces.double().cpu()))
    return found


def errors_against(exact: "list[Answer]", found: "list[Answer]") -> dict[str, float]:
    """Errors over the frames of one case, of what :func:`answers` gives.

    Returns:
        ``force_rmse``, ``force_max`` in eV/A and ``energy_rmse`` in eV/atom; NaN when any result is not finite.
    """
    import torch

    force_errors, energy_errors = [], []
    for (exact_energy, exact_forces), (energy, forces) in zip(exact, found, strict=True):
        force_errors.append((forces - exact_forces).flatten())
        energy_errors.append(energy - exact_energy)
    force_error, energy_error = torch.cat(force_errors), torch.cat(energy_errors)
    return {
        "force_rmse": float(force_error.square().mean().sqrt()),
        "force_max": float(force_error.abs().max()) if bool(torch.isfinite(force_error).all()) else float("nan"),
        "energy_rmse": float(energy_error.square().mean().sqrt()),
    }


def limits(eager: dict[str, float], tolerance: Tolerance) -> dict[str, float]:
    """What a variant's ``force_rmse`` (eV/A) and ``energy_rmse`` (eV/atom) may be where eager's in fp32 are these."""
    return {key: tolerance.factor * eager[key] + tolerance.tolerance / 10 for key in ("force_rmse", "energy_rmse")}


def judge(variant: dict[str, float], eager: dict[str, float], tolerance: Tolerance) -> str:
    """Why a variant is not equivalent, in words; empty when it is. Arguments as :func:`errors_against` returns them."""
    complaints = []
    allowed = limits(eager, tolerance)
    for key, what, unit in (("force_rmse", "force RMSE", "eV/A"), ("energy_rmse", "energy error", "eV/atom")):
        # Written so that NaN fails.
        if not variant[key] <= allowed[key]:
            complaints.append(f"{what} against fp64 {variant[key]:.2e} {unit}, allowed {allowed[key]:.2e}")
    return "; ".join(complaints)
