"""Are a teacher's forces the gradient of its energy, and its stress the derivative by the strain? Finite differences.

A student's forces are its energy's gradient, so it cannot learn forces that are not: those of networks that predict forces
directly, of a factory that mixes up units or signs, or of energies and forces from two different methods.
The same of the stress: other signs, units or volumes are found, and networks that predict it directly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.teacher import label, label_stress
from mlff_distiller.utils.errors import Words

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

#: Directions of all coordinates at once; each takes four labels, or eight where the first four do not agree.
N_DIRECTIONS = 3
#: The longer of the two steps, A; the other one is half of it.
STEP = 0.01
#: Forces that are smaller together are not told from none, eV/A.
LEAST_SCALE = 0.1
#: Displacement before, A: at a minimum there are no forces to compare.
RATTLE = 0.05
#: Largest component of the strain before, without which a crystal has no stress, and the longer of the two steps of strain.
STRAIN, STRAIN_STEP = 0.02, 0.004
#: Largest difference between slope and forces, as a share of the length of all forces together.
TOLERANCE = 0.01
#: Shares of the steps, of which the next is tried where labels and differences do not agree: the energies of some networks bend
#: within the first (CHGNet's of strained silicon).
SHARES = (1.0, 0.25)


@dataclass(frozen=True)
class Slopes:
    """What the labels say and what the energy does, for directions with steps of 1 A in every coordinate, or strains of 1.

    Attributes:
        from_labels: [k] eV/A, by the forces, or eV, by the stress.
        from_energies: [k], by finite differences of the energy.
        uncertainty: [k], of the finite differences.
        scale: length of all forces together, eV/A, or of the stress times the volume, eV.
    """

    from_labels: np.ndarray
    from_energies: np.ndarray
    uncertainty: np.ndarray
    scale: float

    @property
    def worst(self) -> float:
        """Largest difference beyond the uncertainty, as a share of :attr:`scale`."""
        beyond = np.abs(self.from_labels - self.from_energies) - self.uncertainty
        return float(np.maximum(beyond, 0.0).max() / max(self.scale, LEAST_SCALE))

    @property
    def agree(self) -> bool:
        """Whether no direction differs by more than :data:`TOLERANCE`."""
        return self.worst <= TOLERANCE

    def told(self) -> Words:
        """Both slopes of each direction."""
        pairs = zip(self.from_energies, self.from_labels, strict=True)
        return ", ".join(f"{energy:.4g} and {force:.4g}" for energy, force in pairs)


def slopes(atoms: "Atoms", calculator: "Calculator", seed: int = 0) -> Slopes:
    """Compare forces with energies of ``atoms``, displaced by :data:`RATTLE`.

    Raises:
        LabelError: the teacher gave no label.
    """
    rng = np.random.default_rng(seed)
    # One atom in a cell feels no force, wherever it is.
    start = atoms.repeat([2 if periodic else 1 for periodic in atoms.pbc]) if len(atoms) == 1 else atoms.copy()
    start.positions += rng.normal(0.0, RATTLE, start.positions.shape)
    energy, forces = label(start, calculator)

    def moved(direction: np.ndarray, step: float) -> "Atoms":
        other = start.copy()
        other.positions += step * direction
        return other

    directions = [rng.choice([-1.0, 1.0], start.positions.shape) for _ in range(N_DIRECTIONS)]
    from_forces = np.array([-float((forces * direction).sum()) for direction in directions])
    return _compared(from_forces, float(np.linalg.norm(forces)), calculator, energy, moved, directions, STEP)


def strain_slopes(atoms: "Atoms", calculator: "Calculator", seed: int = 0) -> Slopes | None:
    """Compare the stress with energies of ``atoms`` in a cell that is strained by :data:`STRAIN` at random.

    Directions are symmetric strains with components of 1 or -1; slopes are in eV for each unit of strain: the stress times the
    volume.

    Returns:
        None where there is no stress (see :func:`~mlff_distiller.data.teacher.label_stress`).

    Raises:
        LabelError: the teacher gave no label, or a stress that is none.
    """
    rng = np.random.default_rng(seed)

    def strained(given: "Atoms", strain: np.ndarray) -> "Atoms":
        other = given.copy()
        # Positions by the same map, not by fractions of the cell, which rounding would not keep.
        other.set_cell(given.cell.array @ (np.eye(3) + strain), scale_atoms=False)
        other.positions = given.positions @ (np.eye(3) + strain)
        return other

    def symmetric(drawn: np.ndarray) -> np.ndarray:
        return np.triu(drawn) + np.triu(drawn, 1).T

    start = strained(atoms, symmetric(rng.uniform(-STRAIN, STRAIN, (3, 3))))
    energy, _ = label(start, calculator)
    stress = label_stress(start, calculator)
    if stress is None:
        return None
    virial = start.get_volume() * stress
    directions = [symmetric(rng.choice([-1.0, 1.0], (3, 3))) for _ in range(N_DIRECTIONS)]
    from_stress = np.array([float((virial * direction).sum()) for direction in directions])

    def moved(direction: np.ndarray, step: float) -> "Atoms":
        return strained(start, step * direction)

    return _compared(from_stress, float(np.linalg.norm(virial)), calculator, energy, moved, directions, STRAIN_STEP)


def _compared(
    from_labels: np.ndarray,
    scale: float,
    calculator: "Calculator",
    energy: float,
    moved: "Callable[[np.ndarray, float], Atoms]",
    directions: list[np.ndarray],
    step: float,
) -> Slopes:
    """With the first of :data:`SHARES` of ``step`` at which they agree, else with that at which they come closest."""
    tried = []
    for share in SHARES:
        found, uncertainty = _differences(calculator, energy, moved, directions, share * step)
        tried.append(Slopes(from_labels, found, uncertainty, scale))
        if tried[-1].agree:
            return tried[-1]
    return min(tried, key=lambda slopes: slopes.worst)


def _differences(
    calculator: "Calculator",
    energy: float,
    moved: "Callable[[np.ndarray, float], Atoms]",
    directions: list[np.ndarray],
    step: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes [k] of the energy along each direction by central differences at two steps, and their uncertainty [k]."""
    # A network in float32 has energies with so few digits.
    digits = 2.0**-23 * abs(energy) if float(np.float32(energy)) == energy else 0.0
    found, uncertainty = [], []
    for direction in directions:
        long, short = (
            (label(moved(direction, h), calculator)[0] - label(moved(direction, -h), calculator)[0]) / (2.0 * h)
            for h in (step, step / 2)
        )
        # The error goes with the square of the step.
        found.append((4.0 * short - long) / 3.0)
        uncertainty.append(abs(short - long) / 3.0 + 4.0 * digits / step)
    return np.array(found), np.array(uncertainty)
