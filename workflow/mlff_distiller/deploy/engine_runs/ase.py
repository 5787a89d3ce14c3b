"""ASE's velocity Verlet, which the runs in engines are held against."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import units
from ase.md.verlet import VelocityVerlet

from mlff_distiller.deploy.bundle import load_bundle
from mlff_distiller.deploy.engine_runs.nve import Nve, Plan
from mlff_distiller.potentials.ase import PotentialCalculator

if TYPE_CHECKING:
    from ase import Atoms


class Runner:
    """See :class:`mlff_distiller.deploy.engine_runs.nve.Runner`."""

    computed_by = "bundle"

    def __init__(self, bundle: Path, folder: Path, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.potential = load_bundle(bundle)
        self.version, self.device = version("ase"), self.potential.device.type

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        return verlet(atoms, PotentialCalculator(self.potential), plan)


def verlet(atoms: "Atoms", calculator: Any, plan: Plan) -> Nve:
    """NVE by ASE with a calculator."""
    moving = atoms.copy()
    moving.calc = calculator
    found = Nve(moving.get_potential_energy(), moving.get_forces().copy(), [moving.get_total_energy()])
    dynamics = VelocityVerlet(moving, timestep=plan.timestep_fs * units.fs)
    for _ in range(plan.windows):
        started = time.perf_counter()
        dynamics.run(plan.every)
        found.seconds.append(time.perf_counter() - started)
        found.totals.append(moving.get_total_energy())
    return found
