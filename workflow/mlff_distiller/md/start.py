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
