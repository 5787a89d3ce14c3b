"""Metropolis Monte Carlo of rigid molecules, alone or in a periodic cubic box: where molecules lie in a cluster or a liquid."""

import itertools
from collections.abc import Sequence

import numpy as np

from mlff_distiller.data.geometry import radii
from mlff_distiller.data.species import Species
from mlff_distiller.systems.units import BOLTZMANN

#: e^2 / (4 pi epsilon_0), eV A.
COULOMB = 14.399645
#: Atoms of two molecules repel strongly below this part of the sum of their van der Waals radii.
CORE = 0.55
#: eV of such an overlap when it is complete.
OVERLAP = 40.0

#: Standard deviation of a turn about an axis, radian per A of the largest shift.
TURN = 0.6


class RigidMolecules:
    """M rigid molecules of A atoms in all, which :meth:`sweep` moves.

    In a box, pairs interact with the nearest image and up to half the edge.

    Args:
        species: of each molecule.
        arms: of each molecule, [N, 3] A: its atoms as turned, relative to its center of mass.
        centers: [M, 3] A.
        edge: of the box, A; 0: no box.
        temperature: K.
        rng: of the moves.
    """

    def __init__(
        self,
        species: Sequence[Species],
        arms: Sequence[np.ndarray],
        centers: np.ndarray,
        edge: float,
        temperature: float,
        rng: np.random.Generator,
    ) -> None:
        self.species, self.edge, self.temperature, self.rng = species, edge, temperature, rng
        #: Farthest that a center may be from the middle of all at the start, A.
        self.wall = np.inf
        self.arms, self.centers = [np.array(a, dtype=float) for a in arms], np.array(centers, dtype=float)
        self._middle = self.centers.mean(axis=0)
        bounds = np.concatenate([[0], np.cumsum([len(a) for a in arms])])
        self.rows = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        self.numbers = np.concatenate([s.numbers for s in species])
        self.owner = np.repeat(np.arange(len(species)), np.diff(bounds))
        self.positions = np.concatenate([a + c for a, c in zip(self.arms, self.centers, strict=True)])
        sigma = np.concatenate([s.sigma for s in species])
        epsilon = np.concatenate([s.epsilon for s in species])
        charge = np.concatenate([s.charges for s in species])
        self._sigma = 0.5 * (sigma[:, None] + sigma[None])
        self._epsilon = np.sqrt(epsilon[:, None] * epsilon[None])
        self._charges = COULOMB * charge[:, None] * charge[None]
        self._core = CORE * (radii(self.numbers)[:, None] + radii(self.numbers)[None])
        #: Largest shift along an axis, A.
        self.step = 0.3

    @classmethod
    def on_lattice(
        cls, species: Sequence[Species], edge: float, temperature: float, rng: np.random.Generator
    ) -> "RigidMolecules":
        """Molecules on the sites of a simple cubic lattice in the box, in random order and orientation."""
        from scipy.spatial.transform import Rotation

        per_side = int(np.ceil(len(species) ** (1 / 3) - 1e-9))
        grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        centers = (grid[rng.permutation(len(grid))[: len(species)]] + 0.5) * edge / per_side
        arms = [Rotation.random(rng=rng).apply(s.body) for s in species]
        return cls(species, arms, centers, edge, temperature, rng)

    def energy(self) -> float:
        """The pair potential of the whole, eV."""
        return 0.5 * sum(self._energy_of(i, self.positions[rows]) for i, rows in enumerate(self.rows))

    def sweep(self, n: int) -> float:
        """Try to move each molecule ``n`` times; returns the share of moves that were accepted."""
        accepted = 0
        for _ in range(n):
            now = sum(self._try(int(i)) for i in self.rng.permutation(len(self.species)))
            self.step = float(np.clip(self.step * (1.1 if now > 0.4 * len(self.species) else 0.9), 0.02, 1.5))
            accepted += now
        return accepted / max(n * len(self.species), 1)

    def frame(self, temperature: float) -> np.ndarray:
        """Positions [A, 3] in A, each molecule whole and vibrated at ``temperature`` (K), its center inside the box."""
        parts = []
        for species, arms, center in zip(self.species, self.arms, self.centers, strict=True):
            moved = species.vibrated(temperature, self.rng)
            if self.edge:
                center = center % self.edge
            parts.append((moved - species.masses @ moved / species.masses.sum()) @ turn(species.body, arms).T + center)
        return np.concatenate(parts)

    def _try(self, i: int) -> bool:
        from scipy.spatial.transform import Rotation

        rows = self.rows[i]
        center = self.centers[i] + self.step * self.rng.uniform(-1.0, 1.0, 3)
        if np.linalg.norm(center - self._middle) > self.wall:
            return False
        arms = Rotation.from_rotvec(TURN * self.step * self.rng.standard_normal(3)).apply(self.arms[i])
        change = self._energy_of(i, arms + center) - self._energy_of(i, self.positions[rows])
        if change > 0 and self.rng.random() >= np.exp(-change / (BOLTZMANN * self.temperature)):
            return False
        self.arms[i], self.centers[i], self.positions[rows] = arms, center, arms + center
        return True

    def _energy_of(self, i: int, positions: np.ndarray) -> float:
        """Energy of molecule ``i`` at ``positions`` with all others, eV."""
        rows = self.rows[i]
        apart = self.positions[None] - positions[:, None]
        reach = np.inf
        if self.edge:
            apart -= self.edge * np.round(apart / self.edge)
            reach = 0.5 * self.edge
        distance = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart))
        counted = (distance < reach) & (self.owner[None] != i)
        distance, core = distance[counted], self._core[rows][counted]
        inside = np.maximum(core - distance, 0.0) / core
        distance = np.maximum(distance, core)
        sixth = (self._sigma[rows][counted] / distance) ** 6
        coulomb = 1.0 / distance
        if self.edge:
            # Shifted so that potential and force vanish at the reach.
            coulomb += distance / reach**2 - 2.0 / reach
        pairs = 4.0 * self._epsilon[rows][counted] * (sixth**2 - sixth) + self._charges[rows][counted] * coulomb
        return float(pairs.sum() + OVERLAP * inside.sum())


def turn(body: np.ndarray, arms: np.ndarray) -> np.ndarray:
    """The rotation matrix [3, 3] that turns ``body`` [N, 3] into ``arms`` [N, 3]; any of them for atoms on a line."""
    left, _, right = np.linalg.svd(arms.T @ body)
    sign = np.sign(np.linalg.det(left) * np.linalg.det(right))
    return left @ np.diag([1.0, 1.0, sign]) @ right
