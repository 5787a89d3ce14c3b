"""How a trajectory starts."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms


def set_thermal_velocities(atoms: "Atoms", temperature_k: float, seed: int, at_minimum: bool = True) -> None:
    """Maxwell-Boltzmann velocities without drift, and without rotation unless ``atoms`` is periodic.

    Args:
        atoms: changed in place.
        temperature_k: of the trajectory to come.
        seed: of the velocities.
        at_minimum: the geometry is a minimum of the energy: velocities are drawn at twice the temperature, because half
            of the kinetic energy goes into the potential energy.
    """
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation

    kinetic = 2 * temperature_k if at_minimum else temperature_k
    MaxwellBoltzmannDistribution(atoms, temperature_K=kinetic, rng=np.random.default_rng(seed))
    Stationary(atoms)
    if not atoms.pbc.any():
        ZeroRotation(atoms)


def moving_degrees_of_freedom(atoms: "Atoms") -> int:
    """How many degrees of freedom have kinetic energy after :func:`set_thermal_velocities`: without those it stops."""
    frozen = 3
    if not atoms.pbc.any():
        centered = atoms.positions - atoms.get_center_of_mass()
        # A molecule has as many rotations as two in a line, three else, and an atom none.
        extent = np.linalg.matrix_rank(centered, tol=1e-3)
        frozen += {0: 0, 1: 2}.get(int(extent), 3)
    return max(1, 3 * len(atoms) - frozen)
