"""Liquids: periodic boxes, and droplets cut out of them, by Monte Carlo of rigid molecules that are then vibrated."""

from collections.abc import Sequence

import numpy as np

from mlff_distiller.data.monte_carlo import RigidMolecules
from mlff_distiller.data.species import Species
from mlff_distiller.utils.errors import UserError

#: Moves of each molecule before the first frame, and between two.
SETTLE, BETWEEN = 150, 25
#: Amu per A^3 in 1 g/cm3.
GRAM_PER_CM3 = 0.602214076
#: Droplets from one frame of a box.
PER_FRAME = 2


def box_frames(
    species: Sequence[Species], edge: float, n: int, temperature: float, rng: np.random.Generator
) -> list[np.ndarray]:
    """``n`` geometries, [A, 3] A each, of molecules in a periodic cubic box.

    Args:
        species: of the molecules.
        edge: of the box, A.
        n: geometries.
        temperature: of the arrangement and the vibrations, K.
        rng: of all that is drawn.

    Raises:
        UserError: the molecules do not fit.
    """
    box = settled(species, edge, temperature, rng)
    frames = []
    for _ in range(n):
        box.sweep(BETWEEN)
        frames.append(box.frame(temperature))
    return frames


def droplet_frames(
    species: Sequence[Species], edge: float, n: int, atoms: Sequence[int], temperature: float, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, list[str]]]:
    """``n`` spheres of whole molecules cut out of such a box: numbers [A], positions [A, 3] in A, SMILES of each molecule.

    Args:
        species: of the molecules in the box.
        edge: of the box, A.
        n: spheres.
        atoms: fewest and most atoms of one.
        temperature: of the arrangement and the vibrations, K.
        rng: of all that is drawn.

    Raises:
        UserError: the molecules do not fit.
    """
    box = settled(species, edge, temperature, rng)
    found = []
    while len(found) < n:
        box.sweep(BETWEEN)
        positions = box.frame(temperature)
        for _ in range(min(PER_FRAME, n - len(found))):
            size = int(rng.integers(atoms[0], atoms[1] + 1))
            chosen, cut = sphere(box, positions, int(rng.integers(len(species))), size)
            numbers = np.concatenate([species[i].numbers for i in chosen])
            found.append((numbers, cut, [species[i].smiles for i in chosen]))
    return found


def settled(species: Sequence[Species], edge: float, temperature: float, rng: np.random.Generator) -> RigidMolecules:
    """The molecules in the box after 150 moves of each.

    Raises:
        UserError: their energy says that they still overlap.
    """
    box = RigidMolecules.on_lattice(species, edge, temperature, rng)
    box.sweep(SETTLE)
    if box.energy() > 1.0 * len(species):
        raise UserError(
            f"{len(species)} molecules do not fit into a box of {edge:.2f} A; lower student.sampling.coverage.densities"
        )
    return box


def sphere(box: RigidMolecules, positions: np.ndarray, middle: int, n_atoms: int) -> tuple[list[int], np.ndarray]:
    """The molecules nearest to ``middle``, itself first, up to ``n_atoms``: which, and their positions [A, 3] in A.

    Args:
        box: whose molecules they are.
        positions: [A, 3] A, of all atoms of the box, each molecule whole.
        middle: the molecule in the middle.
        n_atoms: most atoms; the middle is taken in any case.
    """
    centers = np.array([positions[rows].mean(axis=0) for rows in box.rows])
    shift = -box.edge * np.round((centers - centers[middle]) / box.edge)
    distance = np.linalg.norm(centers + shift - centers[middle], axis=1)
    chosen: list[int] = []
    count = 0
    for i in np.argsort(distance, kind="stable"):
        rows = box.rows[i]
        # Beyond half the edge images would be missing.
        if chosen and (count + rows.stop - rows.start > n_atoms or distance[i] > 0.5 * box.edge):
            break
        chosen.append(int(i))
        count += rows.stop - rows.start
    return chosen, np.concatenate([positions[box.rows[i]] + shift[i] - centers[middle] for i in chosen])


def edge_of(masses: Sequence[float], densities: Sequence[float], scale: float) -> float:
    """Edge in A of a cubic box in which each molecule has the volume of its liquid, divided by ``scale``.

    Args:
        masses: of the molecules, amu.
        densities: of their liquids, g/cm3.
        scale: part of the normal density.
    """
    volume = sum(m / (d * GRAM_PER_CM3) for m, d in zip(masses, densities, strict=True))
    return float((volume / scale) ** (1 / 3))
