"""MD validation: does a variant conserve energy, keep its momentum and its bonds, and stay true to the fp64 forces?

NVE by ASE's velocity Verlet. A wrong force shows here even when energies agree: the total energy drifts.
"""

import argparse
import math
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller import records
from mlff_distiller.compile import first_line
from mlff_distiller.files import load_settings, write_text
from mlff_distiller.md_settings import settings_with_defaults
from mlff_distiller.systems import read_system
from mlff_distiller.variants import artifact

if TYPE_CHECKING:
    from ase import Atoms

#: A bond is broken when it is longer than this many times its length at the start.
BROKEN = 1.5


@dataclass(frozen=True)
class Slope:
    """A drift and its standard error, in the unit of the values per unit of time."""

    value: float
    stderr: float


def drift(times: np.ndarray, values: np.ndarray, n_blocks: int = 10) -> Slope:
    """Least-squares slope of ``values`` [n] against ``times`` [n]; its error from the scatter of block means.

    Neighboring samples of a trajectory are correlated, so that the textbook error of the slope is too small; means over
    blocks much longer than a vibration are not (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461, 1989).
    """
    if len(times) < 2 * n_blocks:
        raise ValueError(f"{len(times)} samples are too few for {n_blocks} blocks")
    t = np.array([block.mean() for block in np.array_split(np.asarray(times, float), n_blocks)])
    y = np.array([block.mean() for block in np.array_split(np.asarray(values, float), n_blocks)])
    centered = t - t.mean()
    spread = float((centered**2).sum())
    value = float((centered * (y - y.mean())).sum()) / spread
    residual = y - y.mean() - value * centered
    return Slope(value, math.sqrt(float((residual**2).sum()) / (n_blocks - 2) / spread))


def bonds_of(atoms: "Atoms") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bonded pairs i < j by covalent radii (Cordero 2008, x 1.2), and their lengths: [B], [B], [B] A."""
    from ase.neighborlist import natural_cutoffs, neighbor_list

    i, j, distance = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=1.2))
    once = i < j
    return i[once], j[once], distance[once]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--equivalence", type=Path, required=True, help="records of the variant's equivalence check")
    parser.add_argument("--system", required=True, help="file of the molecule")
    parser.add_argument("--settings", default="{}", help="timestep_fs, steps, gates, ... (JSON text or a file)")
    parser.add_argument("--trajectory", type=Path, required=True, help="extxyz to write")
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md`` and a trajectory (empty when the variant cannot run)."""
    settings = settings_with_defaults(load_settings(args.settings))
    atoms = read_system(args.system)
    made = artifact.read_metadata(args.variant)
    entry = artifact.shared_fields(made) | {
        "task": "nve",
        "system": atoms.info["name"],
        "n_atoms": len(atoms),
        "ensemble": "NVE",
        "threads": args.threads,
    }
    entry |= {"timestep_fs": settings["timestep_fs"], "n_steps": settings["steps"]}
    verdict = next((e for e in records.read(args.equivalence) if e["status"] != "ok"), None)
    trajectory = ""
    if verdict is not None:
        entry |= {"status": verdict["status"], "reason": verdict["reason"], "passed": False}
    else:
        try:
            measured, trajectory = simulate(args, atoms, settings)
            entry |= measured
        except Exception as error:
            traceback.print_exc()
            entry |= {"status": "failed", "reason": f"{type(error).__name__}: {first_line(error)}", "passed": False}
    write_text(args.trajectory, trajectory)
    records.write(args.output, [records.record("md", **entry)])
    return 0


def simulate(args: argparse.Namespace, atoms: "Atoms", settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Equilibrate, run NVE, and measure; the record's fields and the trajectory as extxyz text."""
    import torch
    from ase import units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary, ZeroRotation
    from ase.md.verlet import VelocityVerlet

    from mlff_distiller.calculator import StudentCalculator
    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.student.checkpoint import load_student

    loaded = artifact.load_variant(args)
    referee = StudentCalculator(
        AutogradPotential(load_student(args.checkpoint, "cpu", torch.float64, neighbors="native"))
    )
    start = atoms
    atoms = start.copy()
    atoms.calc = StudentCalculator(loaded.potential)
    # The first calls of a compiled variant may still compile.
    for _ in range(3):
        loaded.potential(*_batch(atoms, loaded.potential))
    # Twice the temperature: half of it goes into the potential energy of a geometry that starts at its minimum.
    MaxwellBoltzmannDistribution(
        atoms, temperature_K=2 * settings["temperature_k"], rng=np.random.default_rng(settings["seed"])
    )
    Stationary(atoms)
    if not atoms.pbc.any():
        ZeroRotation(atoms)
    dynamics = VelocityVerlet(atoms, timestep=settings["timestep_fs"] * units.fs)
    dynamics.run(settings["equilibration_steps"])

    first, second, lengths = bonds_of(start)
    times, energies, temperatures, momenta, force_errors, frames = [], [], [], [], [], []
    broken = np.zeros(len(lengths), dtype=bool)
    n = len(atoms)

    def observe():
        step = dynamics.nsteps - start_step
        times.append(step * settings["timestep_fs"])
        energies.append(1e3 * atoms.get_total_energy() / n)
        temperatures.append(atoms.get_temperature())
        momenta.append(float(np.linalg.norm(atoms.get_momenta().sum(axis=0))))
        vectors = atoms.positions[second] - atoms.positions[first]
        if atoms.pbc.any():
            from ase.geometry import find_mic

            vectors = find_mic(vectors, atoms.cell, atoms.pbc)[0]
        broken[:] |= np.linalg.norm(vectors, axis=1) > BROKEN * lengths
        if step % settings["force_check_every"] == 0:
            exact = referee.get_forces(atoms)
            force_errors.append(atoms.get_forces() - exact)
            frames.append(_frame(atoms))

    start_step = dynamics.nsteps
    elapsed = 0.0
    observe()
    for done in range(0, settings["steps"], settings["sample_every"]):
        now = min(settings["sample_every"], settings["steps"] - done)
        started = time.perf_counter()
        dynamics.run(now)
        elapsed += time.perf_counter() - started
        observe()
        if not math.isfinite(energies[-1]):
            raise FloatingPointError(f"the total energy is not finite after {times[-1]:.1f} fs")

    slope = drift(np.array(times) / 1e3, np.array(energies))
    relative = np.array(energies) - energies[0]
    values = {
        "drift_mev_per_atom_ps": abs(slope.value),
        "momentum": max(momenta),
        "force_rmse_mev_per_a": 1e3 * float(np.sqrt(np.mean(np.square(force_errors)))),
        "excursion_mev_per_atom": float(np.abs(relative).max()),
        "bonds_broken": int(broken.sum()),
    }
    gates = {
        name: {"value": value, "limit": settings["gates"][name], "passed": bool(value <= settings["gates"][name])}
        for name, value in values.items()
    }
    # A slope that cannot be told from zero, given its error, is no evidence of drift in a short run.
    gates["drift_mev_per_atom_ps"]["passed"] = bool(
        max(0.0, abs(slope.value) - 2 * slope.stderr) <= settings["gates"]["drift_mev_per_atom_ps"]
    )
    thin = max(1, len(times) // 200)
    measured = {
        "drift_mev_per_atom_ps": slope.value,
        "drift_stderr_mev_per_atom_ps": slope.stderr,
        "mean_temperature_k": float(np.mean(temperatures)),
        "max_momentum": values["momentum"],
        "max_energy_excursion_mev_per_atom": values["excursion_mev_per_atom"],
        "force_rmse_mev_per_a": values["force_rmse_mev_per_a"],
        "bonds_broken": values["bonds_broken"],
        "steps_per_s": settings["steps"] / elapsed,
        "passed": all(gate["passed"] for gate in gates.values()),
        "gates": gates,
        "energy_trace": {"time_fs": times[::thin], "total_mev_per_atom": relative[::thin].tolist()},
    }
    return measured, "".join(frames)


def _batch(atoms: "Atoms", potential):
    from mlff_distiller.batch import Batch

    return Batch.from_atoms([atoms], potential.device, potential.dtype)


def _frame(atoms: "Atoms") -> str:
    """One frame with energy, forces and momenta as extxyz text."""
    import io

    from ase.io import write

    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz")
    return buffer.getvalue()
