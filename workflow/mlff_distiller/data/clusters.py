"""Clusters and solvation shells: molecules put together, arranged by Monte Carlo, and moved on by the teacher."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlff_distiller.data.coverage_settings import Coverage
from mlff_distiller.data.geometry import put_together
from mlff_distiller.data.monte_carlo import RigidMolecules
from mlff_distiller.data.species import Species
from mlff_distiller.data.teacher_moves import langevin

#: Moves of each molecule before the first frame, and between two.
ARRANGE, BETWEEN = 60, 15
#: Of the arrangement, K.
COLD = 300.0
#: How far beyond the farthest one at the start a molecule may go, A.
ROOM = 0.7


def cluster_frames(
    species: Sequence[Species],
    n: int,
    temperature: float,
    calculator: Any | None,
    stride: int,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[str]]:
    """``n`` geometries of one cluster, [A, 3] A each, and what went wrong.

    A quarter are as placed: each molecule touches or presses those before it (0.7 to 1.1 of the van der Waals distance). The
    others are arranged by Monte Carlo at 300 K. With a ``calculator``, half of these are frames of its Langevin dynamics
    from there. All are vibrated at ``temperature`` (K).

    Args:
        species: of the molecules; the first is placed first.
        n: geometries.
        temperature: K.
        calculator: the teacher; None: no dynamics.
        stride: steps of 1 fs between frames of the dynamics.
        rng: of all that is drawn.
    """
    placed = round(n / 4)
    moved = (n - placed) // 2 if calculator is not None else 0
    frames = [_placed(species, temperature, rng) for _ in range(placed)]
    cluster = arranged(species, rng)
    for _ in range(n - placed - moved):
        cluster.sweep(BETWEEN)
        frames.append(cluster.frame(temperature))
    if not moved:
        return frames, []
    seed = int(rng.integers(2**31))
    # Vibrated already: half of the energy is there.
    moves = langevin(
        cluster.numbers, cluster.frame(temperature), calculator, temperature, moved, stride, seed, heat=1.0
    )
    return frames + moves.frames, moves.notes


def arranged(species: Sequence[Species], rng: np.random.Generator) -> RigidMolecules:
    """The molecules put together at contact, then arranged by Monte Carlo at 300 K."""
    _, positions = put_together([(s.numbers, s.body) for s in species], 0.9, rng)
    arms, centers, start = [], [], 0
    for s in species:
        mine = positions[start : start + len(s.numbers)]
        centers.append(s.masses @ mine / s.masses.sum())
        arms.append(mine - centers[-1])
        start += len(s.numbers)
    cluster = RigidMolecules(species, arms, np.array(centers), 0.0, COLD, rng)
    # None evaporates.
    cluster.wall = ROOM + float(np.linalg.norm(cluster.centers - cluster.centers.mean(axis=0), axis=1).max())
    cluster.sweep(ARRANGE)
    return cluster


def shell_size(coverage: Coverage, solute: int, solvent: int, rng: np.random.Generator) -> int:
    """How many molecules of ``solvent`` atoms surround one of ``solute`` atoms; as many as fit, at least one."""
    low, high = coverage.solvent_molecules
    return max(1, min(int(rng.integers(low, high + 1)), (coverage.cluster_atoms - solute) // solvent))


def cluster_size(coverage: Coverage, largest: int, rng: np.random.Generator) -> int:
    """How many molecules a cluster has, small ones more often: 2 to ``cluster_molecules``, as ``cluster_atoms`` allows.

    Args:
        coverage: the settings.
        largest: atoms of the largest molecule in it.
        rng: of the draw.
    """
    most = max(2, min(coverage.cluster_molecules, coverage.cluster_atoms // largest))
    return int(np.exp(rng.uniform(np.log(2), np.log(most + 1))))


def _placed(species: Sequence[Species], temperature: float, rng: np.random.Generator) -> np.ndarray:
    bodies = [(s.numbers, s.vibrated(temperature, rng)) for s in species]
    return put_together(bodies, rng.uniform(0.7, 1.1), rng)[1]
