"""Rigid torsion profiles: one side of a single bond is turned, all other coordinates stay."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.acceptance.energies import curve, points_of_both, relative

if TYPE_CHECKING:
    from mlff_distiller.data.geometry import Shape

#: A bond angle beyond this has no torsion, degrees.
STRAIGHT = 170.0


def torsions_of(shape: "Shape", positions: np.ndarray, most: int) -> list[dict[str, Any]]:
    """Up to ``most`` torsions about single bonds: ``atoms`` [4] and the atoms that turn, ``side`` [n].

    Those between heavier atoms come first. A bond with a straight angle at one of its ends has none.

    Args:
        shape: the molecule, see :func:`mlff_distiller.data.geometry.make_shape`.
        positions: [N, 3] A.
        most: at most so many.
    """
    from ase import Atoms

    atoms, found = Atoms(shape.numbers, positions), []
    for i, j, side in shape.torsions:
        ends = [_partner(shape, one, other) for one, other in ((i, j), (j, i))]
        if max(atoms.get_angle(ends[0], i, j), atoms.get_angle(i, j, ends[1])) < STRAIGHT:
            found.append({"atoms": [ends[0], i, j, ends[1]], "side": np.flatnonzero(side).tolist()})
    found.sort(key=lambda one: -sum(int(shape.numbers[atom]) for atom in one["atoms"]))
    return found[:most]


def turned(
    numbers: Sequence[int], positions: np.ndarray, atoms: Sequence[int], side: Sequence[int], angles: np.ndarray
) -> np.ndarray:
    """Geometries [P, N, 3] A with the torsion ``atoms`` at each of ``angles`` [P] degrees; ``side`` are the atoms that turn."""
    from ase import Atoms

    frames = []
    for angle in angles:
        moved = Atoms(numbers, positions)
        moved.set_dihedral(*atoms, float(angle), indices=list(side))
        frames.append(moved.positions)
    return np.array(frames)


def compare_profiles(
    angles: Sequence[float],
    teacher: Sequence[float | None],
    student: Sequence[float | None],
    highest: float = math.inf,
) -> dict[str, Any]:
    """Fields of a ``torsion`` record; each profile counts from its own lowest point.

    Args:
        angles: [P] degrees.
        teacher, student: energies [P] eV; None where there is none.
        highest: barrier and error are those of the angles at which the teacher's energy is below, kcal/mol.

    Raises:
        ValueError: there is no point that both have.
    """
    x, theirs, ours = points_of_both(angles, teacher, student)
    if len(x) == 0:
        raise ValueError("no angle at which both have an energy")
    theirs, ours = relative(theirs), relative(ours)
    counted = theirs < highest
    return {
        "barrier_kcal_mol": float(theirs[counted].max()),
        "barrier_error_kcal_mol": float(ours[counted].max() - theirs[counted].max()),
        "profile_mae_kcal_mol": float(np.abs(ours - theirs)[counted].mean()),
        "points": len(x),
        "refused": sum(one is not None and other is None for one, other in zip(teacher, student, strict=True)),
        "curve": curve(x, theirs, ours),
    }


def _partner(shape: "Shape", atom: int, not_this: int) -> int:
    """The heaviest neighbor of ``atom`` other than ``not_this``, of equal ones the first."""
    around = {int(k) for bond in shape.bonds if atom in bond for k in bond} - {atom, not_this}
    return max(around, key=lambda k: (shape.numbers[k], -k))
