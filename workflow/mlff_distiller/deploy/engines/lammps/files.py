"""Bundles in LAMMPS: ``pair_style mlff_distiller``, a plug-in that is compiled against the LAMMPS that loads it.

It needs ``c/`` of the bundle, and nothing of Python. ``docs/lammps.md`` tells how it is used.
"""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.systems.boxes import with_room

if TYPE_CHECKING:
    from ase import Atoms

_HERE = Path(__file__).parent
#: What the plug-in is compiled from.
_SOURCES = (
    "Makefile",
    "README.md",
    "headers.py",
    "pair_mlff_distiller.cpp",
    "pair_mlff_distiller.h",
    "plugin.cpp",
    "words.h",
)
PLUGIN = "mlff_distiller_plugin.so"
DATA = "molecule.data"
_INPUT = """\
# A molecule for 100 steps at constant energy. In this folder, after `make`:
#     lmp -in in.molecule
#     mpiexec -n 2 lmp -in in.molecule
units         metal                     # or real: then timestep 0.5, and energies in kcal/mol
atom_style    atomic
boundary      {boundary}                     # nothing repeats, and the box grows; p p p where it repeats
read_data     {data}
plugin        load ./{plugin}
pair_style    mlff_distiller
pair_coeff    * * ../../c/weights.mlff {elements}
timestep      0.0005
velocity      all create 300 4928459
fix           1 all nve
thermo        10
thermo_style  custom step temp pe ke etotal press
run           100
"""


def elements_of(atoms: "Atoms") -> list[str]:
    """The symbols of ``atoms``, each once, in the order of their atom types."""
    return sorted(set(atoms.get_chemical_symbols()))


def files(molecule: "Atoms") -> dict[str, str]:
    """The plug-in's source, what compiles it, and an example, by file names.

    Args:
        molecule: that of the example.
    """
    from ase.io.lammpsdata import write_lammps_data

    # Along open axes the box only says where to look for atoms at the start.
    atoms = with_room(molecule)
    data = io.StringIO()
    elements = elements_of(atoms)
    write_lammps_data(data, atoms, specorder=elements, masses=True)
    boundary = " ".join("p" if repeats else "m" for repeats in atoms.pbc)
    text = _INPUT.format(data=DATA, plugin=PLUGIN, elements=" ".join(elements), boundary=boundary)
    return {
        **{name: (_HERE / name).read_text(encoding="utf-8") for name in _SOURCES},
        "in.molecule": text,
        DATA: data.getvalue(),
    }
