"""Refuses atoms closer together than in the training data, where the student's energies mean nothing."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.systems.boxes import box_of
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: Of the sum of the covalent radii (Cordero et al. 2008). Labels are taken up to 20 eV/A (``data/labeling.py``): pressing
#: the bonds of 18 small molecules, from H2 to Br2, GFN2-xTB reaches that at 0.70 (C-N) to 0.97 (F-F) of this sum.
SHORTEST = 0.68
#: How far beyond the limit pairs are searched, A. With more, a check is needed less often, but takes longer.
_SKIN = 0.3
#: Up to so many atoms, all pairs of a molecule are faster than a neighbor list.
_ALL_PAIRS = 200


def shortest_radii(numbers: Sequence[int]) -> np.ndarray:
    """Two atoms are too close within the sum of theirs: [N] A for the atomic numbers [N]."""
    from ase.data import covalent_radii

    radii: np.ndarray = SHORTEST * covalent_radii[np.asarray(numbers)]
    return radii


class DistanceCheck:
    """Checks the distances of one system whenever some may have become too short.

    A check finds how much shorter the pairs may become; until atoms have moved that far, further checks are skipped.

    Args:
        atoms: elements, cell and periodicity; these stay as they are.
    """

    def __init__(self, atoms: "Atoms"):
        self._atoms = atoms.copy()
        self._radii = shortest_radii(atoms.numbers)
        self._seen: np.ndarray | None = None
        self._free = 0.0
        self._pairs: tuple[np.ndarray, np.ndarray] | None = None
        if len(atoms) <= _ALL_PAIRS and not atoms.pbc.any():
            first, second = self._pairs = np.triu_indices(len(atoms), 1)
            self._limits = self._radii[first] + self._radii[second]

    def __call__(self, positions: np.ndarray) -> None:
        """Check ``positions`` [N, 3] A, if need be.

        Raises:
            UserError: a pair closer than 0.68 of the sum of its covalent radii; names the worst.
        """
        # A pair comes closer by at most the displacements of both atoms, each at most sqrt(3) times its largest component.
        if self._seen is not None and 2 * math.sqrt(3) * np.abs(positions - self._seen).max() < self._free:
            return
        self._seen = None
        found = self.closest(positions)
        if found is None:
            self._free = _SKIN
        else:
            first, second, distance, self._free = found
            if self._free < 0:
                raise UserError(
                    f"{self.pair(first, second)} are {distance:.3f} A apart, closer than anything that the student learned "
                    f"(from {distance - self._free:.2f} A): its energy would mean nothing. Mend the structure, take a "
                    "smaller step, or insist with allow=('distances',)"
                )
        self._seen = positions.copy()

    def closest(self, positions: np.ndarray) -> tuple[int, int, float, float] | None:
        """The pair that is nearest to its limit: two atoms, their distance and what it exceeds the limit by, A.

        None where all pairs exceed theirs by at least 0.3 A.
        """
        if len(positions) == 0:
            return None
        if self._pairs is not None:
            from scipy.spatial.distance import pdist

            (first, second), distance, limits = self._pairs, pdist(positions), self._limits
        else:
            first, second, distance = self._neighbors(positions)
            limits = self._radii[first] + self._radii[second]
        if len(distance) == 0:
            return None
        excess = distance - limits
        worst = int(np.argmin(excess))
        return int(first[worst]), int(second[worst]), float(distance[worst]), float(excess[worst])

    def pair(self, first: int, second: int) -> str:
        """The two atoms in words."""
        symbols = self._atoms.symbols
        if first == second:
            return f"atom {first} ({symbols[first]}) and its periodic image"
        return f"atoms {first} ({symbols[first]}) and {second} ({symbols[second]})"

    def _neighbors(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from vesin import NeighborList

        box = box_of(self._atoms)
        search = NeighborList(cutoff=2 * float(self._radii.max()) + _SKIN, full_list=False, n_threads=1)
        if box is None:
            first, second, distance = search.compute(positions, np.zeros((3, 3)), False, "ijd")
        else:
            first, second, distance = search.compute(box.wrapped(positions), box.cell, box.pbc, "ijd")
        return first, second, distance
