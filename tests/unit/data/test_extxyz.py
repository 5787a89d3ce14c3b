"""A user's own labels: what is read, how it is split, and what is refused before anything is learned of it."""

import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlff_distiller import cli
from mlff_distiller.data.dataset import content_hash, write_dataset
from mlff_distiller.data.extxyz import read_extxyz
from mlff_distiller.data.own_data_settings import OwnDataFractions, OwnDataSettings
from mlff_distiller.data.read import read_dataset
from mlff_distiller.data.units import check_units
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


@pytest.mark.parametrize("check_units", [True, False])
@pytest.mark.parametrize("value", ["nan", "inf", "1e+39"])
def test_a_position_that_is_not_finite_is_named(tmp_path, value, check_units):
    frames = emt_frames(2)
    frames[1].positions[0, 2] = float(value)
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(
        UserError, match=rf"frame 1: atom 0 has the position \[.*{re.escape(value)}\]; expected numbers"
    ):
        read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(check_units=check_units))


def own_file(folder, energy="energy=-14.2", columns="forces:R:3", row=" 0.1 0.2 -0.1", info=""):
    """Three frames of water, the oxygen 0.02 A farther away in each."""
    text = ""
    for i in range(3):
        rows = [f"O 0 0 {0.12 + 0.02 * i}{row}", f"H 0 0.76 -0.48{row}", f"H 0 -0.76 -0.48{row}"]
        head = f"Properties=species:S:1:pos:R:3:{columns} {energy.replace('{i}', str(i))} {info}"
        text += "\n".join(["3", head, *rows]) + "\n"
    (folder / "own.extxyz").write_text(text)
    return folder / "own.extxyz"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"energy": "energy=T"}, "frame 0: 'energy' is T, no number"),
        ({"energy": 'energy="-14.2 eV"'}, "frame 0: 'energy' is '-14.2 eV', no number"),
        ({"energy": 'energy="-4 -5 -5.2"'}, "frame 0: 'energy' holds 3 values: energies per atom"),
        ({"energy": 'energy="-4 -5"'}, "frame 0: 'energy' holds 2 values; expected one number"),
        ({"energy": "energy=nan"}, "frame 0 holds numbers that are not finite"),
        ({"energy": "energy=inf"}, "frame 0 holds numbers that are not finite"),
        ({"energy": "energy"}, "frame 0: 'energy' is T, no number"),
        ({"energy": "energy=none"}, "frame 0: 'energy' is 'none', no number"),
        ({"columns": "forces:R:2", "row": " 0.1 0.2"}, r"frame 0 has forces of shape \(3, 2\) for 3 atoms"),
        ({"columns": "forces:R:1", "row": " 0.1"}, r"frame 0 has forces of shape \(3,\) for 3 atoms"),
        ({"columns": "forces:S:3", "row": " a b c"}, "ASE cannot read it, after 0 frames"),
        ({"columns": "DFT:S:3", "row": " a b c", "forces_key": "DFT"}, "frame 0: the forces 'DFT' are no real numbers"),
        ({"columns": "DFT:L:3", "row": " T F T", "forces_key": "DFT"}, "frame 0: the forces 'DFT' are no real numbers"),
        ({"row": " 0.1 nan 0.2"}, "frame 0 holds numbers that are not finite"),
        ({"row": " 0.1 1e39 0.2"}, "frame 0 holds numbers that are not finite"),
        ({"energy": "energy=-1e39"}, "frame 0 holds numbers that are not finite"),
        ({"info": "charge=1"}, r"frame 0: info\['charge'\] is .*1.*have it ignored with allow=\('charge',\)"),
        ({"info": "spin=2"}, r"frame 0: info\['spin'\] is"),
        ({"info": "spin_multiplicity=3"}, r"frame 0: info\['spin_multiplicity'\] is"),
        ({"info": "magmom=1.0"}, r"frame 0: magmom is 1\.0"),
        (
            {"columns": "initial_charges:R:1:forces:R:3", "row": " 0.4 0.1 0.2 -0.1"},
            "frame 0: the initial charges add up to 1.2",
        ),
        ({"info": 'pbc="T T T"'}, "frame 0: periodic, but its cell spans no volume"),
        ({"row": " 0 0 0"}, "frame 0 has no force on any atom .nor have 2 others of 3 frames"),
        ({}, "frames 0 and 1 .H2O. have different geometries and the same energy, -14.2 eV"),
    ],
)
def test_labels_that_are_none_are_refused_with_the_frame(tmp_path, given, message):
    given = dict(given)
    settings = OwnDataSettings(check_units=False, forces_key=given.pop("forces_key", "forces"))
    path = own_file(tmp_path, **given)
    with pytest.raises(UserError, match=message) as caught:
        read_extxyz(path, settings)
    assert str(path) in str(caught.value)
    assert "delete" not in str(caught.value)


def test_neutral_singlets_may_say_so_and_others_are_taken_when_asked(tmp_path):
    energies = "energy=-14.2{i}"
    path = own_file(tmp_path, energy=energies, info="charge=0 spin=1 spin_multiplicity=1 magmom=0.0")
    by_frame = OwnDataSettings(check_units=False, split_by="frame")
    assert len(read_extxyz(path, by_frame)) == 3
    path = own_file(tmp_path, energy=energies, info="charge=-1 spin=2")
    assert len(read_extxyz(path, by_frame.model_copy(update={"allow": ["charge", "spin"]}))) == 3


def test_one_frame_without_forces_among_others_is_named(tmp_path):
    frames = emt_frames(12)
    frames[4].calc.results["forces"][:] = 0.0
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match="frame 4 has no force on any atom, and no symmetry"):
        read_extxyz(tmp_path / "own.extxyz")


def test_one_energy_for_all_molecules_is_refused(tmp_path):
    frames = emt_frames(1)
    for frame in frames:
        frame.calc.results["energy"] = 0.0
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match=r"every frame has the energy 0\.0 eV, whatever its atoms"):
        read_extxyz(tmp_path / "own.extxyz")


def test_atoms_on_top_of_each_other_are_named_with_their_frame(tmp_path):
    frames = emt_frames(12)
    frames[7].positions[1] = frames[7].positions[0] + 0.05
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match=r"frame 7: atoms 0 .* and 1 .* apart"):
        read_extxyz(tmp_path / "own.extxyz")


@pytest.mark.parametrize("name", ["own.traj", "own.json", "own.db", "own.xyz", "odd name@2.extxyz"])
def test_any_format_of_ase_is_read(tmp_path, name):
    frames = emt_frames(4, names=TEN)
    write(tmp_path / "plain.extxyz", frames)
    write(tmp_path / name, frames, **({} if "@" not in name else {"format": "extxyz"}))
    found, plain = read_dataset(tmp_path / name), read_extxyz(tmp_path / "plain.extxyz")
    assert np.allclose(found.forces, plain.forces, atol=1e-6)
    assert np.allclose(found.energies, plain.energies)


@pytest.mark.parametrize("name", ["labels", "labels.traj", "labels.xyz", "labels.dat", "odd name@2"])
def test_hdf5_is_told_by_its_first_bytes_whatever_it_is_called(tmp_path, name):
    write(tmp_path / "own.extxyz", emt_frames(4, names=TEN))
    plain = read_extxyz(tmp_path / "own.extxyz")
    write_dataset(tmp_path / "labels.h5", plain)
    (tmp_path / name).write_bytes((tmp_path / "labels.h5").read_bytes())
    assert content_hash(read_dataset(tmp_path / name)) == content_hash(plain)


def test_what_is_no_dataset_is_not_to_be_deleted(tmp_path):
    write(tmp_path / "POSCAR", Atoms("Cu", cell=[3, 3, 3], pbc=True))
    with pytest.raises(UserError, match="frame 0 has no energy 'energy'"):
        read_dataset(tmp_path / "POSCAR")
    (tmp_path / "labels.traj").write_bytes(b"\x00" * 100)
    (tmp_path / "labels.h5").write_bytes(b"\x00" * 100)
    for name in ("labels.traj", "labels.h5"):
        with pytest.raises(UserError) as caught:
            read_dataset(tmp_path / name)
        assert "delete" not in str(caught.value)


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
    assert check_units(read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(check_units=False))).doubts == ()


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


def test_the_card_and_the_screen_say_what_could_not_be_checked(tmp_path, capsys):
    write(tmp_path / "own.extxyz", [frame for name in TEN for frame in emt_frames(2, names=(name,))[::2]])
    assert import_data(tmp_path) == 0
    (note,) = read_json(tmp_path / "labels.json")["notes"]
    assert "units could not be checked" in note
    assert note in capsys.readouterr().out


def test_copies_across_splits_and_isomers_are_said(tmp_path, capsys):
    frames = emt_frames(10, names=("CH3CH2OH", "CH3OCH3"))
    for frame, split in zip(frames, ["train", "train", "val", "test"] * 5, strict=True):
        frame.info["split"] = split
    copy = frames[0].copy()
    copy.positions += 5.0
    copy.calc, copy.info["split"] = frames[0].calc, "test"
    write(tmp_path / "own.extxyz", [*frames, copy])
    assert import_data(tmp_path) == 0
    repeated, shared, isomers = read_json(tmp_path / "labels.json")["notes"]
    assert repeated == "1 of 21 frames repeat the geometry of another"
    assert shared.startswith("1 geometries are in train and in test")
    assert isomers.startswith("C2H6O: molecules with 2 patterns of bonds share this formula")
    assert shared in capsys.readouterr().out


def test_frames_with_names_of_their_own_are_said(tmp_path):
    frames = emt_frames(20, names=("CH3OH",))
    for i, frame in enumerate(frames):
        frame.info["name"] = f"frame{i}"
    write(tmp_path / "own.extxyz", frames)
    assert import_data(tmp_path) == 0
    assert read_json(tmp_path / "labels.json")["notes"][0].startswith("each of 20 frames has a name of its own")


def test_labels_without_notes_have_none(tmp_path):
    write(tmp_path / "own.extxyz", emt_frames(10, names=TEN))
    assert import_data(tmp_path) == 0
    assert read_json(tmp_path / "labels.json")["notes"] == []


def test_a_wrong_unit_in_hdf5_is_refused_too(tmp_path, capsys):
    write(tmp_path / "own.extxyz", emt_frames(12, 1 / HARTREE))
    write_dataset(tmp_path / "own.h5", read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(check_units=False)))
    words = ["import-data", "--dataset", str(tmp_path / "own.h5"), "--output", str(tmp_path / "labels.h5")]
    assert cli.main([*words, "--card", str(tmp_path / "labels.json")]) == 2
    assert "energies in Hartree, forces in eV/A" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forces": 0.0}, "frame 0 has no force on any atom"),
        ({"positions": 0.0}, "frame 0: atoms 0 .* and 1 .* on top of each other"),
    ],
)
def test_placeholders_and_impossible_atoms_in_hdf5_are_refused_too(tmp_path, capsys, change, message):
    write(tmp_path / "own.extxyz", emt_frames(12))
    dataset = read_extxyz(tmp_path / "own.extxyz")
    for name, factor in change.items():
        dataset = replace(dataset, **{name: factor * getattr(dataset, name)})
    write_dataset(tmp_path / "own.h5", dataset)
    words = ["import-data", "--dataset", str(tmp_path / "own.h5"), "--output", str(tmp_path / "labels.h5")]
    assert cli.main([*words, "--card", str(tmp_path / "labels.json")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_wrong_unit_ends_the_command_with_one_sentence(tmp_path, capsys):
    write(tmp_path / "own.extxyz", emt_frames(12, 1 / KCAL))
    assert import_data(tmp_path) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "energies in kcal/mol, forces in eV/A" in said
    assert not (tmp_path / "labels.h5").exists()
