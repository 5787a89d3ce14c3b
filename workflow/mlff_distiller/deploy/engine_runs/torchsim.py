"""A bundle in TorchSim, with its velocity Verlet."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch_sim as ts
from torch_sim.units import MetalUnits

from mlff_distiller.deploy.engine_runs.nve import Nve, Plan
from mlff_distiller.deploy.engines.torchsim import StudentModel

if TYPE_CHECKING:
    from ase import Atoms


class Runner:
    """See :class:`mlff_distiller.deploy.engine_runs.nve.Runner`."""

    computed_by = "bundle"

    def __init__(self, bundle: Path, folder: Path, threads: int):
        torch.set_num_threads(threads)
        self.model = StudentModel(bundle)
        self.version, self.device = version("torch-sim-atomistic"), self.model.device.type

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        length = torch.tensor(
            plan.timestep_fs / 1e3 * MetalUnits.time, dtype=self.model.dtype, device=self.model.device
        )
        start, step = ts.nve(model=self.model, dt=length, kT=torch.zeros_like(length))
        state = start(ts.io.atoms_to_state([atoms], self.model.device, self.model.dtype))
        # TorchSim's units of momentum are ASE's.
        state.momenta = torch.from_numpy(atoms.get_momenta()).to(state.momenta)
        found = Nve(float(state.energy), state.forces.double().cpu().numpy(), [self._total(state)])
        for _ in range(plan.windows):
            started = time.perf_counter()
            for _ in range(plan.every):
                state = step(state)
            self._wait()
            found.seconds.append(time.perf_counter() - started)
            found.totals.append(self._total(state))
        return found

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize(self.model.device)

    @staticmethod
    def _total(state: "ts.SimState") -> float:
        kinetic = ts.quantities.calc_kinetic_energy(masses=state.masses, momenta=state.momenta)
        return float(state.energy) + float(kinetic)
