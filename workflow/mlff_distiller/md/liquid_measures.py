"""What a liquid's trajectory shows, from arrays: pair distributions, self-diffusion, pressure."""

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.md.measures import bonds_of, statistical_inefficiency
from mlff_distiller.systems.units import BOLTZMANN, GPA

if TYPE_CHECKING:
    from ase import Atoms

#: Width of a bin of a pair distribution, A.
BIN = 0.1
#: Pairs farther apart than this, A, say nothing of the forces between them.
FARTHEST = 10.0
#: Parts of a trajectory, each of which gives a coefficient of diffusion.
BLOCKS = 4
#: 1e-9 m^2/s in one A^2/fs.
PER_A2_FS = 1e4


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error."""

    value: float
    stderr: float


def molecules_of(atoms: "Atoms") -> np.ndarray:
    """Which molecule each atom belongs to, [N], by the bonds that the distances show.

    Where bonds connect all of a periodic system (a network, or one molecule) every atom counts by itself.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    first, second, _ = bonds_of(atoms)
    graph = coo_matrix((np.ones(len(first)), (first, second)), shape=(len(atoms), len(atoms)))
    count, found = connected_components(graph, directed=False)
    return found if count > 1 else np.arange(len(atoms))


def pair_distributions(atoms: "Atoms", positions: np.ndarray) -> dict[str, np.ndarray]:
    """g(r) of each two elements, such as ``O-H``: [bins] of width :data:`BIN` from 0, to half the least width of the cell.

    Pairs within a molecule do not count: their bonds would outweigh all else.

    Args:
        atoms: elements, cell and molecules; periodic.
        positions: [T, N, 3] A.
    """
    from ase.data import chemical_symbols

    cell = atoms.cell.array
    inverse = np.linalg.inv(cell)
    widths = 1.0 / np.linalg.norm(inverse, axis=0)
    edges = np.arange(0.0, min(widths.min() / 2, FARTHEST) + 1e-9, BIN)
    volumes = 4 / 3 * np.pi * np.diff(edges**3)
    i, j = np.triu_indices(len(atoms), 1)
    belongs = molecules_of(atoms)
    apart = belongs[i] != belongs[j]
    i, j = i[apart], j[apart]
    elements = sorted(set(atoms.numbers.tolist()), reverse=True)
    pairs = {
        f"{chemical_symbols[a]}-{chemical_symbols[b]}": ((atoms.numbers[i] == a) & (atoms.numbers[j] == b))
        | ((atoms.numbers[i] == b) & (atoms.numbers[j] == a))
        for a, b in combinations_with_replacement(elements, 2)
    }
    pairs = {name: chosen for name, chosen in pairs.items() if chosen.any()}
    counts = {name: np.zeros(len(edges) - 1) for name in pairs}
    for frame in positions:
        apart = (frame[j] - frame[i]) @ inverse
        # Right for distances below half the least width, and no others are counted.
        distances = np.linalg.norm((apart - np.round(apart)) @ cell, axis=1)
        for name, chosen in pairs.items():
            counts[name] += np.histogram(distances[chosen], edges)[0]
    volume = abs(np.linalg.det(cell))
    return {name: counts[name] * volume / (len(positions) * pairs[name].sum() * volumes) for name in pairs}


def pair_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[float, str]:
    """The share that two sets of pair distributions do not have in common, of the pair with the largest, and that pair."""
    sums = {name: (one[name] + other[name]).sum() for name in one}
    shares = {name: float(np.abs(one[name] - other[name]).sum() / sums[name]) for name in one if sums[name] > 0}
    worst = max(shares, key=shares.__getitem__)
    return shares[worst], worst


def diffusion(atoms: "Atoms", positions: np.ndarray, interval_fs: float) -> Estimate:
    """Coefficient of self-diffusion of the molecules, 1e-9 m^2/s: a sixth of the slope of their mean square displacement.

    The slope is taken between a quarter and half of each of :data:`BLOCKS` parts of the trajectory, whose scatter is the error.
    Displacements are those against the center of mass of all. Depends on the size of the box (Yeh and Hummer, J. Phys. Chem. B
    108, 15873, 2004) and on the friction of a thermostat: to be compared with the same box and thermostat alone.

    Args:
        atoms: masses, elements and molecules.
        positions: [T, N, 3] A, not wrapped into the cell.
        interval_fs: between them.
    """
    masses, belongs = atoms.get_masses(), molecules_of(atoms)
    weights = np.zeros((belongs.max() + 1, len(atoms)))
    weights[belongs, np.arange(len(atoms))] = masses
    centers = np.einsum("mn,tnx->tmx", weights / weights.sum(axis=1, keepdims=True), positions)
    centers -= (np.einsum("n,tnx->tx", masses, positions) / masses.sum())[:, None]
    found = []
    for part in np.array_split(centers, BLOCKS):
        lags = np.arange(max(1, len(part) // 4), len(part) // 2 + 1)
        moved = [float(((part[lag:] - part[:-lag]) ** 2).sum(axis=-1).mean()) for lag in lags]
        slope = np.polyfit(lags * interval_fs, moved, 1)[0] if len(lags) > 1 else moved[0] / (lags[0] * interval_fs)
        found.append(PER_A2_FS * float(slope) / 6)
    return Estimate(float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(BLOCKS)))


def pressure(stresses: np.ndarray, n_atoms: int, volume: float, temperature_k: float) -> Estimate:
    """Mean pressure, GPa, of ``stresses`` [T, 3] (xx, yy, zz, eV/A^3, ASE's sign) and the ideal gas of ``n_atoms`` atoms."""
    values = (n_atoms * BOLTZMANN * temperature_k / volume - stresses.mean(axis=1)) / GPA
    independent = len(values) / statistical_inefficiency(values)
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(independent)))


def beyond(one: Estimate, other: Estimate) -> float:
    """By how much two estimates differ beyond two standard errors of their difference."""
    return max(0.0, abs(one.value - other.value) - 2 * math.hypot(one.stderr, other.stderr))
