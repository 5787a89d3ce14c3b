"""An example of a bundle in each engine that people run MD with, and whether it runs here.

Written without the engines: those that are not installed are ``unavailable``, with the command that installs them.
"""

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mlff_distiller
from mlff_distiller.deploy.engines.known import ENGINES, checked
from mlff_distiller.deploy.engines.lammps import files as lammps
from mlff_distiller.systems.boxes import with_room
from mlff_distiller.utils.files import write_text

if TYPE_CHECKING:
    from ase import Atoms

#: The folder of a bundle that has a folder for each engine.
FOLDER = "engines"
#: The longest that an example may take, s; a GPU's first call compiles.
LONGEST = 300
#: The folder that this package is imported from.
_PACKAGES = Path(mlff_distiller.__file__).parents[1]
#: Variables by which a `make` speaks to those that it starts.
_OF_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")

_OPENMM = """\
from pathlib import Path

from openmm import LangevinMiddleIntegrator, app, unit
from openmmml import MLPotential

here = Path(__file__).resolve().parent
pdb = app.PDBFile(str(here / "start.pdb"))
system = MLPotential("mlff-distiller", bundle=here.parents[1]).createSystem(pdb.topology)
integrator = LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.5 * unit.femtoseconds)
simulation = app.Simulation(pdb.topology, system, integrator)
simulation.context.setPositions(pdb.positions)
simulation.step(100)
print(simulation.context.getState(energy=True).getPotentialEnergy())
"""
_IPI_DRIVER = '''\
"""The bundle that this file lies in, as a driver of i-PI: it needs the same structure file as i-PI, in the same order."""

from pathlib import Path

from mlff_distiller.deploy.engines.ipi import StudentDriver

__DRIVER_NAME__ = "mlff-distiller"
__DRIVER_CLASS__ = "Driver"


class Driver(StudentDriver):
    def __init__(self, template, bundle=Path(__file__).resolve().parents[2], **options):
        super().__init__(template, bundle, **options)
'''
_IPI_INPUT = """\
<!-- Path-integral MD of a molecule at 300 K with 8 beads, which are one call of the student: batch_size is the number of
     beads, or a divisor of it. -->
<simulation verbosity='low'>
  <output prefix='beads'>
    <properties stride='10' filename='out'>
      [step, time{picosecond}, conserved{electronvolt}, temperature{kelvin}, kinetic_cv{electronvolt},
       potential{electronvolt}]
    </properties>
    <trajectory filename='centroid' stride='100' format='ase'>x_centroid{ase}</trajectory>
    <checkpoint stride='1000'/>
  </output>
  <total_steps>100</total_steps>
  <prng><seed>1</seed></prng>
  <ffdirect name='student'>
    <pes>custom</pes>
    <pes_path>student_driver.py</pes_path>
    <batch_size>8</batch_size>
    <parameters>{template: start.extxyz}</parameters>
  </ffdirect>
  <system>
    <initialize nbeads='8'>
      <file mode='ase' units='angstrom'>start.extxyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='student'/></forces>
    <ensemble><temperature units='kelvin'>300</temperature></ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'>0.25</timestep>
        <thermostat mode='pile_g'><tau units='femtosecond'>100</tau></thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""
_TORCHSIM = """\
from pathlib import Path

import torch_sim as ts
from ase.io import read

from mlff_distiller.deploy.engines.torchsim import StudentModel

bundle = Path(__file__).resolve().parents[2]
model = StudentModel(bundle)
molecules = read(bundle / "molecules.extxyz", index=":")
final = ts.integrate(
    system=molecules,  # all at once
    model=model,
    integrator=getattr(ts, "Integrator", ts).nvt_langevin,  # ts.nvt_langevin in TorchSim 0.3
    n_steps=100,
    timestep=0.0005,  # ps
    temperature=300,  # K
)
for atoms, energy in zip(molecules, final.energy.tolist(), strict=True):
    print(f"{atoms.get_chemical_formula()}: {energy:.4f} eV")
"""
_METATOMIC = """\
from pathlib import Path

from ase.io import read
from metatomic_ase import MetatomicCalculator

from mlff_distiller.deploy.engines.metatomic import export

bundle = Path(__file__).resolve().parents[2]
model = export(bundle, Path(__file__).with_name("student.pt"))
# From here on, this package is not needed.
atoms = read(bundle / "molecules.extxyz", index=0)
atoms.calc = MetatomicCalculator(model, device="cpu")
print(f"{atoms.get_chemical_formula()}: {atoms.get_potential_energy():.4f} eV")
print(f"forces of at most {abs(atoms.get_forces()).max():.2f} eV/A")
"""


@dataclass(frozen=True)
class Example:
    """What shows an engine a bundle.

    Args:
        run: the command that runs it, in its folder.
        files: by file names.
        start: the structure file that goes with it, if any; the first molecule of the bundle is written to it.
        of_molecule: more files, by file names, from that molecule.
    """

    run: tuple[str, ...]
    files: Mapping[str, str]
    start: str | None = None
    of_molecule: "Callable[[Atoms], Mapping[str, str]] | None" = None


#: By the names of :data:`~mlff_distiller.deploy.engines.known.ENGINES`.
EXAMPLES = {
    "openmm": Example(("python", "example.py"), {"example.py": _OPENMM}, "start.pdb"),
    "ipi": Example(("i-pi", "input.xml"), {"student_driver.py": _IPI_DRIVER, "input.xml": _IPI_INPUT}, "start.extxyz"),
    "metatomic": Example(("python", "example.py"), {"example.py": _METATOMIC}),
    "torchsim": Example(("python", "example.py"), {"example.py": _TORCHSIM}),
    "lammps": Example(("make", "example"), {}, of_molecule=lammps.files),
}


def write(bundle: Path, names: Iterable[str], molecule: "Atoms") -> None:
    """Write the examples of engines into a bundle.

    Args:
        bundle: its folder.
        names: of :data:`EXAMPLES`.
        molecule: what their start files hold.
    """
    for name in checked(names):
        example, folder = EXAMPLES[name], bundle / FOLDER / name
        more = example.of_molecule(molecule) if example.of_molecule else {}
        for file, text in (*example.files.items(), *more.items()):
            write_text(folder / file, text)
        if example.start:
            write_text(folder / example.start, _start(molecule, example.start))


def attempt(bundle: Path, name: str, python: str | Path = sys.executable) -> dict[str, str]:
    """Run the example of an engine in a copy of its bundle.

    Args:
        bundle: its folder.
        name: of :data:`EXAMPLES`.
        python: the interpreter whose environment has the engine, if any has; this package comes with it or from here.

    Returns:
        ``status`` (``ok``, ``failed``, or ``unavailable`` where the engine is not installed) and the ``reason``.
    """
    engine, example = ENGINES[name], EXAMPLES[name]
    if not _has(python, engine.module):
        return {"status": "unavailable", "reason": f"{engine.title} is not installed here: {engine.install}"}
    scripts = os.pathsep.join([str(Path(python).absolute().parent), os.environ.get("PATH", "")])
    path = os.pathsep.join(entry for entry in sys.path if entry) if _is_own(python) else str(_PACKAGES)
    # Under a `make`, its flags would go on to the example's own.
    without_make = {name: value for name, value in os.environ.items() if name not in _OF_MAKE}
    environment = without_make | {"PATH": scripts, "PYTHONPATH": path}
    command = " ".join(example.run)
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(bundle, Path(place) / "bundle")
        try:
            done = subprocess.run(
                example.run,
                cwd=copy / FOLDER / name,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LONGEST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"status": "failed", "reason": f"{command} takes longer than {LONGEST} s"}
        except OSError as error:
            return {"status": "failed", "reason": f"{command} cannot be run: {error}"}
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        # Behind the reason, make says that something failed.
        said = next((line[:300] for line in reversed(lines) if not line.startswith("make: ")), "no message")
        return {"status": "failed", "reason": f"{command} ends with {done.returncode}: {said}"}
    return {"status": "ok", "reason": ""}


def _is_own(python: str | Path) -> bool:
    return Path(python).absolute() == Path(sys.executable).absolute()


def _has(python: str | Path, module: str) -> bool:
    """Whether an interpreter's environment has a module, which is not imported."""
    if _is_own(python):
        return importlib.util.find_spec(module) is not None
    asked = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    return subprocess.run([python, "-c", asked, module], check=False).returncode == 0


def readme(outcomes: Mapping[str, Mapping[str, str]]) -> str:
    """The part of a bundle's README about engines; empty where no example was written.

    Args:
        outcomes: of :func:`attempt`, by engine.
    """
    if not outcomes:
        return ""
    lines = []
    for name, outcome in outcomes.items():
        engine = ENGINES[name]
        ran = {"ok": "ran", "unavailable": "not tried"}.get(outcome["status"], f"failed: {outcome['reason']}")
        command = f"cd {FOLDER}/{name} && {' '.join(EXAMPLES[name].run)}"
        lines.append(f"| {engine.title} | `{engine.install}` | `{command}` | {ran} | `docs/{name}.md` |")
    return f"""
## In MD engines
All but LAMMPS need this package, installed with the engine from its checkout:

| engine | installed by | example | when this bundle was made | more |
|---|---|---|---|---|
{chr(10).join(lines)}
"""


def _start(molecule: "Atoms", file: str) -> str:
    from ase.io import write as write_atoms

    pdb = file.endswith(".pdb")
    # i-PI asks for a cell, also of a molecule; in a PDB file it would make the molecule periodic.
    atoms = molecule.copy() if pdb else with_room(molecule)
    atoms.info.clear()
    text = io.StringIO()
    write_atoms(text, atoms, format="proteindatabank" if pdb else "extxyz")
    return text.getvalue()
