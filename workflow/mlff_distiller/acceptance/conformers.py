"""Conformers: which are different, and whether the student ranks them as the teacher does."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlff_distiller.acceptance.energies import relative
from mlff_distiller.acceptance.minima import rmsd
from mlff_distiller.systems.units import KCAL_PER_MOL

#: Conformers are equal when their energies differ by less than this (kcal/mol) ...
SAME_ENERGY = 0.02
#: ... or their atoms, after alignment, by less than this (A).
SAME_GEOMETRY = 0.1


def distinct(energies: Sequence[float], positions: Sequence[np.ndarray]) -> list[int]:
    """Indices of the different conformers, lowest energy first.

    Mirror images and molecules with equal atoms in another order have the same energy.

    Args:
        energies: [c] eV.
        positions: [c] of [N, 3] A.
    """
    kept: list[int] = []
    for index in np.argsort(energies, kind="stable"):
        same = (
            abs(energies[index] - energies[other]) / KCAL_PER_MOL < SAME_ENERGY
            or rmsd(positions[index], positions[other]) < SAME_GEOMETRY
            for other in kept
        )
        if not any(same):
            kept.append(int(index))
    return kept


def compare_conformers(teacher: Sequence[float], student: Sequence[float | None]) -> dict[str, Any]:
    """Fields of a ``conformers`` record, of energies [c] eV at the same geometries.

    Raises:
        ValueError: fewer than two conformers that both have an energy.
    """
    from scipy.stats import spearmanr

    both = [(one, other) for one, other in zip(teacher, student, strict=True) if other is not None]
    if len(both) < 2:
        raise ValueError("fewer than two different conformers")
    theirs, ours = (np.array(energies) for energies in zip(*both, strict=True))
    errors = ((ours - ours.mean()) - (theirs - theirs.mean())) / KCAL_PER_MOL
    return {
        "n_conformers": len(both),
        "refused": len(teacher) - len(both),
        "conformer_mae_kcal_mol": float(np.abs(errors).mean()),
        "spread_kcal_mol": float(np.ptp(theirs) / KCAL_PER_MOL),
        "spearman": float(spearmanr(theirs, ours).statistic) if len(both) > 2 else None,
        "same_lowest": bool(np.argmin(theirs) == np.argmin(ours)),
        "energies": {
            "teacher_kcal_mol": np.round(relative(theirs), 4).tolist(),
            "student_kcal_mol": np.round(relative(ours), 4).tolist(),
        },
    }
