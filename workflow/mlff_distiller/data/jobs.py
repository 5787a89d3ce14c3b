"""What one worker samples: all configurations of one molecule, or some of a cluster or a box."""

import hashlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Job:
    """All configurations of one molecule, for one worker."""

    smiles: str
    split: str
    seed: int
    counts: tuple[tuple[str, int], ...]
    partners: tuple[str, ...]
    settings: str
    geometry: tuple[tuple[float, float, float], ...] | None = None


@dataclass(frozen=True)
class GroupJob:
    """Some configurations of several molecules together, for one worker.

    Attributes:
        split: of all of them.
        seed: of all that is drawn.
        counts: one pair: the way of sampling and how many configurations.
        species: SMILES of each molecule; the dissolved one comes first.
        edge: of the cubic box that the molecules are packed into, A; 0: no box.
        temperature: of the packing and of the molecules' vibrations, K.
        dynamics: whether a part are frames of the teacher's dynamics.
        settings: as of :class:`Job`.
    """

    split: str
    seed: int
    counts: tuple[tuple[str, int], ...]
    species: tuple[str, ...]
    edge: float
    temperature: float
    dynamics: bool
    settings: str


@dataclass(frozen=True)
class StructureJob:
    """Some configurations of one structure, for one worker.

    Attributes:
        name: of the structure.
        split: of all of them.
        seed: of all that is drawn.
        counts: one pair: the way of sampling and how many configurations.
        temperature: of dynamics, K.
        numbers: of the N atoms of the repeated cell.
        positions: [N, 3] A.
        cell: [3, 3] A, rows are vectors.
        pbc: which of them are periodic.
        settings: as of :class:`Job`.
    """

    name: str
    split: str
    seed: int
    counts: tuple[tuple[str, int], ...]
    temperature: float
    numbers: tuple[int, ...]
    positions: tuple[tuple[float, ...], ...]
    cell: tuple[tuple[float, ...], ...]
    pbc: tuple[bool, ...]
    settings: str


def generator(seed: int, name: str) -> np.random.Generator:
    """A source of random numbers for ``name`` alone, whatever else is drawn with the same ``seed``."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
