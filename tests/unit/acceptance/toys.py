"""Calculators with known answers."""

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from mlff_distiller.utils.errors import UserError


class Springs(Calculator):
    """Harmonic springs between pairs of atoms: energy sum of k (d - d0)^2 / 2, eV and A, with an optional quartic term."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, pairs, stiffness, length, quartic=0.0):
        super().__init__()
        self.pairs, self.stiffness, self.length, self.quartic = pairs, stiffness, length, quartic

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy, forces = 0.0, np.zeros((len(atoms), 3))
        for i, j in self.pairs:
            bond = atoms.positions[j] - atoms.positions[i]
            distance = np.linalg.norm(bond)
            x = distance - self.length
            energy += 0.5 * self.stiffness * x**2 + self.quartic * x**4
            pull = (self.stiffness * x + 4 * self.quartic * x**3) * bond / distance
            forces[i] += pull
            forces[j] -= pull
        self.results = {"energy": energy, "forces": forces}


class Refusing(Springs):
    """Springs that refuse a bond shorter than 0.7 A."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if np.linalg.norm(atoms.positions[1] - atoms.positions[0]) < 0.7:
            raise UserError("too close")
        super().calculate(atoms, properties, system_changes)


class Broken(Springs):
    """Has an error of its own."""

    def calculate(self, *_, **__):
        raise RuntimeError("a bug")


def morse(x, depth=100.0, width=2.0, minimum=1.2):
    """Energy (kcal/mol) and slope (eV/A) of a Morse curve."""
    decay = np.exp(-width * (x - minimum))
    return depth * ((1 - decay) ** 2 - 1), depth / 23.0605478 * 2 * width * (1 - decay) * decay
