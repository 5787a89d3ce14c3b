"""Geometries near a given one: every atom displaced at random."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


def rattled(atoms: "Atoms", n_frames: int, amplitude: float, seed: int) -> "list[Atoms]":
    """``n_frames`` copies: the geometry itself, then copies with normal deviates of ``amplitude`` A added to each coordinate."""
    generator = np.random.default_rng(seed)
    frames = [atoms.copy() for _ in range(n_frames)]
    for frame in frames[1:]:
        frame.positions += amplitude * generator.standard_normal(frame.positions.shape)
    return frames
