"""When a variant counts as the same as the student that it was made from, with the plain student in fp64 as the reference.

A variant passes on a case (:mod:`mlff_distiller.variants.cases`) when, over its geometries, its error against the fp64
reference stays within ``factor`` times the error of the plain student in fp32, plus a tenth of ``tolerance`` (PyTorch's own
rule for compiled models, ``torch._dynamo.utils.same``), for the forces (RMSE over components), for the energy per atom, and,
of periodic cases and variants that give one, for the stress: as stress times volume per atom (RMSE over components), which
is an energy per atom, too, and does not shrink as a box has more vacuum. Energies and forces that come with a stress count
like those without. The tolerances by class of precision are NequIP's.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from mlff_distiller.potentials.base import Potential
    from mlff_distiller.variants.cases import Case


@dataclass(frozen=True)
class Tolerance:
    """``factor`` without unit; ``tolerance`` in eV/A for forces, in eV/atom for energies and for stresses times volume."""

    factor: float
    tolerance: float


#: What is judged: errors as :func:`errors_against` names them, in words, and their unit.
JUDGED = (
    ("force_rmse", "force RMSE", "eV/A"),
    ("energy_rmse", "energy error", "eV/atom"),
    ("virial_rmse", "error of stress times volume", "eV/atom"),
)
TOLERANCES = {
    "float32": Tolerance(2.0, 5e-5),
    "tf32": Tolerance(2.0, 2e-3),
    "16bit": Tolerance(3.0, 2e-3),
}


class Answer(NamedTuple):
    """What a potential says of one frame, float64 on the CPU; with stress, energies and forces of both calls."""

    energies: "Tensor"  # [B] or [2B] eV/atom
    forces: "Tensor"  # [N, 3] or [2N, 3] eV/A
    virials: "Tensor | None" = None  # [B, 3, 3] eV/atom: stress times volume, per atom


def answers(potential: "Potential", case: "Case", stress: bool = False) -> list[Answer]:
    """The answer to each frame; ``stress`` asks for that, too, of a case that has one."""
    import torch

    from mlff_distiller.systems.batch import Batch

    found = []
    for frame in case.frames:
        inputs = Batch.from_atoms(frame, potential.device, potential.dtype)
        counts = torch.tensor([len(atoms) for atoms in frame])
        energies, forces = potential(*inputs)
        answer = Answer(energies.double().cpu() / counts, forces.double().cpu())
        if stress:
            energies, forces, stresses = potential.with_stress(*inputs)
            per_atom = torch.tensor([atoms.get_volume() for atoms in frame], dtype=torch.float64) / counts
            answer = Answer(
                torch.cat([answer.energies, energies.double().cpu() / counts]),
                torch.cat([answer.forces, forces.double().cpu()]),
                stresses.double().cpu() * per_atom[:, None, None],
            )
        found.append(answer)
    return found


def errors_against(exact: list[Answer], found: list[Answer]) -> dict[str, float]:
    """Errors over the frames of one case, of what :func:`answers` gives.

    Returns:
        ``force_rmse``, ``force_max`` in eV/A, ``energy_rmse`` in eV/atom and, where stresses were asked for, ``virial_rmse``
        in eV/atom; NaN when any result is not finite.
    """
    import torch

    pairs = list(zip(exact, found, strict=True))
    forces = torch.cat([(answer.forces - right.forces).flatten() for right, answer in pairs])
    errors = {
        "force_rmse": _rms(forces),
        "force_max": float(forces.abs().max()) if bool(torch.isfinite(forces).all()) else float("nan"),
        "energy_rmse": _rms(torch.cat([answer.energies - right.energies for right, answer in pairs])),
    }
    virials = [answer.virials - right.virials for right, answer in pairs
               if answer.virials is not None and right.virials is not None]  # fmt: skip
    return errors | ({"virial_rmse": _rms(torch.cat(virials))} if virials else {})


def _rms(errors: "Tensor") -> float:
    return float(errors.square().mean().sqrt())


def limits(eager: dict[str, float], tolerance: Tolerance) -> dict[str, float]:
    """What a variant's ``force_rmse`` (eV/A), ``energy_rmse`` and ``virial_rmse`` (eV/atom) may be where eager's in fp32 are
    these; of those that are there."""
    return {key: tolerance.factor * eager[key] + tolerance.tolerance / 10 for key, _, _ in JUDGED if key in eager}


def judge(variant: dict[str, float], eager: dict[str, float], tolerance: Tolerance) -> str:
    """Why a variant is not equivalent, in words; empty when it is. Arguments as :func:`errors_against` returns them."""
    complaints = []
    allowed = limits(eager, tolerance)
    for key, what, unit in JUDGED:
        # Written so that NaN fails.
        if key in allowed and not variant[key] <= allowed[key]:
            complaints.append(f"{what} against fp64 {variant[key]:.2e} {unit}, allowed {allowed[key]:.2e}")
    return "; ".join(complaints)
