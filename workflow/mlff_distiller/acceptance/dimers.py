"""Two rigid molecules that face each other, and their energy along the distance between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlff_distiller.acceptance.energies import curve, points_of_both
from mlff_distiller.systems.units import KCAL_PER_MOL


@dataclass(frozen=True)
class End:
    """The point of a molecule from which the distance counts, and the direction that faces the other molecule.

    ``toward i j``: from atom i to atom j. ``behind i j``: at atom i, away from atom j. ``lone i``: at atom i, away from all
    that it is bonded to, as a lone pair. ``above i j k``: at the middle of these atoms, at right angles to their plane.
    ``rim i j k``: there, towards the first of them.
    """

    kind: str
    atoms: tuple[int, ...]


@dataclass(frozen=True)
class Dimer:
    """Two molecules (SMILES, hydrogens behind the other atoms), the ends that face, and the turn of the second, degrees."""

    first: str
    second: str
    ends: tuple[End, End]
    between: str
    turn: float = 0.0


_RING = (0, 1, 2, 3, 4, 5)
_BENZENE = "c1ccccc1"
DIMERS = {
    "water_hydrogen_bond": Dimer("O", "O", (End("toward", (0, 1)), End("lone", (0,))), "O and O", 90.0),
    "water_oxygens_facing": Dimer("O", "O", (End("lone", (0,)), End("lone", (0,))), "O and O", 90.0),
    "methanol_hydrogen_bond": Dimer("CO", "CO", (End("toward", (1, 5)), End("lone", (1,))), "O and O", 90.0),
    "ammonia_hydrogen_bond": Dimer("N", "N", (End("toward", (0, 1)), End("lone", (0,))), "N and N"),
    "methane_face_to_face": Dimer("C", "C", (End("behind", (0, 1)), End("behind", (0, 1))), "C and C", 60.0),
    "methane_corner_to_face": Dimer("C", "C", (End("toward", (0, 1)), End("behind", (0, 1))), "C and C", 60.0),
    "water_on_benzene": Dimer("O", _BENZENE, (End("toward", (0, 1)), End("above", _RING)), "O and the ring's middle"),
    "benzene_parallel": Dimer(_BENZENE, _BENZENE, (End("above", _RING), End("above", _RING)), "the rings' middles"),
    "benzene_t_shaped": Dimer(_BENZENE, _BENZENE, (End("rim", _RING), End("above", _RING)), "the rings' middles"),
}
#: The hydride by which an element is pushed against another: SMILES and the end that faces the other.
HYDRIDES = {
    "H": ("[H][H]", End("behind", (0, 1))),
    "C": ("C", End("behind", (0, 1))),
    **{
        symbol: (smiles, End("lone", (0,)))
        for symbol, smiles in {"N": "N", "O": "O", "F": "F", "P": "P", "S": "S", "Cl": "Cl", "Br": "Br"}.items()
    },
}


def facing(
    first: np.ndarray, second: np.ndarray, ends: tuple[End, End], turn: float, distances: Sequence[float]
) -> np.ndarray:
    """Both molecules with their ends facing each other at each of ``distances`` [P] A: geometries [P, N, 3] A.

    Args:
        first, second: positions [n, 3] A of each molecule.
        ends: of both.
        turn: of the second about the axis, degrees.
        distances: between the points from which the ends count, A.
    """
    from scipy.spatial.transform import Rotation

    one = _turned(first, ends[0], np.array([0.0, 0.0, 1.0]))
    other = _turned(second, ends[1], np.array([0.0, 0.0, -1.0]))
    other = Rotation.from_euler("z", turn, degrees=True).apply(other)
    return np.array([np.concatenate([one, other + np.array([0.0, 0.0, distance])]) for distance in distances])


def end_of(positions: np.ndarray, end: End) -> tuple[np.ndarray, np.ndarray]:
    """Point [3] A and direction [3] of an end of a molecule of ``positions`` [N, 3] A.

    Raises:
        ValueError: an end of an unknown kind.
    """
    atoms = positions[list(end.atoms)]
    if end.kind in ("toward", "behind"):
        point, direction = atoms[0], atoms[1] - atoms[0]
        direction = direction if end.kind == "toward" else -direction
    elif end.kind == "lone":
        apart = np.delete(positions, end.atoms[0], axis=0) - atoms[0]
        length = np.linalg.norm(apart, axis=1)
        # Holds for hydrides and methanol: a bond is at most 1.5 times as long as the shortest, and the next atoms are farther.
        near = length < 1.6 * length.min()
        point, direction = atoms[0], -(apart[near] / length[near, None]).sum(axis=0)
    elif end.kind in ("above", "rim"):
        point = atoms.mean(axis=0)
        direction = np.linalg.svd(atoms - point)[2][2] if end.kind == "above" else atoms[0] - point
    else:
        raise ValueError(f"unknown end {end.kind!r}")
    return point, direction / np.linalg.norm(direction)


def compare_dimers(
    distances: Sequence[float], teacher: Sequence[float | None], student: Sequence[float | None], highest: float
) -> dict[str, Any]:
    """Fields of a ``dimer`` record, of interaction energies [P] eV (dimer less its molecules) at ``distances`` [P] A.

    Depth and distance of the minimum are those of a cubic spline; a curve without a minimum has the depth 0.

    Args:
        distances: ascending.
        teacher, student: None where there is none.
        highest: the error is the mean where the teacher's energy is below, kcal/mol.

    Raises:
        ValueError: fewer than four points that both have.
    """
    x, theirs, ours = points_of_both(distances, teacher, student)
    if len(x) < 4:
        raise ValueError("fewer than four distances at which both have an energy")
    theirs, ours = theirs / KCAL_PER_MOL, ours / KCAL_PER_MOL
    counted = theirs < highest
    wells = [well(x[counted], energies[counted]) for energies in (theirs, ours)]
    return {
        "dimer_mae_kcal_mol": float(np.abs(ours - theirs)[counted].mean()) if counted.any() else None,
        "well_depth_kcal_mol": wells[0][0],
        "well_depth_error_kcal_mol": wells[1][0] - wells[0][0],
        "minimum_a": wells[0][1],
        "student_minimum_a": wells[1][1],
        "points": len(x),
        "refused": sum(one is not None and other is None for one, other in zip(teacher, student, strict=True)),
        "curve": curve(x, theirs, ours),
    }


def well(distances: np.ndarray, energies: np.ndarray) -> tuple[float, float | None]:
    """Depth below zero (unit of the energies) and distance of the lowest minimum within a curve; (0, None) without one.

    The lowest point of the curve must not be its first: there the curve still falls, and its minimum is not known.
    """
    from scipy.interpolate import CubicSpline

    if len(distances) < 4 or np.argmin(energies) == 0:
        return 0.0, None
    spline = CubicSpline(distances, energies)
    inner = [r for r in spline.derivative().roots(extrapolate=False) if spline(r, 2) > 0 and spline(r) < 0]
    if not inner:
        return 0.0, None
    lowest = min(inner, key=lambda r: float(spline(r)))
    return float(-spline(lowest)), float(lowest)


def _turned(positions: np.ndarray, end: End, wanted: np.ndarray) -> np.ndarray:
    """The molecule with its end's point at the origin and its direction along ``wanted`` [3]."""
    from scipy.spatial.transform import Rotation

    point, direction = end_of(positions, end)
    axis = np.cross(direction, wanted)
    if np.linalg.norm(axis) < 1e-8:
        # Already there, or the other way round: then half a turn about any axis at right angles.
        if direction @ wanted > 0:
            return positions - point
        axis = np.cross(direction, np.eye(3)[np.argmin(np.abs(direction))])
    angle = np.arccos(np.clip(direction @ wanted, -1.0, 1.0))
    return Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).apply(positions - point)
