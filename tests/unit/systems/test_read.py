"""The molecules that ship, and what is refused before any work."""

import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import write
from ase.neighborlist import neighbor_list
from rdkit import Chem

from mlff_distiller.data.molecule_list import flat_smiles
from mlff_distiller.data.molecules import BENCHMARK_MOLECULES, atoms_from_smiles, conformers, molecule_from_smiles
from mlff_distiller.preflight.config import system_name, system_path
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.systems.read import available_systems, check_atoms, load_system, read_system
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import split_frame

FOLDER = "resources/molecules"


def test_benchmark_molecules_are_the_seven_in_order_of_size():
    names = ["water", "methane", "benzene", "caffeine", "penicillin_g", "cholesterol", "ala9_capped"]
    assert available_systems(FOLDER) == names == [molecule.name for molecule in BENCHMARK_MOLECULES]
    assert [len(load_system(name, FOLDER)) for name in names] == [3, 5, 12, 24, 41, 74, 102]


@pytest.mark.parametrize("molecule", BENCHMARK_MOLECULES, ids=lambda molecule: molecule.name)
def test_a_shipped_geometry_is_the_molecule_it_says(molecule):
    """Bonds read off the distances are those of the SMILES string, atom by atom."""
    atoms = load_system(molecule.name, FOLDER)
    expected = molecule_from_smiles(molecule.smiles)
    assert atoms.numbers.tolist() == [atom.GetAtomicNum() for atom in expected.GetAtoms()]
    assert flat_smiles(atoms.info["smiles"]) == flat_smiles(molecule.smiles)
    radius = {1: 0.31, 6: 0.76, 7: 0.71, 8: 0.66, 16: 1.05}
    first, second, distance = neighbor_list("ijd", atoms, 2.2)
    limit = [1.25 * (radius[a] + radius[b]) for a, b in zip(atoms.numbers[first], atoms.numbers[second], strict=True)]
    near = distance < np.array(limit)
    found = {(int(i), int(j)) for i, j in zip(first[near], second[near], strict=True) if i < j}
    wanted = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in expected.GetBonds()}
    assert found == wanted
    assert 0 < atoms.info["fmax_ev_per_a"] <= 0.01
    assert "GFN2-xTB" in atoms.info["teacher"]


def test_a_misspelt_molecule_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match=r"unknown molecule 'cafeine'.*did you mean 'caffeine'"):
        load_system("cafeine", FOLDER)


def test_a_molecule_of_ones_own_is_named_by_its_path(tmp_path):
    frames = [Atoms("CO", [[0, 0, 0], [0, 0, distance]]) for distance in (1.1, 1.2, 1.3)]
    write(tmp_path / "mine.pdb", frames[0])
    assert load_system(tmp_path / "mine.pdb", FOLDER).info["name"] == "mine"
    write(tmp_path / "path.extxyz", frames)
    with pytest.raises(UserError, match="3 frames; choose one"):
        load_system(tmp_path / "path.extxyz", FOLDER)
    assert load_system(f"{tmp_path}/path.extxyz@1", FOLDER).get_distance(0, 1) == pytest.approx(1.2)
    with pytest.raises(UserError, match="no such file"):
        load_system(tmp_path / "absent.xyz", FOLDER)
    (tmp_path / "broken.xyz").write_text("two\natoms\n")
    with pytest.raises(UserError, match="expected the number of atoms of the next frame"):
        read_system(tmp_path / "broken.xyz")


@pytest.mark.parametrize("name", ["mine.xyz", "mine.XYZ", "mine.extxyz", "mine.xyz.gz"])
def test_frames_after_a_blank_line_are_not_left_out_without_a_word(tmp_path, name):
    frame = "2\n\nC 0 0 0\nO 0 0 1.1\n"
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "wt") as stream:
        stream.write(f"{frame}\n{frame}")
    with pytest.raises(UserError, match="line 5 is blank, and more follows on line 6"):
        read_system(tmp_path / name)


@pytest.fixture
def trajectory(tmp_path):
    """Three frames that call themselves something else, in a folder with an @."""
    (tmp_path / "run@2").mkdir()
    frames = [Atoms("CO", [[0, 0, 0], [0, 0, distance]], info={"name": 5}) for distance in (1.1, 1.2, 1.3)]
    write(tmp_path / "run@2" / "path.extxyz", frames)
    return tmp_path / "run@2" / "path.extxyz"


@pytest.mark.parametrize(("index", "distance"), [(0, 1.1), (2, 1.3), (-1, 1.3), (-3, 1.1)])
def test_a_frame_is_the_one_that_its_index_says(trajectory, index, distance):
    atoms = load_system(f"{trajectory}@{index}", FOLDER)
    assert atoms.get_distance(0, 1) == pytest.approx(distance)
    assert atoms.info["name"] == "path"


@pytest.mark.parametrize("index", [3, -4, 99])
def test_a_frame_that_is_not_there(trajectory, index):
    with pytest.raises(UserError, match=rf"@{index}: .*path\.extxyz has 3 frames: choose -3 to 2"):
        read_system(f"{trajectory}@{index}")


def test_a_file_that_is_there_is_a_path_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    crystal = bulk("Cu", cubic=True)
    write(tmp_path / "POSCAR", crystal, format="vasp")
    write(tmp_path / "relaxed@7", crystal, format="extxyz")
    assert system_path("POSCAR", FOLDER) == "POSCAR"
    assert system_path("./folder/CONTCAR", FOLDER) == "./folder/CONTCAR"
    assert system_path("POSCAR@0", FOLDER) == "POSCAR@0"
    assert system_path("water", FOLDER) == f"{FOLDER}/water.extxyz"
    assert system_name("some@1/run@2/path.xyz@-1") == "path"
    (tmp_path / "none").mkdir()
    assert load_system("POSCAR", "none").info["name"] == "POSCAR"
    assert split_frame("relaxed@7") == ("relaxed@7", None)
    # ASE would look for a file `relaxed`, and here it would find one.
    write(tmp_path / "relaxed", Atoms("H2", [[0, 0, 0], [0, 0, 0.8]]), format="extxyz")
    write(tmp_path / "mine@2.xyz", crystal, format="extxyz")
    assert len(read_system("relaxed@7")) == len(read_system("mine@2.xyz")) == len(crystal)
    assert len(read_system("mine@2.xyz@0")) == len(crystal)
    assert split_frame("POSCAR@-1") == ("POSCAR", -1)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(), "no atoms"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.2]]), r"atoms \d \(H\) and \d \(H\) are 0.200 A apart"),
        (Atoms("H2", [[0, 0, 0], [0, np.nan, 1]]), "atom 1 has the position"),
        (Atoms([0, 1], [[0, 0, 0], [0, 0, 1]]), "atom 0 has the atomic number 0"),
        (Atoms([1, 103], [[0, 0, 0], [0, 0, 1]]), "atom 1 has the atomic number 103"),
        (Atoms("H", pbc=True), "spans no volume"),
        (Atoms("H2", [[0.1, 1, 1], [4.95, 1, 1]], cell=[5, 5, 5], pbc=True), "0.150 A"),
    ],
)
def test_atoms_that_make_no_sense_are_refused(atoms, message):
    with pytest.raises(UserError, match=message):
        check_atoms(atoms, "given.xyz")


def test_sound_atoms_pass():
    check_atoms(bulk("Cu", cubic=True))
    check_atoms(Atoms("Fm"))


def test_liquid_box_has_its_density_no_overlap_and_whole_molecules():
    water = load_system("water", FOLDER)
    box = liquid_box(water, 32, density=1.0, seed=3)
    grams = box.get_masses().sum() * 1.66053906660e-24
    assert grams / (box.get_volume() * 1e-24) == pytest.approx(1.0, rel=1e-6)
    index = box.arrays["molecule_index"]
    first, second, distance = neighbor_list("ijd", box, 2.0)
    between = index[first] != index[second]
    hydrogens = (box.numbers[first] == 1) & (box.numbers[second] == 1)
    assert distance[between & ~hydrogens].min(initial=9) >= 1.7
    assert distance[between].min(initial=9) >= 1.5
    intact = water.get_all_distances()
    for molecule in range(32):
        assert np.allclose(box[index == molecule].get_all_distances(), intact, atol=1e-9)


def test_liquid_box_is_reproducible_and_depends_on_its_seed():
    water = load_system("water", FOLDER)
    assert np.array_equal(liquid_box(water, 8, seed=1).positions, liquid_box(water, 8, seed=1).positions)
    assert not np.allclose(liquid_box(water, 8, seed=1).positions, liquid_box(water, 8, seed=2).positions)


def test_liquid_box_refuses_what_cannot_be_packed():
    with pytest.raises(UserError, match="do not fit"):
        liquid_box(load_system("water", FOLDER), 8, density=4.0)
    with pytest.raises(UserError, match="must be positive"):
        liquid_box(load_system("water", FOLDER), 0)


def test_conformers_are_seeded_and_sorted_by_energy():
    from rdkit.Chem import AllChem

    molecule = molecule_from_smiles("CCCCO")
    found = conformers(molecule, 6, seed=5)
    assert found.shape == (6, 15, 3)
    assert np.array_equal(found, conformers(molecule_from_smiles("CCCCO"), 6, seed=5))
    energies = []
    for positions in found:
        molecule.GetConformer(0).SetPositions(positions)
        properties = AllChem.MMFFGetMoleculeProperties(molecule)
        energies.append(AllChem.MMFFGetMoleculeForceField(molecule, properties, confId=0).CalcEnergy())
    assert np.all(np.diff(energies) >= -1e-6)


def test_an_unreadable_smiles_is_refused():
    with pytest.raises(UserError, match="RDKit cannot read it"):
        atoms_from_smiles("C1CC")


def test_columns_that_are_not_there_are_named(tmp_path):
    path = tmp_path / "mine.extxyz"
    path.write_text("1\nProperties=species:S:1:pos:R:3:forces:R:3\nO 0 0 0\n")
    with pytest.raises(UserError, match=r"Properties names 7 columns, and its atom 0 has 4"):
        read_system(path)


def test_atoms_that_are_not_there_reserve_no_memory(tmp_path):
    path = tmp_path / "mine.xyz"
    path.write_text("27039369\n\nC 0 0 0\nC 0 0 1.4\n")
    with pytest.raises(UserError, match=r"frame 0 \(line 1\) says 27039369 atoms and has 2"):
        read_system(path)


def test_a_key_that_stands_twice_in_a_comment_line_is_refused(tmp_path):
    path = tmp_path / "water.xyz"
    atoms = "O 0 0 0\nH 0 0.76 0.59\nH 0 -0.76 0.59\n"
    path.write_text(f"3\nenergy=-10 energy=-20\n{atoms}")
    with pytest.raises(UserError, match=r"frame 0 \(line 1\): 'energy' stands twice in its comment line"):
        read_system(path)
    # Within quotation marks and in plain words nothing is a key.
    path.write_text(f'3\nenergy=-10 method="energy=0 charge=0" made by hand\n{atoms}')
    assert len(read_system(path)) == 3


def test_an_sdf_file_of_two_molecules_is_refused(tmp_path):
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("C")) + "$$$$\n"
    (tmp_path / "two.sdf").write_text(block + block)
    with pytest.raises(UserError, match="2 molecules in it; write each to a file of its own"):
        read_system(tmp_path / "two.sdf")
    (tmp_path / "one.sdf").write_text(block)
    assert read_system(tmp_path / "one.sdf").get_chemical_formula() == "C"
