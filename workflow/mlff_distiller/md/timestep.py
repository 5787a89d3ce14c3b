"""Does the energy's fluctuation shrink with the square of the time step, as velocity Verlet's must?

It does so only if the forces are the gradient of the energy, smooth, and the same at every call. In fp64, since rounding
adds a floor that no time step lowers. For a symplectic integrator the total energy of an NVE run fluctuates by an amount
proportional to dt^2 (Hairer, Lubich, Wanner, Geometric Numerical Integration, IX.8), so halving dt divides it by 4;
the same criterion as ``physical_validation.integrator.convergence`` (Merz and Shirts, PLoS ONE 13, e0202764, 2018).

Trajectories of different time steps diverge after some hundred femtoseconds, and then fluctuate differently. So many
short ones are run, from common states along one trajectory.
"""

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md import check
from mlff_distiller.md.start import set_thermal_velocities
from mlff_distiller.md.timestep_settings import TimestepSettings
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles

if TYPE_CHECKING:
    from ase import Atoms


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    check.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md``, task ``timestep``: of the variant's arithmetic in fp64."""
    return check.run_check(args, "timestep", TimestepSettings, measure, ensemble="NVE", dtype="float64")


def measure(files: VariantFiles, atoms: "Atoms", settings: TimestepSettings) -> dict[str, Any]:
    """Fields of the record: fluctuation per time step, the ratios, the gates."""
    import torch

    from mlff_distiller.potentials.ase import PotentialCalculator
    from mlff_distiller.variants.double_precision import potential_in_double

    torch.set_num_threads(files.threads)
    made = artifact.read_metadata(files.variant)
    artifact.activate_dependencies(made["options"], files.torch_cluster)
    atoms.calc = PotentialCalculator(potential_in_double(made["options"], files.checkpoint, made["device"]))
    set_thermal_velocities(atoms, settings.temperature_k, settings.seed)
    timesteps = sorted(settings.timesteps_fs, reverse=True)
    energies = energies_per_timestep(atoms, timesteps, settings.window_fs, settings.windows, settings.equilibration_fs)
    fluctuations = [1e3 * fluctuation(energies[timestep]) / len(atoms) for timestep in timesteps]
    ratios = convergence_ratios(timesteps, fluctuations)
    # The next order of dt, large for stiff bonds, still shifts the coarser ratios: only the finest pair must be near 4.
    limits = [settings.gates.coarse_ratio_error] * (len(ratios) - 1) + [settings.gates.ratio_error]
    return {
        "timesteps_fs": timesteps,
        "fluctuation_mev_per_atom": fluctuations,
        "ratios": ratios,
        "gates": {
            f"ratio_{coarse:g}_{fine:g}_fs": check.at_most(abs(ratio - 4.0), limit)
            for coarse, fine, ratio, limit in zip(timesteps, timesteps[1:], ratios, limits, strict=False)
        },
    }


def energies_per_timestep(
    atoms: "Atoms", timesteps: list[float], window_fs: float, windows: int, equilibration_fs: float
) -> dict[float, np.ndarray]:
    """Total energies (eV) along short NVE runs from common states, after every step.

    Args:
        atoms: with calculator and velocities; changed.
        timesteps: in fs, descending; each must divide ``window_fs``.
        window_fs: length of one run.
        windows: how many common states, ``window_fs`` apart.
        equilibration_fs: before the first.

    Returns:
        Time step -> [windows, samples].
    """
    from ase import units
    from ase.md.verlet import VelocityVerlet

    fine = timesteps[-1]
    VelocityVerlet(atoms, timestep=fine * units.fs).run(round(equilibration_fs / fine))
    found: dict[float, list[list[float]]] = {timestep: [] for timestep in timesteps}
    for _ in range(windows):
        positions, momenta = atoms.get_positions(), atoms.get_momenta()
        # The finest comes last: its end is where the next window starts.
        for timestep in timesteps:
            atoms.set_positions(positions)
            atoms.set_momenta(momenta)
            dynamics = VelocityVerlet(atoms, timestep=timestep * units.fs)
            series = []
            for _ in range(round(window_fs / timestep)):
                dynamics.run(1)
                series.append(atoms.get_total_energy())
            found[timestep].append(series)
    return {timestep: np.array(series) for timestep, series in found.items()}


def fluctuation(energies: np.ndarray) -> float:
    """Root of the mean variance within windows, for energies [windows, samples]."""
    return float(np.sqrt(np.var(energies, axis=1).mean()))


def convergence_ratios(timesteps: list[float], fluctuations: list[float]) -> list[float]:
    """Each fluctuation over the next finer one, scaled to a halving of the time step: 4 for a second-order integrator."""
    return [
        4.0 * (fluctuations[k] / fluctuations[k + 1]) / (timesteps[k] / timesteps[k + 1]) ** 2
        for k in range(len(timesteps) - 1)
    ]
