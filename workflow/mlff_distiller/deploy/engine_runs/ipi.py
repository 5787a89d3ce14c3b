"""A bundle in i-PI, in its own process: NVE of one bead."""

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.io import write
from ipi.scripting import InteractiveSimulation, simulation_xml
from ipi.utils.depend import dstrip
from ipi.utils.units import unit_to_internal, unit_to_user

from mlff_distiller.deploy.bundle import read_bundle
from mlff_distiller.deploy.engine_runs.nve import Nve, Plan, with_room
from mlff_distiller.utils.files import write_text

if TYPE_CHECKING:
    from ase import Atoms

_DRIVER = """\
from mlff_distiller.deploy.engines.ipi import StudentDriver

__DRIVER_NAME__ = "mlff-distiller"
__DRIVER_CLASS__ = "StudentDriver"
"""
_FORCES = """\
<ffdirect name='student'>
  <pes>custom</pes>
  <pes_path>{driver}</pes_path>
  <parameters>{{template: {template}, bundle: {bundle}}}</parameters>
</ffdirect>
"""
_MOTION = """\
<motion mode='dynamics'>
  <dynamics mode='nve'><timestep units='femtosecond'>{timestep_fs}</timestep></dynamics>
</motion>
"""


class Runner:
    """See :class:`mlff_distiller.deploy.engine_runs.nve.Runner`."""

    computed_by = "bundle"

    def __init__(self, bundle: Path, folder: Path, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.bundle, self.folder = bundle, folder
        self.version, self.device = version("ipi"), read_bundle(bundle)["device"]
        self.driver = write_text(folder / "student_driver.py", _DRIVER)

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        start = with_room(atoms)
        start.info.clear()
        template = self.folder / "start.extxyz"
        write(template, start)
        # i-PI has its own masses, unless told so.
        start.set_array("mass", start.get_masses())
        forces = _FORCES.format(driver=self.driver, template=template, bundle=self.bundle)
        text = simulation_xml(start, forces, _MOTION.format(timestep_fs=plan.timestep_fs), output="<output/>")
        # It writes its state into the working folder after each call.
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            return _run(InteractiveSimulation(text), start, plan)
        finally:
            os.chdir(before)


def _run(simulation: InteractiveSimulation, start: "Atoms", plan: Plan) -> Nve:
    """In i-PI's own units, as its input has them: its angstrom and eV differ from ASE's by 1e-7."""
    (system,) = simulation.syslist
    system.cell.h = unit_to_internal("length", "angstrom", start.cell.array.T)
    system.beads.q[0] = unit_to_internal("length", "angstrom", start.positions.flatten())
    system.beads.p[0] = unit_to_internal("momentum", "ase", start.get_momenta().flatten())
    forces = unit_to_user("force", "ev/ang", dstrip(system.forces.f[0]).reshape(-1, 3))
    found = Nve(_energy(system, "potential"), np.array(forces), [_total(system)])
    for _ in range(plan.windows):
        started = time.perf_counter()
        simulation.run(plan.every, write_outputs=False)
        found.seconds.append(time.perf_counter() - started)
        found.totals.append(_total(system))
    return found


def _energy(system: Any, name: str) -> float:
    """A property, eV."""
    value, *_ = system.properties[name]
    return float(unit_to_user("energy", "electronvolt", value))


def _total(system: Any) -> float:
    return _energy(system, "potential") + _energy(system, "kinetic_md")
