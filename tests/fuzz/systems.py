"""Random molecules and periodic boxes in which no two atoms are closer than bonds may become."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from tests.fuzz.reference import edges

ELEMENTS = np.array([1, 6, 7, 8, 9, 15, 16, 17, 35])
#: As often as in organic molecules, but all of them.
SHARES = np.array([40, 25, 10, 10, 3, 3, 3, 3, 3]) / 100
#: Closest that atoms may be: of the sum of their covalent radii, and A. What is closer no student has learned.
CLOSEST, CLOSEST_A = 0.75, 0.8
LARGEST = 40
#: Neighbors within 5 A: diamond has 92. In matter many times as dense the student's energies are noise in float32, by
#: whatever potential (30 eV for a carbon atom in a cell of 1.2 A).
MOST_NEIGHBORS = 120
PERIODS = [(True, True, True), (True, True, True), (True, True, False), (False, True, True), (False, False, True)]


def random_batch(random: np.random.Generator) -> list[Atoms]:
    """One to eight systems, small ones more often, molecules and boxes mixed."""
    n_systems = int(random.choice([1, 1, 1, 2, 3, 5, 8]))
    largest = max(2, LARGEST // n_systems)
    periodic = random.random()  # share of boxes: none in a third of the batches, nothing else in another third
    share = 0.0 if periodic < 0.33 else 1.0 if periodic < 0.67 else 0.5
    return [
        random_box(random, largest) if random.random() < share else random_molecule(random, largest)
        for _ in range(n_systems)
    ]


def random_molecule(random: np.random.Generator, largest: int) -> Atoms:
    """2 to ``largest`` atoms, each at the length of a bond from another or, rarely, far from all; displaced by up to 0.3 A."""
    n_atoms = int(np.clip(np.exp(random.uniform(np.log(2), np.log(largest + 1))), 2, largest))
    numbers = random.choice(ELEMENTS, n_atoms, p=SHARES)
    radii, positions = covalent_radii[numbers], np.zeros((1, 3))
    while len(positions) < n_atoms:
        k, other = len(positions), int(random.integers(len(positions)))
        length = (radii[k] + radii[other]) * random.uniform(0.95, 1.2) + (random.random() < 0.05) * random.uniform(1, 6)
        new = positions[other] + length * _direction(random)
        if _far_enough(np.linalg.norm(positions - new, axis=1), numbers[:k], numbers[k]):
            positions = np.vstack([positions, new])
    atoms = Atoms(numbers, positions + random.uniform(-30, 30, 3))
    return _displaced(atoms, random)


def random_box(random: np.random.Generator, largest: int) -> Atoms:
    """A cell of 1.2 to 20 A along its axes, skewed or thin at times; periodic along all axes or as a slab or a wire."""
    while True:
        lengths = np.exp(random.uniform(np.log(1.2), np.log(20.0), 3))
        if random.random() < 0.3:
            lengths[:] = lengths[0]
        cell = np.diag(lengths)
        if random.random() < 0.6:
            cell += np.tril(random.uniform(-0.5, 0.5, (3, 3)) * lengths, -1)
        if random.random() < 0.5:
            cell = cell @ np.linalg.qr(random.standard_normal((3, 3)))[0]
        pbc = PERIODS[random.integers(len(PERIODS))]
        n_most = int(np.clip(abs(np.linalg.det(cell)) / 8.0, 1, largest))
        box = Atoms(cell=cell, pbc=pbc)
        for _ in range(3 * n_most):
            number = random.choice(ELEMENTS, p=SHARES)
            longer = box + Atoms([number], [random.uniform(0, 1, 3) @ cell])
            if fits(longer):
                box = longer
            if len(box) == n_most:
                break
        if len(box):
            break
    box = _displaced(box, random)
    if random.random() < 0.5:
        # Each atom by lattice vectors of its own, along the periodic axes.
        jumps = random.integers(-3, 4, (len(box), 3)) * np.array(pbc)
        box.positions += jumps @ cell
    return box


@dataclass(frozen=True)
class Variation:
    """The same systems told otherwise: in another order, turned, moved, each atom by lattice vectors of its own.

    Args:
        systems: as they are given now.
        order: of the systems before, by place now [B]; ``atoms`` likewise [N].
        turns: rotation matrix of each system now: a vector v becomes v @ turn.
    """

    systems: list[Atoms]
    order: np.ndarray
    atoms: np.ndarray
    turns: list[np.ndarray]

    def energies(self, before: np.ndarray) -> np.ndarray:
        """The energies [B] that belong to these systems, from those before."""
        return before[self.order]

    def forces(self, before: np.ndarray) -> np.ndarray:
        """The forces [N, 3] that belong to these systems, from those before."""
        turns = np.concatenate(
            [np.repeat(turn[None], len(a), 0) for turn, a in zip(self.turns, self.systems, strict=True)]
        )
        return np.einsum("ni,nij->nj", before[self.atoms], turns)


def varied(systems: list[Atoms], random: np.random.Generator) -> Variation:
    """One of the many ways to tell the same, chosen at random."""
    starts = np.concatenate([[0], np.cumsum([len(atoms) for atoms in systems])])
    order = random.permutation(len(systems))
    told, places, turns = [], [], []
    for k in order:
        atoms, shuffle = systems[k], random.permutation(len(systems[k]))
        turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
        positions = atoms.positions[shuffle] + random.uniform(-20, 20, 3)
        if atoms.pbc.any():
            positions = positions + random.integers(-2, 3, (len(atoms), 3)) * atoms.pbc @ atoms.cell.array
        told.append(Atoms(atoms.numbers[shuffle], positions @ turn, cell=atoms.cell.array @ turn, pbc=atoms.pbc))
        places.append(starts[k] + shuffle)
        turns.append(turn)
    return Variation(told, order, np.concatenate(places), turns)


def fits(atoms: Atoms) -> bool:
    """Whether all pairs, images included, are far enough apart, and not too many near each other."""
    receivers, senders, vectors = edges(atoms, 5.0)
    if len(receivers) and np.bincount(receivers).max() > MOST_NEIGHBORS:
        return False
    sums = covalent_radii[atoms.numbers[receivers]] + covalent_radii[atoms.numbers[senders]]
    return bool((np.linalg.norm(vectors, axis=1) > np.maximum(CLOSEST * sums, CLOSEST_A)).all())


def _displaced(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """By 0 to 0.3 A; less where atoms would come too close."""
    step = random.choice([0.0, 0.01, 0.1, 0.3]) * random.uniform(-1, 1, (len(atoms), 3))
    for _ in range(4):
        moved = atoms.copy()
        moved.positions += step
        if fits(moved):
            return moved
        step *= 0.3
    return atoms


def _direction(random: np.random.Generator) -> np.ndarray:
    vector = random.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _far_enough(distances: np.ndarray, others: np.ndarray, number: int) -> bool:
    return bool((distances > np.maximum(CLOSEST * (covalent_radii[others] + covalent_radii[number]), CLOSEST_A)).all())
