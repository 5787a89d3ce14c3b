"""Geometries to which the teacher moves atoms: relaxation and Langevin dynamics."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


@dataclass
class Moves:
    """Where atoms went.

    Attributes:
        frames: of N atoms, [N, 3] A each.
        end: [N, 3] A; the start where the teacher failed.
        notes: what went wrong.
    """

    frames: list[np.ndarray]
    end: np.ndarray
    notes: list[str] = field(default_factory=list)


def relax(numbers: np.ndarray, start: np.ndarray, calculator: Any, steps: int) -> Moves:
    """At most ``steps`` BFGS steps from ``start`` [N, 3] A; the frames are those on the way."""
    from ase import Atoms
    from ase.optimize import BFGS

    moves = Moves([], start)
    if not steps:
        return moves
    atoms = Atoms(numbers, start)
    atoms.calc = calculator
    try:
        for _ in BFGS(atoms, logfile=None).irun(fmax=0.03, steps=steps):
            moves.frames.append(atoms.get_positions())
    except Exception as error:
        calculator.reset()
        moves.notes.append(f"relaxation: {type(error).__name__}")
        return moves
    moves.end = atoms.get_positions()
    return moves


def langevin(
    numbers: np.ndarray,
    start: np.ndarray,
    calculator: Any,
    temperature: float,
    n: int,
    stride: int,
    seed: int,
    heat: float = 2.0,
    timestep: float = 1.0,
    skip: int = 0,
    cell: np.ndarray | None = None,
    pbc: np.ndarray | None = None,
) -> Moves:
    """``n`` frames of Langevin dynamics, ``stride`` steps apart; without periodic directions the center is at the origin.

    It ends early where the teacher fails or the atoms fly apart.

    Args:
        numbers: [N] atomic numbers.
        start: [N, 3] A.
        calculator: the teacher.
        temperature: of the thermostat, K.
        n: frames.
        stride: steps between them.
        seed: of the velocities and the thermostat.
        heat: the velocities' temperature at the start, in units of ``temperature``. 2 for a relaxed start, for half of it
            becomes potential energy.
        timestep: fs.
        skip: steps before the first ``stride``.
        cell: [3, 3] A, rows are vectors; None: none.
        pbc: [3], which of them are periodic; None: none.
    """
    from ase import Atoms, units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    moves = Moves([], start)
    atoms = Atoms(numbers, start, cell=cell, pbc=pbc)
    periodic = atoms.pbc.any()
    random = np.random.RandomState(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=heat * temperature, rng=random)
    dynamics = Langevin(
        atoms, timestep * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=random
    )
    try:
        atoms.calc = calculator
        dynamics.run(skip)
        for _ in range(n):
            dynamics.run(stride)
            if not np.isfinite(atoms.positions).all() or _flew_apart(atoms, temperature):
                moves.notes.append(f"md: {'structure' if periodic else 'molecule'} flew apart")
                break
            moves.frames.append(atoms.get_positions() - (0.0 if periodic else atoms.positions.mean(axis=0)))
    except Exception as error:
        calculator.reset()
        moves.notes.append(f"md: {type(error).__name__}")
    return moves


def _flew_apart(atoms: "Atoms", temperature: float) -> bool:
    """Whether atoms have left the others, or, where periodic images hide that, move as hot ones do."""
    if atoms.pbc.any():
        return bool(atoms.get_temperature() > 5.0 * temperature + 1000.0)
    return bool(np.ptp(atoms.positions, axis=0).max() > 60.0)
