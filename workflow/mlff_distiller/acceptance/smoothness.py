"""Holes and cusps of an energy along one distance, counted by rule.

A bond that is pulled and pressed, or two atoms that are pushed together, have one minimum, and a force that changes little by
little. On points [P] at ascending distances:

- A **hole** of a bond: from the main minimum to either side the energy must only rise. Of two molecules: from where the teacher
  has its repulsive wall (:data:`WALL` above the longest distance) it must only rise inwards; wells farther out are those of the
  dimer. Where it falls by ``hole_depth`` or more from the highest point on the way, there is a hole at the lowest point of that
  fall; once it has risen by as much again, it may fall into another. The hole's **wall** is that highest point above the minimum
  or the longest distance: what a collision must bring to fall in. The main minimum of the teacher is its lowest, if that is
  ``hole_depth`` deep (the prominence of ``scipy.signal.find_peaks``); the student's is the one of its minima that is nearest.
- A **cusp** is a jump of the slope between two points that is more than :data:`CUSP` times the larger of the two jumps beside
  it, and more than :data:`SMALLEST_JUMP`.
- The energy **falls below the minimum** where the teacher has its repulsive wall and the student's energy is lower than at its
  own minimum, or at the longest distance; the distance is that of the outermost such point.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.acceptance.energies import numbers_or_null
from mlff_distiller.systems.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from mlff_distiller.data.geometry import Shape

#: A jump of the slope more than so many times as large as the jumps beside it is a cusp: a repulsive wall, sampled every
#: 0.05 A, has jumps that grow by less than half from one to the next.
CUSP = 4.0
#: eV/A: jumps below this are no cusps.
SMALLEST_JUMP = 0.3
#: kcal/mol above the minimum: so high, the teacher's energy is a wall.
WALL = 10.0
#: Ends of a bond that is pressed and pulled, in terms of its length in the teacher's minimum.
PRESSED, PULLED = 0.5, 2.0
#: Ends of the distance of two atoms that are pushed together, A.
TOGETHER, APART = 0.5, 4.0


def single_bonds(shape: "Shape", most: int) -> list[tuple[int, int, list[int]]]:
    """Up to ``most`` single bonds (i, j, atoms on j's side) whose breaking parts the molecule, each between other elements.

    Args:
        shape: the molecule, see :func:`mlff_distiller.data.geometry.make_shape`.
        most: at most so many; bonds between heavier atoms come first.
    """
    found: dict[tuple[int, ...], tuple[int, int, list[int]]] = {}
    for i, j, side in shape.open_bonds:
        if shape.mol.GetBondBetweenAtoms(int(i), int(j)).GetBondTypeAsDouble() == 1.0:
            elements = tuple(sorted((int(shape.numbers[i]), int(shape.numbers[j])), reverse=True))
            found.setdefault(elements, (int(i), int(j), np.flatnonzero(side).tolist()))
    heaviest_first = sorted(found, key=lambda pair: (min(pair), max(pair)), reverse=True)
    return [found[pair] for pair in heaviest_first[:most]]


def stretched(positions: np.ndarray, i: int, j: int, side: Sequence[int], distances: Sequence[float]) -> np.ndarray:
    """Geometries [P, N, 3] A with the bond i-j at each of ``distances`` [P] A; ``side`` are the atoms that move with j."""
    bond = positions[j] - positions[i]
    length = np.linalg.norm(bond)
    frames = np.repeat(positions[None], len(distances), axis=0)
    frames[:, list(side)] += ((np.asarray(distances) / length - 1.0)[:, None] * bond)[:, None]
    return frames


def slopes(forces: np.ndarray, side: Sequence[int], direction: np.ndarray) -> np.ndarray:
    """dE/dr [P] eV/A along a rigid shift of the atoms ``side`` by ``direction`` [3], from forces [P, N, 3] eV/A."""
    return -(forces[:, list(side)].sum(axis=1) @ (direction / np.linalg.norm(direction)))


def main_minimum(energies: np.ndarray, depth: float) -> int | None:
    """Index of the lowest minimum within a curve, ``depth`` deep at least; None without one."""
    found = _minima(energies, depth)
    return min(found, key=lambda index: energies[index]) if found else None


def judge(
    distances: np.ndarray,
    energies: np.ndarray,
    forces: np.ndarray,
    main: float | None,
    wall: np.ndarray,
    hole_depth: float,
) -> dict[str, Any]:
    """What the rules above find on one curve.

    Args:
        distances: [P] A, ascending.
        energies: [P] kcal/mol.
        forces: the slopes dE/dr [P], eV/A.
        main: distance of the teacher's minimum, A; None for two molecules.
        wall: [P] bool: where the teacher has its repulsive wall.
        hole_depth: kcal/mol.

    Returns:
        ``holes`` and ``cusps``: their distances, A; ``walls`` of the holes, kcal/mol; ``below_a``: where the energy falls below
        the minimum, or None, and by how much it does so at most, ``below_kcal_mol``.
    """
    if main is None:
        # Two molecules: the way begins where the teacher's wall does.
        outer, bottom = (int(np.flatnonzero(wall)[-1]) if wall.any() else 0), energies[-1]
        holes = [outer - step for step in _falls(energies[outer::-1], hole_depth)]
    else:
        minima = _minima(energies, hole_depth)
        outer = min(minima or range(len(distances)), key=lambda k: abs(distances[k] - main))
        bottom = energies[outer]
        holes = [outer - step for step in _falls(energies[outer::-1], hole_depth)]
        holes += [outer + step for step in _falls(energies[outer:], hole_depth)]
    holes.sort()
    walls = [energies[min(k, outer) : max(k, outer) + 1].max() - bottom for k in holes]
    below = np.flatnonzero((energies < bottom) & wall)
    return {
        "holes": [round(float(distances[k]), 4) for k in holes],
        "walls": [round(float(wall), 4) for wall in walls],
        "cusps": [round(float(distance), 4) for distance in _cusps(distances, forces)],
        "below_a": round(float(distances[below[-1]]), 4) if len(below) else None,
        "below_kcal_mol": float(bottom - energies[below].min()) if len(below) else None,
    }


def compare_curves(
    distances: Sequence[float],
    teacher: Sequence[float | None],
    teacher_slopes: Sequence[float | None],
    student: np.ndarray,
    student_slopes: np.ndarray,
    accepted: np.ndarray,
    hole_depth: float,
    bond: bool = True,
) -> dict[str, Any]:
    """Fields of a ``dissociation`` or ``approach`` record.

    Args:
        distances: [P] A, ascending.
        teacher, teacher_slopes: [P] eV and eV/A; None where there is no answer.
        student, student_slopes: [P] eV and eV/A, also where it refuses unless told otherwise.
        accepted: [P] bool: where it does not refuse.
        hole_depth: kcal/mol.
        bond: whether it is a bond, rather than two molecules.

    Raises:
        ValueError: fewer than four points that the student accepts, or that the teacher has an energy for.
    """
    x = np.asarray(distances, dtype=float)
    theirs = np.array(teacher, dtype=float) / KCAL_PER_MOL
    known = np.isfinite(theirs)
    if known.sum() < 4 or accepted.sum() < 4:
        raise ValueError("fewer than four distances with an energy of the teacher, or that the student accepts")
    theirs, ours = theirs - theirs[known][-1], (np.asarray(student) - np.asarray(student)[accepted][-1]) / KCAL_PER_MOL
    lowest = main_minimum(theirs[known], hole_depth) if bond else None
    main = None if lowest is None else float(x[known][lowest])
    bottom = theirs[known][-1 if lowest is None else lowest]
    wall = np.nan_to_num(theirs, nan=-np.inf) > bottom + WALL
    wall &= x < (x[-1] if main is None else main)

    def judged(energies: np.ndarray, forces: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
        return judge(x[chosen], energies[chosen], forces[chosen], main, wall[chosen], hole_depth)

    reference = judged(theirs, np.array(teacher_slopes, dtype=float), known)
    # The student refuses what is too short: the accepted points are the outer part of the curve.
    found = judged(ours, np.asarray(student_slopes), accepted)
    beyond = judged(ours, np.asarray(student_slopes), np.isfinite(ours))
    shortest = float(x[accepted][0])
    return {
        "shortest_accepted_a": round(shortest, 4),
        "refused": int((~accepted).sum()),
        "minimum_a": main,
        "holes_a": found["holes"],
        "walls_kcal_mol": found["walls"],
        "cusps_a": found["cusps"],
        "below_minimum_a": found["below_a"],
        "below_minimum_kcal_mol": found["below_kcal_mol"],
        "refused_holes_a": [r for r in beyond["holes"] if r < shortest],
        "refused_below_minimum_a": beyond["below_a"] if found["below_a"] is None else None,
        "teacher_holes_a": reference["holes"],
        "teacher_cusps_a": reference["cusps"],
        "curve": {
            "x": np.round(x, 4).tolist(),
            "teacher_kcal_mol": numbers_or_null(theirs, 4),
            "student_kcal_mol": numbers_or_null(ours, 4),
        },
    }


def _minima(energies: np.ndarray, depth: float) -> list[int]:
    from scipy.signal import find_peaks

    return [int(index) for index in find_peaks(-energies, prominence=depth)[0]]


def _falls(energies: np.ndarray, depth: float) -> list[int]:
    """Index of the lowest point of every fall by at least ``depth`` below the highest point before it."""
    found, highest, lowest = [], energies[0], None
    for index, energy in enumerate(energies):
        if lowest is None:
            highest = max(highest, energy)
            lowest = index if energy < highest - depth else None
        elif energy < energies[lowest]:
            lowest = index
        elif energy >= energies[lowest] + depth:
            found.append(lowest)
            highest, lowest = energy, None
    return found if lowest is None else [*found, lowest]


def _cusps(distances: np.ndarray, forces: np.ndarray) -> list[float]:
    """Middles of the intervals over which the slope jumps by much more than over those beside."""
    jumps = np.abs(np.diff(forces))
    beside = np.maximum(jumps[:-2], jumps[2:]) if len(jumps) > 2 else np.zeros(0)
    sharp = np.flatnonzero((jumps[1:-1] > CUSP * beside) & (jumps[1:-1] > SMALLEST_JUMP)) + 1
    return [float(value) for value in (distances[sharp] + distances[sharp + 1]) / 2]
