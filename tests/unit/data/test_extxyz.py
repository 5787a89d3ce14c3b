"""A user's own labels: what is read, how it is split, and what is refused before anything is learned of it."""

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlff_distiller import cli
from mlff_distiller.data.dataset import write_dataset
from mlff_distiller.data.extxyz import doubtful_units, read_extxyz
from mlff_distiller.data.own_data_settings import OwnDataFractions, OwnDataSettings
from mlff_distiller.data.read import read_dataset
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json
from tests.unit.data.labeled_sets import emt_frames

HARTREE, BOHR, KCAL = 27.211386, 0.529177, 0.0433641
#: Ten molecules that EMT knows.
TEN = ("H2O", "CH4", "CH3OH", "C2H2", "C2H4", "C2H6", "CO", "H2CO", "NH3", "N2")


def test_own_extxyz_with_labels_is_read(tmp_path):
    frames = emt_frames()
    write(tmp_path / "own.extxyz", frames)
    dataset = read_dataset(tmp_path / "own.extxyz")
    assert len(dataset) == 36
    assert dataset.energies[5] == pytest.approx(frames[5].get_potential_energy(), abs=1e-6)
    assert np.allclose(dataset.forces[:3], frames[0].get_forces(), atol=1e-6)
    assert dataset.molecules == ("H2O", "CH4", "CH4O")
    # Frames of one molecule stay together.
    for name in range(3):
        assert len(set(dataset.split[dataset.molecule == name])) == 1


def test_own_extxyz_keeps_given_splits_names_cells_and_other_keys(tmp_path):
    frames = []
    for i, plain in enumerate(emt_frames(2)):
        frame = Atoms(plain.numbers, plain.positions, cell=[9, 9, 9], pbc=True)
        frame.info |= {"dft_energy": plain.get_potential_energy(), "split": ("train", "test")[i % 2], "smiles": "X"}
        frame.arrays["dft_forces"] = plain.get_forces()
        frames.append(frame)
    write(tmp_path / "own.extxyz", frames)
    dataset = read_dataset(tmp_path / "own.extxyz", OwnDataSettings(energy_key="dft_energy", forces_key="dft_forces"))
    assert [dataset.splits[i] for i in dataset.split] == ["train", "test"] * 3
    assert dataset.molecules == ("X",)
    assert dataset.cells.shape == (6, 3, 3)
    assert dataset.pbc.all()
    write_dataset(tmp_path / "own.h5", dataset)
    assert np.array_equal(read_dataset(tmp_path / "own.h5").cells, dataset.cells)


def test_a_frame_without_labels_is_named_with_what_it_has(tmp_path):
    frames = emt_frames(2)
    frames[3].calc = None
    frames[3].info["Energy_REF"] = 1.0
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match=r"frame 3 has no energy 'energy'; it has .*Energy_REF"):
        read_extxyz(tmp_path / "own.extxyz")


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    frames = emt_frames(2)
    frames[1].calc.results["forces"][0, 0] = np.nan
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match="frame 1 holds numbers that are not finite"):
        read_extxyz(tmp_path / "own.extxyz")


ALL_ELECTRON = {1: -0.5 * HARTREE, 6: -37.85 * HARTREE, 8: -75.07 * HARTREE}


@pytest.mark.parametrize(
    ("energy_factor", "force_factor", "offset", "message"),
    [
        (1 / HARTREE, 1.0, None, "energies in Hartree, forces in eV/A"),
        (1 / KCAL, 1.0, None, "energies in kcal/mol, forces in eV/A"),
        (1.0, 1 / HARTREE, None, "energies in eV, forces in Hartree/A"),
        (1.0, BOHR / HARTREE, None, "energies in eV, forces in Hartree/Bohr"),
        (1 / HARTREE, BOHR / HARTREE, None, "energies in Hartree, forces in Hartree/Bohr"),
        (1.0, -1.0, None, "the sign of the gradient"),
        (1 / HARTREE, 1 / HARTREE, ALL_ELECTRON, "look like all-electron energies in Hartree"),
        (1 / KCAL, 1 / KCAL, ALL_ELECTRON, "look like all-electron energies in kcal/mol"),
        (1 / KCAL, 1 / KCAL, None, "kcal/mol/A?"),
    ],
)
def test_other_units_are_recognized(tmp_path, energy_factor, force_factor, offset, message):
    write(tmp_path / "own.extxyz", emt_frames(12, energy_factor, force_factor, offset))
    with pytest.raises(UserError, match=r"27\.2114 eV") as caught:
        read_extxyz(tmp_path / "own.extxyz")
    assert message in str(caught.value)
    assert len(read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(check_units=False))) == 36


@pytest.mark.parametrize("offset", [None, ALL_ELECTRON, {1: -13.6 * 0.8, 6: -48.8, 8: -110.0}])
def test_right_units_raise_no_doubt(tmp_path, offset):
    write(tmp_path / "own.extxyz", emt_frames(12, offset=offset))
    assert doubtful_units(read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(check_units=False))) == []


def test_one_molecule_in_hartree_is_recognized_too(tmp_path):
    frames = emt_frames(4, 1 / HARTREE, 1 / HARTREE, ALL_ELECTRON, names=("CH3OH",))
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match="all-electron energies in Hartree"):
        read_extxyz(tmp_path / "own.extxyz")


def splits_of(dataset):
    """Molecule -> the splits that its frames are in."""
    return {
        name: {dataset.splits[k] for k in dataset.split[dataset.molecule == row]}
        for row, name in enumerate(dataset.molecules)
    }


def test_frames_of_one_molecule_stay_together_and_no_split_is_empty(tmp_path):
    write(tmp_path / "own.extxyz", emt_frames(3, names=TEN))
    for seed in range(5):
        found = splits_of(read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(seed=seed)))
        assert all(len(splits) == 1 for splits in found.values())
        assert set.union(*found.values()) == {"train", "val", "test"}


def test_one_molecule_is_split_by_frame_when_asked(tmp_path):
    write(tmp_path / "own.extxyz", emt_frames(40, names=("CH3OH",)))
    with pytest.raises(UserError, match=r"1 of what own_data.split_by = 'molecule' keeps together \(CH4O\), too few"):
        read_extxyz(tmp_path / "own.extxyz")
    dataset = read_extxyz(
        tmp_path / "own.extxyz", OwnDataSettings(split_by="frame", fractions=OwnDataFractions(val=0.2, test=0.2))
    )
    assert splits_of(dataset) == {"CH4O": {"train", "val", "test"}}
    assert 16 <= len(dataset.of_split("train")) <= 32


def test_split_by_a_key_of_the_info_line(tmp_path):
    frames = emt_frames(4, names=("H2O", "CH4"))
    for i, frame in enumerate(frames):
        frame.info["trajectory"] = i % 4
    write(tmp_path / "own.extxyz", frames)
    dataset = read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(split_by="trajectory"))
    by_trajectory = [{dataset.splits[k] for k in dataset.split[i::4]} for i in range(4)]
    assert all(len(splits) == 1 for splits in by_trajectory)
    with pytest.raises(UserError, match=r"frame 0 has no 'trajektory' to split by .*did you mean 'trajectory'"):
        read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(split_by="trajektory"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"energy": "E"}, "student.own_data: unknown key 'energy'; did you mean 'energy_key'"),
        ({"fractions": {"tests": 0.1}}, "student.own_data.fractions: unknown key 'tests'; did you mean 'test'"),
        ({"check_units": "no"}, "own_data.check_units: expected true | false, got 'no'"),
        ({"fractions": {"test": 0.8, "val": 0.5}}, "more than 1 together"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        OwnDataSettings.from_mapping(settings)


def import_data(folder, *arguments):
    command = ["import-data", "--dataset", str(folder / "own.extxyz"), "--output", str(folder / "labels.h5")]
    return cli.main([*command, "--card", str(folder / "labels.json"), *arguments])


def test_the_command_writes_a_dataset_and_its_card(tmp_path):
    write(tmp_path / "own.extxyz", emt_frames(3, names=TEN))
    assert import_data(tmp_path, "--settings", '{"seed": 1}') == 0
    card = read_json(tmp_path / "labels.json")
    assert card["configurations"] == len(read_dataset(tmp_path / "labels.h5")) == 30
    assert card["own_data"]["seed"] == 1
    assert set(card["by_split"]) == {"train", "val", "test"}


def test_labels_for_a_student_that_is_there_are_all_held_out(tmp_path):
    write(tmp_path / "own.extxyz", emt_frames(3, names=("H2O",)))
    assert import_data(tmp_path, "--held-out") == 0
    assert set(read_json(tmp_path / "labels.json")["by_split"]) == {"test"}


def test_a_wrong_unit_ends_the_command_with_one_sentence(tmp_path, capsys):
    write(tmp_path / "own.extxyz", emt_frames(12, 1 / KCAL))
    assert import_data(tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "energies in kcal/mol, forces in eV/A" in said
    assert not (tmp_path / "labels.h5").exists()
