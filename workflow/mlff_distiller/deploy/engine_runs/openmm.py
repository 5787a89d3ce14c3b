"""A bundle in OpenMM, through OpenMM-ML: leapfrog on OpenMM's Reference platform."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openmm
from ase import units
from openmm import app, unit
from openmmml import MLPotential

from mlff_distiller.deploy.bundle import read_bundle
from mlff_distiller.deploy.engine_runs.nve import Nve, Plan
from mlff_distiller.deploy.engines.openmm import ANGSTROM
from mlff_distiller.deploy.engines.openmm_ml import Factory
from mlff_distiller.systems.units import KJ_PER_MOL

if TYPE_CHECKING:
    from ase import Atoms

_NAME = "mlff-distiller"
#: nm/ps for an A/fs.
_NM_PER_PS = 1e3 / ANGSTROM


class Runner:
    """See :class:`mlff_distiller.deploy.engine_runs.nve.Runner`."""

    computed_by = "bundle"

    def __init__(self, bundle: Path, folder: Path, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.version, self.device = version("openmm"), read_bundle(bundle)["device"]
        # As the entry point does where the package is installed.
        MLPotential.registerImplFactory(_NAME, Factory())
        self.potential = MLPotential(_NAME, bundle=bundle)

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        system = self.potential.createSystem(topology_of(atoms), removeCMMotion=False)
        for index, mass in enumerate(atoms.get_masses()):
            system.setParticleMass(index, mass)
        integrator = openmm.VerletIntegrator(plan.timestep_fs * unit.femtoseconds)
        # There is nothing else to compute, and to wake a thread of the platform CPU takes 0.1 ms a step.
        context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
        context.setPositions(atoms.positions / ANGSTROM)
        context.setVelocities(atoms.get_velocities() * units.fs * _NM_PER_PS)
        state = context.getState(energy=True, forces=True)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoules_per_mole / unit.nanometer)
        potential = state.getPotentialEnergy().value_in_unit(unit.kilojoules_per_mole)
        found = Nve(potential * KJ_PER_MOL, np.array(forces) * (KJ_PER_MOL / ANGSTROM), [_total(state)])
        for _ in range(plan.windows):
            started = time.perf_counter()
            integrator.step(plan.every)
            # The forces at the end of a step are computed with the energy, or as the next one begins: once, within the window.
            state = context.getState(energy=True)
            found.seconds.append(time.perf_counter() - started)
            found.totals.append(_total(state))
        return found


def _total(state: openmm.State) -> float:
    energy = state.getPotentialEnergy() + state.getKineticEnergy()
    return energy.value_in_unit(unit.kilojoules_per_mole) * KJ_PER_MOL


def topology_of(atoms: "Atoms") -> app.Topology:
    """One residue of all atoms, with their box where they have one."""
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for atom in atoms:
        topology.addAtom(f"{atom.symbol}{atom.index}", app.Element.getByAtomicNumber(int(atom.number)), residue)
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors(atoms.cell.array / ANGSTROM * unit.nanometer)
    return topology
