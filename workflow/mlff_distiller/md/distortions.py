"""Geometries away from a minimum, from the bonds that the atoms' distances show: a bond pulled, a torsion turned."""

from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.geometry import rotated
from mlff_distiller.md.measures import bonds_of

if TYPE_CHECKING:
    from ase import Atoms

#: A bond is pressed or pulled to a length between these, as parts of its own.
SHORTEST, LONGEST = 0.8, 1.4
#: Angles of a torsion scan.
POINTS = 24

#: A bond outside rings, (i, j), and the atoms that hang on j, [N] bool.
OpenBond = tuple[int, int, np.ndarray]


def open_bonds(atoms: "Atoms") -> list[OpenBond]:
    """The bonds whose breaking parts a molecule in two; none of a periodic system, whose parts may be endless."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if atoms.pbc.any():
        return []
    first, second, _ = bonds_of(atoms)
    n, found = len(atoms), []
    for k in range(len(first)):
        rest = np.arange(len(first)) != k
        graph = coo_matrix((np.ones(rest.sum()), (first[rest], second[rest])), shape=(n, n))
        _, part = connected_components(graph, directed=False)
        if part[first[k]] != part[second[k]]:
            found.append((int(first[k]), int(second[k]), part == part[second[k]]))
    return found


def torsion_bonds(bonds: list[OpenBond], atoms: "Atoms") -> list[OpenBond]:
    """Those of ``bonds`` with further bonds on both sides, one of which turns when the bond is turned about."""
    first, second, _ = bonds_of(atoms)
    degree = np.bincount(np.concatenate([first, second]), minlength=len(atoms))
    return [bond for bond in bonds if degree[bond[0]] > 1 and degree[bond[1]] > 1]


def stretched(positions: np.ndarray, bond: OpenBond, rng: np.random.Generator) -> np.ndarray:
    """``positions`` [N, 3] A with one bond pressed or pulled, what hangs on it moved along."""
    i, j, side = bond
    moved = positions.copy()
    moved[side] += (rng.uniform(SHORTEST, LONGEST) - 1.0) * (positions[j] - positions[i])
    return moved


def turned(positions: np.ndarray, bond: OpenBond) -> np.ndarray:
    """[:data:`POINTS`, N, 3] A: one side of the bond turned in equal steps, all other coordinates as they are."""
    i, j, side = bond
    axis = positions[j] - positions[i]
    angles = np.arange(POINTS) * 2 * np.pi / POINTS
    return np.array([rotated(positions, side, positions[j], axis, angle) for angle in angles])
