"""Whether a trajectory is physical: drift, correlation, bonds and angles, from arrays."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

#: A bond is broken when it is longer than this many times its length at the start.
BROKEN = 1.5
#: Largest physical change of an energy since the start, eV per atom.
MOST_CHANGE = 100.0


@dataclass(frozen=True)
class Slope:
    """A drift and its standard error, in the unit of the values per unit of time."""

    value: float
    stderr: float


def drift(times: np.ndarray, values: np.ndarray, n_blocks: int = 10) -> Slope:
    """Least-squares slope of ``values`` [n] against ``times`` [n]; its error from the scatter of block means.

    Neighboring samples of a trajectory are correlated, which makes the usual error of the slope too small; means over blocks
    much longer than a vibration are not (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461, 1989).
    """
    if len(times) < 2 * n_blocks:
        raise ValueError(f"{len(times)} samples are too few for {n_blocks} blocks")
    t = np.array([block.mean() for block in np.array_split(np.asarray(times, float), n_blocks)])
    y = np.array([block.mean() for block in np.array_split(np.asarray(values, float), n_blocks)])
    centered = t - t.mean()
    spread = float((centered**2).sum())
    value = float((centered * (y - y.mean())).sum()) / spread
    residual = y - y.mean() - value * centered
    return Slope(value, math.sqrt(float((residual**2).sum()) / (n_blocks - 2) / spread))


def drift_beyond(slope: Slope, reference: Slope) -> float:
    """By how much two drifts differ beyond two standard errors of their difference; 0 when they cannot be told apart.

    Both runs start from the same state, so their errors are correlated: the standard error of independent runs, used
    here, is too large rather than too small.
    """
    return max(0.0, abs(slope.value - reference.value) - 2 * math.hypot(slope.stderr, reference.stderr))


def statistical_inefficiency(values: np.ndarray) -> float:
    """How many successive ``values`` [n] are worth one independent sample: 1 + 2 sum of the autocorrelation, to its
    first zero (Chodera, J. Chem. Theory Comput. 12, 1799, 2016); at least 1."""
    values = np.asarray(values, float) - np.mean(values)
    n = len(values)
    spectrum = np.fft.rfft(values, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:n]
    if not correlation[0] > 0:
        return 1.0
    correlation = correlation / correlation[0]
    below = np.flatnonzero(correlation <= 0)
    # The estimate is divided by n throughout, which carries the factor (1 - t/n) of the sum already.
    return max(1.0, 1.0 + 2.0 * float(correlation[1 : below[0] if len(below) else n].sum()))


def bonds_of(atoms: "Atoms") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonded pairs i < j by covalent radii (Cordero 2008, x 1.2), and their lengths: [B], [B], [B] A."""
    from ase.neighborlist import natural_cutoffs, neighbor_list

    i, j, distance = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=1.2))
    once = i < j
    return i[once], j[once], distance[once]


def angles_of(atoms: "Atoms") -> np.ndarray:
    """Bonded angles by :func:`bonds_of`, [A, 3]: the middle atom stands in the second column."""
    first, second, _ = bonds_of(atoms)
    partners: dict[int, list[int]] = {}
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        partners.setdefault(i, []).append(j)
        partners.setdefault(j, []).append(i)
    found = [
        (one, middle, other)
        for middle, around in sorted(partners.items())
        for position, one in enumerate(sorted(around))
        for other in sorted(around)[position + 1 :]
    ]
    return np.array(found, dtype=int).reshape(-1, 3)
