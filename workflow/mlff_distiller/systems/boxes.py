"""Lattice vectors and positions as float32 and neighbor searches can take them: checked, wrapped, centered."""

from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: Atoms further than this from the center of their system, or longer lattice vectors, leave float32 fewer digits than
#: 1e-3 A and overflow the cell indices of some neighbor searches, A.
MAX_EXTENT = 1e4
#: Periodic cells thinner than this are unphysical, and have more images within the cutoff than fit into memory, A.
MIN_THICKNESS = 0.5
#: Between atoms and the faces of a cell that is there for form's sake, A.
ROOM = 10.0


class Box:
    """The cell of a system that repeats along at least one axis.

    Args:
        cell: [3, 3] A, lattice vectors in rows; those of axes that are not periodic may be zero.
        pbc: [3] bool.

    Attributes:
        cell: [3, 3] A, as given where it spans a volume, else with unit vectors along axes that are not periodic.
        vectors: [3, 3] A, with unit vectors perpendicular to the others along all axes that are not periodic.
        spans_volume: whether the cell as given does.

    Raises:
        UserError: lattice vectors that are not finite, too long, or along periodic axes missing, parallel or in one plane.
    """

    def __init__(self, cell: np.ndarray, pbc: np.ndarray):
        self.pbc = pbc
        if not np.isfinite(cell).all():
            raise UserError(f"the cell is not finite: {cell.tolist()}; has the simulation blown up?")
        # Along axes that are not periodic, unit vectors perpendicular to the others.
        self.vectors = np.array(cell, dtype=np.float64)
        if not pbc.all():
            self.vectors[~pbc] = np.linalg.svd(cell * pbc[:, None])[2][int(pbc.sum()) :]
        names = ", ".join("abc"[axis] for axis in np.flatnonzero(pbc))
        if (np.linalg.norm(self.vectors, axis=1) > MAX_EXTENT).any():
            raise UserError(f"the cell has lattice vectors beyond {MAX_EXTENT:g} A: {cell.tolist()}")
        try:
            self._inverse = np.linalg.inv(self.vectors)
            thickness = float((1 / np.linalg.norm(self._inverse, axis=0))[pbc].min())
        except np.linalg.LinAlgError:
            thickness = 0.0
        if not thickness >= MIN_THICKNESS:
            raise UserError(
                f"periodic along {names}, but the cell {cell.tolist()} A spans no volume, or is thinner than "
                f"{MIN_THICKNESS} A; set the lattice vectors, or pbc=False"
            )
        flat = abs(np.linalg.det(cell)) < 1e-4 * np.prod(np.linalg.norm(cell, axis=1))
        self.spans_volume = bool(cell.any(axis=1).all() and not flat)
        self.cell = cell if self.spans_volume else self.vectors

    def wrapped(self, positions: np.ndarray) -> np.ndarray:
        """``positions`` [N, 3] A moved into the cell along periodic axes, and to an average of 0 along the others."""
        whole = np.floor(positions @ self._inverse)
        moved: np.ndarray = positions - (whole * self.pbc) @ self.vectors
        if not self.pbc.all():
            moved -= (_average(moved) @ self._inverse * ~self.pbc) @ self.vectors
        return moved


def box_of(atoms: "Atoms") -> Box | None:
    """The box of ``atoms``, None for a molecule; raises as :class:`Box` does."""
    return Box(atoms.cell.array, atoms.pbc) if atoms.pbc.any() else None


def with_room(atoms: "Atoms") -> "Atoms":
    """A copy in the middle of a cell with :data:`ROOM` around it along axes that are not periodic; those that are stay.

    For programs that ask for a box, also of a molecule.
    """
    moved: Atoms = atoms.copy()
    if not atoms.pbc.all():
        moved.center(vacuum=ROOM, axis=tuple(np.flatnonzero(~atoms.pbc)))
    return moved


def near_origin(positions: np.ndarray, box: Box | None) -> np.ndarray:
    """Positions [N, 3] A, moved so that energy and forces stay the same and float32 keeps its digits for distances.

    Into the box along periodic axes; so that atoms average to the origin along the others. In float64.

    Raises:
        UserError: a position that is not finite, or an atom more than 1e4 A from the center; names the atom.
    """
    moved = positions - _average(positions) if box is None else box.wrapped(positions)
    # The sum of squares is much faster than a maximum, and passes most systems.
    if not np.vdot(moved, moved) < MAX_EXTENT**2:
        check_extent(positions, moved)
    return moved


def _average(positions: np.ndarray) -> np.ndarray:
    # mean() takes twice as long for a small molecule.
    average: np.ndarray = positions.sum(axis=0) / len(positions)
    return average


def check_extent(positions: np.ndarray, centered: np.ndarray | None = None) -> None:
    """Raise a :class:`UserError` that names the first of ``positions`` [N, 3] A that is not finite, or the furthest.

    Args:
        positions: of one system.
        centered: the same around the origin; by default around their average.
    """
    lost = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(lost):
        raise UserError(
            f"atom {lost[0]} is at {positions[lost[0]].tolist()}: not a finite position; has the simulation blown up?"
        )
    moved = positions - _average(positions) if centered is None else centered
    # The sum of positions can overflow where each is finite.
    far = np.abs(moved if np.isfinite(moved).all() else positions).max(axis=1, initial=0.0)
    if not (far < MAX_EXTENT).all():
        atom = int(np.argmax(far))
        raise UserError(
            f"atom {atom} is {far[atom]:.3g} A from the center of its system: positions so far apart (limit "
            f"{MAX_EXTENT:g} A) keep no digits for distances. Put fragments that do not interact into systems of their own"
        )
