"""Are a teacher's forces the gradient of its energy? Finite differences along random directions.

A student's forces are its energy's gradient, so it cannot learn forces that are not: those of networks that predict forces
directly, of a factory that mixes up units or signs, or of energies and forces from two different methods.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.teacher import label
from mlff_distiller.utils.errors import Words

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

#: Directions of all coordinates at once; each takes four labels.
N_DIRECTIONS = 3
#: The longer of the two steps, A; the other one is half of it.
STEP = 0.01
#: Forces that are smaller together are not told from none, eV/A.
LEAST_SCALE = 0.1
#: Displacement before, A: at a minimum there are no forces to compare.
RATTLE = 0.05
#: Largest difference between slope and forces, as a share of the length of all forces together.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Slopes:
    """What the forces say and what the energy does, for directions with steps of 1 A in every coordinate.

    Attributes:
        from_forces: [k] eV/A, by the forces.
        from_energies: [k] eV/A, by finite differences of the energy.
        uncertainty: [k] eV/A, of the finite differences.
        scale: length of all forces together, eV/A.
    """

    from_forces: np.ndarray
    from_energies: np.ndarray
    uncertainty: np.ndarray
    scale: float

    @property
    def worst(self) -> float:
        """Largest difference beyond the uncertainty, as a share of :attr:`scale`."""
        beyond = np.abs(self.from_forces - self.from_energies) - self.uncertainty
        return float(np.maximum(beyond, 0.0).max() / max(self.scale, LEAST_SCALE))

    @property
    def agree(self) -> bool:
        """Whether no direction differs by more than :data:`TOLERANCE`."""
        return self.worst <= TOLERANCE

    def told(self) -> Words:
        """Both slopes of each direction."""
        pairs = zip(self.from_energies, self.from_forces, strict=True)
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

    def slope(direction: np.ndarray, step: float) -> float:
        ends = []
        for sign in (1.0, -1.0):
            moved = start.copy()
            moved.positions += sign * step * direction
            ends.append(label(moved, calculator)[0])
        return (ends[0] - ends[1]) / (2.0 * step)

    # A network in float32 has energies with so few digits.
    digits = 2.0**-23 * abs(energy) if float(np.float32(energy)) == energy else 0.0
    from_forces, from_energies, uncertainty = [], [], []
    for _ in range(N_DIRECTIONS):
        direction = rng.choice([-1.0, 1.0], start.positions.shape)
        long, short = slope(direction, STEP), slope(direction, STEP / 2)
        from_forces.append(-float((forces * direction).sum()))
        # The error goes with the square of the step.
        from_energies.append((4.0 * short - long) / 3.0)
        uncertainty.append(abs(short - long) / 3.0 + 4.0 * digits / STEP)
    return Slopes(np.array(from_forces), np.array(from_energies), np.array(uncertainty), float(np.linalg.norm(forces)))
