"""Boxes of a liquid from hundreds to a million atoms, each a repetition of one small box.

Each atom of a repeated box has the force of its copy in the unit, so an fp64 reference of a few hundred atoms checks a
million. In float32, positions far from the origin lose digits; :func:`in_float32` gives what that costs.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


def repetitions(n_unit: int, n_atoms: int) -> tuple[int, int, int]:
    """How often to repeat a unit of ``n_unit`` atoms along each axis for about ``n_atoms``, as near to a cube as can be."""
    copies = max(1, round(n_atoms / n_unit))
    first = max(1, round(copies ** (1 / 3)))
    second = max(1, round(math.sqrt(copies / first)))
    return first, second, max(1, round(copies / (first * second)))


def in_float32(unit: "Atoms", times: tuple[int, int, int]) -> "Atoms":
    """The unit as float32 holds the copy of it that is furthest from the origin in a box of ``times`` copies."""
    offset = (np.array(times) - 1) @ unit.cell.array
    held = unit.copy()
    held.positions = (unit.positions + offset).astype(np.float32).astype(np.float64) - offset
    return held


def force_errors(forces: np.ndarray, unit_forces: np.ndarray) -> np.ndarray:
    """Errors [copies, n_unit, 3] of the forces [N, 3] of a repeated box, against those of its unit [n_unit, 3]."""
    return forces.reshape(-1, *unit_forces.shape) - unit_forces
