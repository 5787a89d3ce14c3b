"""When a trajectory has left what molecules do: the rules by which it ends, and its later frames are left out."""

import functools
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.md.measures import BROKEN, bonds_of
from mlff_distiller.systems.distances import DistanceCheck
from mlff_distiller.systems.units import BOLTZMANN

if TYPE_CHECKING:
    from ase import Atoms

#: A thermal frame is hotter than the limit with at most this probability; twice that temperature is too hot, because a start
#: that relaxes gives off heat, too.
RARE = 1e-9
#: The rules, in the order in which they are asked.
NOT_A_NUMBER, TOO_HOT, TOO_CLOSE, BOND_BROKEN = "not a number", "too hot", "atoms too close", "bond broken"
RULES = {
    NOT_A_NUMBER: "a position or velocity is not finite",
    TOO_HOT: "a kinetic temperature above twice what one of 1e9 frames at the thermostat's has",
    TOO_CLOSE: "two atoms closer together than the calculator allows (0.68 of the sum of their covalent radii)",
    BOND_BROKEN: f"a bond of the start longer than {BROKEN} times its length there",
}


class Watch:
    """The rules for one trajectory.

    Args:
        start: elements, cell and periodicity, and the geometry whose bonds must hold.
    """

    def __init__(self, start: "Atoms"):
        self._distances = DistanceCheck(start)
        self._first, self._second, self._lengths = bonds_of(start)
        # Bonds across a periodic boundary; atoms are not wrapped while they move.
        apart = start.positions[self._second] - start.positions[self._first]
        if start.pbc.any():
            from ase.geometry import find_mic

            nearest, _ = find_mic(apart, start.cell, start.pbc)
            self._shifts = nearest - apart
        else:
            self._shifts = np.zeros_like(apart)

    def __call__(self, positions: np.ndarray, kinetic: float = 0.0, temperature_k: float | None = None) -> str | None:
        """The first of :data:`RULES` that a frame breaks; None for a frame that is in order.

        Args:
            positions: [N, 3] A, not wrapped.
            kinetic: energy, eV.
            temperature_k: of the thermostat; None where there is none.
        """
        if not (np.isfinite(positions).all() and np.isfinite(kinetic)):
            return NOT_A_NUMBER
        if temperature_k is not None and kinetic > hottest(len(positions)) * temperature_k:
            return TOO_HOT
        found = self._distances.closest(positions)
        if found is not None and found[3] < 0:
            return TOO_CLOSE
        bonds = positions[self._second] - positions[self._first] + self._shifts
        return BOND_BROKEN if (np.linalg.norm(bonds, axis=1) > BROKEN * self._lengths).any() else None


@functools.cache
def hottest(n_atoms: int) -> float:
    """Kinetic energy, eV per K of the thermostat, beyond which ``n_atoms`` atoms are too hot."""
    from scipy.stats import chi2

    return float(BOLTZMANN * chi2.isf(RARE, 3 * n_atoms))
