"""Boxes of a liquid from hundreds to a million atoms, each a repetition of one small box.

Each atom of a repeated box has the force of its copy in the unit, so an fp64 reference of a few hundred atoms checks a
million. For that check to be exact, the unit's positions and cell lie on a grid on which every copy is a float32 number.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.systems.liquid import liquid_box

if TYPE_CHECKING:
    from ase import Atoms

#: Positions are multiples of this (A). With 24 bits, float32 holds such multiples up to 1024 A exactly.
GRID = 2.0**-14


def liquid_unit(molecule: "Atoms", n_molecules: int, density: float, seed: int) -> "Atoms":
    """A box of the liquid (:func:`mlff_distiller.systems.liquid.liquid_box`), on the grid; density in g/cm3."""
    return on_grid(liquid_box(molecule, n_molecules, density, seed, min_distance=2.0))


def on_grid(atoms: "Atoms") -> "Atoms":
    """A copy whose positions and cell are multiples of :data:`GRID`."""
    atoms = atoms.copy()
    atoms.set_cell(np.round(atoms.cell.array / GRID) * GRID)
    atoms.positions = np.round(atoms.positions / GRID) * GRID
    return atoms


def repetitions(n_unit: int, n_atoms: int) -> tuple[int, int, int]:
    """How often to repeat a unit of ``n_unit`` atoms along each axis for about ``n_atoms``, as near to a cube as can be."""
    copies = max(1, round(n_atoms / n_unit))
    first = max(1, round(copies ** (1 / 3)))
    second = max(1, round(math.sqrt(copies / first)))
    return first, second, max(1, round(copies / (first * second)))


def force_errors(forces: np.ndarray, unit_forces: np.ndarray) -> np.ndarray:
    """Errors [copies, n_unit, 3] of the forces [N, 3] of a repeated box, against those of its unit [n_unit, 3]."""
    return forces.reshape(-1, *unit_forces.shape) - unit_forces
