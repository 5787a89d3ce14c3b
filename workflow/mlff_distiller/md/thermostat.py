"""Does Langevin dynamics with a variant's forces sample the canonical ensemble?

The kinetic energy of 3N free velocities at temperature T follows a gamma distribution of shape 3N/2 and scale kT; forces
that heat, or that are noisy, move or widen it. Checked as ``physical_validation.kinetic_energy.distribution`` does in its
strict form (Merz and Shirts, PLoS ONE 13, e0202764, 2018): Kolmogorov-Smirnov on samples thinned until independent.
"""

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md import check
from mlff_distiller.md.langevin import kinetic_energies, run_langevin
from mlff_distiller.md.measures import statistical_inefficiency
from mlff_distiller.md.thermostat_settings import ThermostatSettings
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles

if TYPE_CHECKING:
    from ase import Atoms

#: A p-value that calls for a second trajectory.
DOUBT = 0.05
#: What is added to the seed for it; the noise of a seed is drawn from the next one.
ANOTHER_SEED = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    check.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md``, task ``nvt``."""
    return check.run_check(args, "nvt", ThermostatSettings, measure, ensemble="NVT")


def measure(files: VariantFiles, atoms: "Atoms", settings: ThermostatSettings) -> dict[str, Any]:
    """Fields of the record: mean temperature, the test's p-value, the histogram, the gates.

    A p-value below :data:`DOUBT`, as one in twenty right runs has, calls for a second trajectory of another seed; what is
    judged is both together.
    """
    from mlff_distiller.md.dynamics import thermostat

    potential = artifact.load_variant(files).potential
    kinetic, speeds, seeds, first = [], [], [settings.seed, settings.seed + ANOTHER_SEED], {}
    for seed in seeds:
        moved, told = atoms.copy(), settings.model_copy(update={"seed": seed})
        samples = run_langevin(moved, told, lambda atoms, settings: thermostat(atoms, potential, settings))
        kinetic.append(kinetic_energies(samples, atoms.get_masses()))
        speeds.append(samples.steps_per_s)
        outcome = compare_with_gamma(kinetic, 3 * len(atoms), settings.temperature_k)
        if outcome["p_value"] >= DOUBT or first:
            break
        first = {"first_p_value": outcome["p_value"]}
    # The density at the middle of each bin, in units of kT, for the figure.
    density, edges = np.histogram(outcome.pop("reduced"), bins=30, density=True)
    gates = settings.gates
    beyond = max(0.0, abs(outcome["mean_temperature_k"] - settings.temperature_k) - 2 * outcome["temperature_stderr_k"])
    return (
        outcome
        | first
        | {
            "timestep_fs": settings.timestep_fs,
            "n_steps": len(kinetic) * settings.steps,
            "seeds": seeds[: len(kinetic)],
            "temperature_k": settings.temperature_k,
            "nvt_steps_per_s": len(speeds) / sum(1 / speed for speed in speeds),
            "kinetic_histogram": {"edges_kt": edges.tolist(), "density": density.tolist()},
            "gates": {
                "temperature_error_k": check.at_most(beyond, gates.temperature_error_k),
                "kinetic_energy_p": {
                    "value": outcome["p_value"],
                    "limit": gates.kinetic_energy_p,
                    "passed": outcome["p_value"] >= gates.kinetic_energy_p,
                },
            },
        }
    )


def compare_with_gamma(
    trajectories: Sequence[np.ndarray], degrees_of_freedom: int, temperature_k: float
) -> dict[str, Any]:
    """Kinetic energies [T] eV of one or several ``trajectories`` against the Maxwell-Boltzmann distribution.

    Returns:
        ``p_value`` of the Kolmogorov-Smirnov test on ``independent_samples`` thinned ones, ``mean_temperature_k`` with
        ``temperature_stderr_k`` (all samples, error by the statistical inefficiency), and ``reduced``: all energies / kT.
    """
    from ase import units
    from scipy import stats

    kt = units.kB * temperature_k
    inefficiencies = [statistical_inefficiency(kinetic) for kinetic in trajectories]
    thinned = np.concatenate(
        [
            kinetic[:: math.ceil(inefficiency)]
            for kinetic, inefficiency in zip(trajectories, inefficiencies, strict=True)
        ]
    )
    everything = np.concatenate(trajectories)
    temperatures = 2 * everything / (degrees_of_freedom * units.kB)
    independent = sum(
        len(kinetic) / inefficiency for kinetic, inefficiency in zip(trajectories, inefficiencies, strict=True)
    )
    return {
        "p_value": float(stats.kstest(thinned / kt, "gamma", (degrees_of_freedom / 2,)).pvalue),
        "independent_samples": len(thinned),
        "degrees_of_freedom": degrees_of_freedom,
        "mean_temperature_k": float(temperatures.mean()),
        "temperature_stderr_k": float(temperatures.std() / math.sqrt(independent)),
        "reduced": everything / kt,
    }
