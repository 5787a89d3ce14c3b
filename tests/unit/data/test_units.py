"""Labels by GFN2-xTB in every unit in use: only A, eV and eV/A pass; and right labels of every kind do."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import read, write
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from mlff_distiller.data.extxyz import read_extxyz
from mlff_distiller.data.own_data_settings import OwnDataFractions, OwnDataSettings
from mlff_distiller.data.units import check_units
from mlff_distiller.utils.errors import UserError
from tests.unit.data.labeled_sets import labeled

ENERGY = {"eV": 1.0, "Hartree": 1 / 27.211386, "kcal/mol": 23.06055, "kJ/mol": 96.48533}
LENGTH = {"A": 1.0, "bohr": 1 / 0.5291772, "nm": 0.1}
#: tblite in a process of its own: beside torch it would give wrong energies.
MAKE = """
import sys
import numpy as np
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.spacegroup import crystal
from tblite.ase import TBLite
carbon_dioxide = crystal(["C", "O"], [(0, 0, 0), [0.1185] * 3], spacegroup=205, cellpar=[5.62] * 3 + [90] * 3)
random = np.random.default_rng(0)
for name, atoms in {
    "water": molecule("H2O"), "ethanol": molecule("CH3CH2OH"), "crystal": carbon_dioxide, "hydroxyl": molecule("OH")
}.items():
    frames, start = [], atoms.positions.copy()
    for _ in range(8):
        frame = atoms.copy()
        frame.positions = start + random.normal(0, 0.04, start.shape)
        frame.calc = TBLite(method="GFN2-xTB", verbosity=0)
        energy, forces = frame.get_potential_energy(), frame.get_forces()
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
        frames.append(frame)
    write(f"{sys.argv[1]}/{name}.extxyz", frames)
"""


@pytest.fixture(scope="session")
def gfn2(tmp_path_factory):
    """Eight displaced frames of each system, by name."""
    folder = tmp_path_factory.mktemp("gfn2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], env=environment, check=True, timeout=300)
    return {path.stem: read(path, index=":") for path in folder.glob("*.extxyz")}


def in_units(frames, energy="eV", length="A", force_energy=None, force_length=None):
    force = ENERGY[force_energy or energy] / LENGTH[force_length or length]
    return [
        labeled(
            Atoms(f.numbers, f.positions * LENGTH[length], cell=f.cell.array * LENGTH[length], pbc=f.pbc),
            f.get_potential_energy() * ENERGY[energy],
            f.get_forces() * force,
        )
        for f in frames
    ]


def read_all(folder, frames):
    write(folder / "own.extxyz", frames)
    everything = OwnDataSettings(split_by="frame", fractions=OwnDataFractions(val=0.0, test=0.0))
    return read_extxyz(folder / "own.extxyz", everything)


@pytest.mark.parametrize("system", ["water", "ethanol", "crystal"])
@pytest.mark.parametrize(("energy", "length"), list(itertools.product(ENERGY, LENGTH)))
def test_of_all_units_only_electron_volt_and_angstrom_pass(tmp_path, gfn2, system, energy, length):
    frames = in_units(gfn2[system], energy, length)
    if (energy, length) == ("eV", "A"):
        found = check_units(read_all(tmp_path, frames))
        assert (found.doubts, found.unknown) == ((), ())
        return
    wrong = {"bohr": "in bohr", "nm": "in nm"}.get(length, f"forces in {energy}/A")
    with pytest.raises(UserError, match=wrong):
        read_all(tmp_path, frames)


@pytest.mark.parametrize("system", ["water", "ethanol", "crystal"])
@pytest.mark.parametrize(
    ("energy", "force_energy", "force_length"),
    [("Hartree", "eV", "A"), ("eV", "Hartree", "bohr"), ("Hartree", "Hartree", "bohr"), ("eV", "kcal/mol", "A")],
)
def test_energies_and_forces_of_different_units_are_refused(tmp_path, gfn2, system, energy, force_energy, force_length):
    with pytest.raises(UserError, match="energy changes are"):
        read_all(tmp_path, in_units(gfn2[system], energy, "A", force_energy, force_length))


@pytest.mark.parametrize("system", ["water", "ethanol", "crystal"])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("energy", ["Hartree", "kcal/mol", "kJ/mol"])
def test_one_frame_or_two_in_another_unit_are_refused_or_said_to_be_unchecked(gfn2, tmp_path, system, n, energy):
    with pytest.raises(UserError, match=energy):
        read_all(tmp_path, in_units(gfn2[system][:n], energy))
    assert check_units(read_all(tmp_path, gfn2[system][:n])).unknown


@pytest.mark.parametrize("system", ["water", "ethanol", "crystal", "hydroxyl"])
def test_few_right_frames_pass(gfn2, tmp_path, system):
    for n in (1, 2, 3, 8):
        assert len(read_all(tmp_path, in_units(gfn2[system][:n]))) == n


def test_energies_per_atom_are_recognized(gfn2, tmp_path):
    frames = [labeled(f, f.get_potential_energy() / 9, f.get_forces()) for f in gfn2["ethanol"]]
    with pytest.raises(UserError, match="energies per atom"):
        read_all(tmp_path, frames)


def test_energies_that_never_change_are_of_no_unit(gfn2, tmp_path):
    dataset = read_all(tmp_path, gfn2["water"])
    constant = replace(dataset, energies=np.full(len(dataset), -1.0))
    assert any("energy changes are 0 times what the forces say" in doubt for doubt in check_units(constant).doubts)


def with_emt(atoms):
    atoms.calc = EMT()
    return labeled(atoms, atoms.get_potential_energy(), atoms.get_forces())


def dynamics_of_a_crystal():
    atoms = bulk("Cu", cubic=True) * 2
    atoms.calc = EMT()
    thermalize_momenta(atoms, temperature_K=600, rng=np.random.default_rng(1))
    frames = []
    run = VelocityVerlet(atoms, 2.0)
    run.attach(lambda: frames.append(with_emt(atoms.copy())), interval=3)
    run.run(60)
    return frames


def relaxed_molecules():
    frames = []
    for name in ("H2O", "CH4", "CH3OH"):
        atoms = molecule(name)
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=1e-4)
        frames.append(with_emt(atoms.copy()))
    return frames


def isolated_atoms():
    return [with_emt(Atoms(symbol)) for symbol in ("H", "C", "O")] + relaxed_molecules()


def perfect_crystals():
    return [with_emt(bulk("Cu", a=a)) for a in (3.5, 3.6, 3.7)] + [with_emt(bulk("Cu", cubic=True))]


@pytest.mark.parametrize("make", [dynamics_of_a_crystal, relaxed_molecules, isolated_atoms, perfect_crystals])
def test_right_labels_of_many_kinds_pass(tmp_path, make):
    frames = make()
    assert len(read_all(tmp_path, frames)) == len(frames)
