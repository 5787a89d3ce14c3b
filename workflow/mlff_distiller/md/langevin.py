"""Langevin dynamics at constant temperature, and samples of it. Imports no torch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md.langevin_settings import LangevinSettings
from mlff_distiller.md.measures import MOST_CHANGE
from mlff_distiller.md.start import set_thermal_velocities

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Samples:
    """Snapshots at equal intervals."""

    interval_fs: float
    #: [T, N, 3] A
    positions: np.ndarray
    #: [T, N, 3] A/fs
    velocities: np.ndarray
    steps_per_s: float
    #: [T, 3] eV/A^3, ASE's sign: xx, yy, zz of the potential energy; None where they were not asked for or there are none.
    stresses: np.ndarray | None = None


def ase_langevin(atoms: "Atoms", settings: LangevinSettings) -> Any:
    """ASE's Langevin dynamics with the calculator of ``atoms``; ``settings`` as for :func:`run_langevin`."""
    from ase import units
    from ase.md.langevin import Langevin

    # fixcm would scale the noise, which is not canonical for few atoms (ASE says so): all 3N velocities are free.
    return Langevin(
        atoms,
        timestep=settings.timestep_fs * units.fs,
        temperature_K=settings.temperature_k,
        friction=settings.friction_per_fs / units.fs,
        fixcm=False,
        rng=np.random.default_rng(settings.seed + 1),
    )


def run_langevin(
    atoms: "Atoms",
    settings: LangevinSettings,
    thermostat: Callable[["Atoms", LangevinSettings], Any] = ase_langevin,
    with_stress: bool = False,
) -> Samples:
    """Equilibrate, then sample.

    Args:
        atoms: at a minimum, or, where they are periodic, equilibrated; changed.
        settings: time step, thermostat, lengths.
        thermostat: ``atoms`` (with velocities) and ``settings`` -> dynamics with ``run(n_steps)``.
        with_stress: sample the stress, too, where the calculator has one.

    Raises:
        FloatingPointError: a position is no longer finite, or an energy is one that no physics gives.
    """
    from ase import units

    set_thermal_velocities(atoms, settings.temperature_k, settings.seed, at_minimum=not atoms.pbc.any())
    # The loop on a device looks at its energies itself, and the atoms have no calculator.
    first = None if atoms.calc is None else atoms.get_potential_energy()
    dynamics = thermostat(atoms, settings)
    dynamics.run(settings.equilibration_steps)
    positions, velocities, stresses = [], [], []
    with_stress = with_stress and _has_stress(atoms)
    started = time.perf_counter()
    for _ in range(settings.steps // settings.sample_every):
        dynamics.run(settings.sample_every)
        if not np.isfinite(atoms.positions).all():
            raise FloatingPointError(f"a position is not finite after {dynamics.nsteps} steps")
        if first is not None and not abs((energy := atoms.get_potential_energy()) - first) <= MOST_CHANGE * len(atoms):
            raise FloatingPointError(
                f"the potential energy is {energy:.6g} eV after {dynamics.nsteps} steps and began at {first:.6g}, which no "
                "physics gives; a shorter time step may help"
            )
        positions.append(atoms.get_positions())
        velocities.append(atoms.get_velocities() * units.fs)
        if with_stress:
            stresses.append(atoms.get_stress()[:3])
    return Samples(
        settings.timestep_fs * settings.sample_every,
        np.array(positions),
        np.array(velocities),
        settings.steps / (time.perf_counter() - started),
        np.array(stresses) if with_stress else None,
    )


def _has_stress(atoms: "Atoms") -> bool:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        return bool(np.isfinite(atoms.get_stress()).all())
    except (NotImplementedError, PropertyNotImplementedError):
        return False


def kinetic_energies(samples: Samples, masses: np.ndarray) -> np.ndarray:
    """Kinetic energies [T] eV of ``samples``; ``masses`` [N] amu."""
    from ase import units

    velocities = samples.velocities / units.fs
    return 0.5 * np.einsum("i,tij,tij->t", masses, velocities, velocities)
