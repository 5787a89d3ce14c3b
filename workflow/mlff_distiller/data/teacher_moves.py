"""Geometries to which the teacher moves atoms: relaxation and Langevin dynamics."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
) -> Moves:
    """``n`` frames of Langevin dynamics, ``stride`` steps of 1 fs apart, the center at the origin.

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
    """
    from ase import Atoms, units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    moves = Moves([], start)
    atoms = Atoms(numbers, start)
    atoms.calc = calculator
    random = np.random.RandomState(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=heat * temperature, rng=random)
    dynamics = Langevin(
        atoms, 1.0 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=random
    )
    try:
        for _ in range(n):
            dynamics.run(stride)
            if not np.isfinite(atoms.positions).all() or np.ptp(atoms.positions, axis=0).max() > 60.0:
                moves.notes.append("md: molecule flew apart")
                break
            moves.frames.append(atoms.get_positions() - atoms.positions.mean(axis=0))
    except Exception as error:
        calculator.reset()
        moves.notes.append(f"md: {type(error).__name__}")
    return moves
