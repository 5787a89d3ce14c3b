"""A student in LAMMPS: the plug-in as a bundle has it, with the C library, in one process of LAMMPS."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.io import read
from ase.io.lammpsdata import write_lammps_data

from mlff_distiller.deploy import c_library, texts
from mlff_distiller.deploy.bundle import WEIGHTS
from mlff_distiller.deploy.engine_runs.nve import Nve, Plan, with_room
from mlff_distiller.deploy.engines.lammps.files import PLUGIN, elements_of, files
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_text

if TYPE_CHECKING:
    from ase import Atoms

#: The longest that LAMMPS may take, s; the plan of a run is far shorter.
_LONGEST = 600
#: The clock is LAMMPS's own: seconds since the run began.
_INPUT = """\
units         metal
atom_style    atomic
boundary      {boundary}
read_data     atoms.data
plugin        load {plugin}
pair_style    mlff_distiller
pair_coeff    * * {weights} {elements}
timestep      {timestep_ps:.12g}
fix           1 all nve
thermo        {every}
thermo_style  custom step cpu pe etotal
thermo_modify norm no format float %.14g
dump          1 all custom {steps} atoms.dump id fx fy fz
dump_modify   1 sort id format float %.12g first yes
run           {steps}
"""


class Runner:
    """See :class:`mlff_distiller.deploy.engine_runs.nve.Runner`.

    Raises:
        NotImplementedError: there is no C library of this student here, with the reason.
        UserError: the plug-in cannot be compiled.
    """

    computed_by = "c"
    device = "cpu"

    def __init__(self, bundle: Path, folder: Path, threads: int):
        self.version, self.folder = version("lammps"), folder
        molecules = read(bundle / texts.MOLECULES, index=":")
        in_c = c_library.make(bundle / WEIGHTS, molecules)
        if in_c.missing:
            raise NotImplementedError(in_c.missing)
        # The Makefile finds the library at ../../c.
        self.library, source = folder / c_library.FOLDER, folder / "engines" / "lammps"
        in_c.write(self.library)
        for name, text in files(molecules[0]).items():
            write_text(source / name, text)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self.environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": str(threads)}
        self.plugin, self.program = source / PLUGIN, shutil.which("lmp", path=path)
        self._run(["make", PLUGIN], source)

    def __call__(self, atoms: "Atoms", plan: Plan) -> Nve:
        start, elements = with_room(atoms), elements_of(atoms)
        data = self.folder / "atoms.data"
        write_lammps_data(data, start, specorder=elements, masses=True, velocities=True)
        text = _INPUT.format(
            boundary=" ".join("p" if repeats else "m" for repeats in atoms.pbc),
            plugin=self.plugin,
            weights=self.library / c_library.WEIGHTS,
            elements=" ".join(elements),
            timestep_ps=plan.timestep_fs / 1e3,
            every=plan.every,
            steps=plan.steps,
        )
        write_text(self.folder / "in.nve", text)
        said = self._run([self.program, "-in", "in.nve", "-log", "none"], self.folder)
        rows = [line.split() for line in said.splitlines()]
        # Step, seconds, potential and total energy, as thermo_style has them.
        printed = np.array([list(map(float, row)) for row in rows if len(row) == 4 and row[0].isdigit()])
        if len(printed) != plan.windows + 1:
            raise UserError(f"LAMMPS printed {len(printed)} lines of energies, {plan.windows + 1} were asked for")
        seconds = np.diff(printed[:, 1]).tolist()
        return Nve(printed[0, 2], self._first_forces(len(atoms)), printed[:, 3].tolist(), seconds)

    def _first_forces(self, n_atoms: int) -> np.ndarray:
        lines = (self.folder / "atoms.dump").read_text(encoding="utf-8").splitlines()
        first = next(index for index, line in enumerate(lines) if line.startswith("ITEM: ATOMS")) + 1
        return np.array([list(map(float, line.split()[1:])) for line in lines[first : first + n_atoms]])

    def _run(self, command: list[str], folder: Path) -> str:
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST,
            check=False,
        )
        if done.returncode:
            print(done.stdout, done.stderr)
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line or "error" in line]
            raise UserError(
                f"{Path(command[0]).name} ends with {done.returncode}: {(lines or ['no message'])[0][:300]}"
            )
        return done.stdout
