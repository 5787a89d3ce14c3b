"""Langevin dynamics at constant temperature, and samples of it. Imports no torch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md.langevin_settings import LangevinSettings
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
    atoms: "Atoms", settings: LangevinSettings, thermostat: Callable[["Atoms", LangevinSettings], Any] = ase_langevin
) -> Samples:
    """Equilibrate, then sample.

    Args:
        atoms: at a minimum; changed.
        settings: time step, thermostat, lengths.
        thermostat: ``atoms`` (with velocities) and ``settings`` -> dynamics with ``run(n_steps)``.

    Raises:
        FloatingPointError: a position is no longer finite.
    """
    from ase import units

    set_thermal_velocities(atoms, settings.temperature_k, settings.seed)
    dynamics = thermostat(atoms, settings)
    dynamics.run(settings.equilibration_steps)
    positions, velocities = [], []
    started = time.perf_counter()
    for _ in range(settings.steps // settings.sample_every):
        dynamics.run(settings.sample_every)
        if not np.isfinite(atoms.positions).all():
            raise FloatingPointError(f"a position is not finite after {dynamics.nsteps} steps")
        positions.append(atoms.get_positions())
        velocities.append(atoms.get_velocities() * units.fs)
    return Samples(
        settings.timestep_fs * settings.sample_every,
        np.array(positions),
        np.array(velocities),
        settings.steps / (time.perf_counter() - started),
    )


def kinetic_energies(samples: Samples, masses: np.ndarray) -> np.ndarray:
    """Kinetic energies [T] eV of ``samples``; ``masses`` [N] amu."""
    from ase import units

    velocities = samples.velocities / units.fs
    return 0.5 * np.einsum("i,tij,tij->t", masses, velocities, velocities)
