"""Labels of stress: from a teacher, from a user's own files, and what is refused because it is no derivative of the energy."""

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.io import write
from ase.stress import voigt_6_to_full_3x3_stress

from mlff_distiller.data import gradient_check
from mlff_distiller.data.dataset import content_hash, read_configurations, write_dataset
from mlff_distiller.data.extxyz import read_extxyz
from mlff_distiller.data.gradient_check import STRAIN_STEP, strain_slopes
from mlff_distiller.data.labeling import label_dataset
from mlff_distiller.data.merge import merge
from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.data.same_teacher import differences
from mlff_distiller.data.stress import full_stress
from mlff_distiller.data.stress_units import check_stress
from mlff_distiller.data.teacher import LabelError, label, label_stress
from mlff_distiller.data.units import check_units
from mlff_distiller.utils.errors import UserError
from tests.unit.data.labeled_sets import crystal_dataset, emt_crystals, in_boxes, morse_dataset

TEACHER = {"calculator": "ase.calculators.emt:EMT", "arguments": {}}
GPA = 160.2176634


class Scaled(EMT):
    """EMT whose stress carries another unit or sign."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def get_property(self, name, atoms=None, allow_calculation=True):
        found = super().get_property(name, atoms, allow_calculation)
        return self.factor * found if name == "stress" else found


class Bent(EMT):
    """EMT whose energy goes up and down with the volume, once within the longer step of all vectors; its stress is right."""

    period = 3 * STRAIN_STEP * bulk("Ag", cubic=True).get_volume()

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        phase = 2 * np.pi * self.atoms.get_volume() / self.period
        for name in ("energy", "free_energy"):
            self.results[name] += 0.02 * np.sin(phase)
        self.results["stress"][:3] += 0.02 * 2 * np.pi / self.period * np.cos(phase)


class WithoutStress(EMT):
    implemented_properties = ("energy", "forces")


def scan(rattle=0.0, scale=1.0):
    """Frames of one crystal in a row of strained cells, their stress times ``scale``."""
    frames = emt_crystals(24, rattle=rattle)
    for frame in frames:
        frame.calc.results["stress"] = scale * frame.calc.results["stress"]
        frame.info["split"] = "train"
    return frames


def test_six_and_nine_numbers_are_the_same_tensor():
    six = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    tensor = voigt_6_to_full_3x3_stress(six)
    for given in (six, tensor, tensor.ravel(), tensor.tolist()):
        assert np.array_equal(full_stress(given), tensor)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros(5), r"shape \[5\]"),
        (np.zeros((2, 3)), r"shape \[2, 3\]"),
        ([1.0, [2.0]], "rows of different lengths"),
        (["a"] * 6, "expected 6 numbers"),
        ([np.nan] + [0.0] * 5, "not finite"),
        ([[0, 1, 0], [0, 0, 0], [0, 0, 0]], "not symmetric"),
    ],
)
def test_what_is_no_stress_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        full_stress(given)


def test_a_teacher_labels_cells_with_its_stress_and_molecules_without():
    crystal, calculator = emt_crystals(2)[1], EMT()
    label(crystal, calculator)
    found = label_stress(crystal, calculator)
    assert np.allclose(found, voigt_6_to_full_3x3_stress(crystal.get_stress()), rtol=1e-12)
    assert label_stress(molecule("H2O"), calculator) is None
    assert label_stress(fcc111("Cu", (1, 1, 3), vacuum=8.0), calculator) is None
    assert label_stress(crystal, WithoutStress()) is None


def test_a_stress_that_is_not_finite_is_no_label():
    crystal, calculator = emt_crystals(2)[1], Scaled(np.nan)
    with pytest.raises(LabelError, match="the stress is not finite"):
        label_stress(crystal, calculator)


def test_labels_have_a_stress_where_the_cell_has_one(tmp_path):
    given = crystal_dataset(6)
    plain = replace(given, energies=None, forces=None, stresses=None)
    plain.pbc[2] = [True, True, False]
    labeled, outcome = label_dataset(plain, TEACHER, tmp_path / "parts", 1)
    assert labeled.has_stress.tolist() == [True, True, False, True, True, True]
    known = labeled.has_stress
    # The positions are rounded to float32.
    assert np.allclose(labeled.stresses[known], given.stresses[known], atol=1e-6)
    assert outcome["stress"] == "5 of 6 labels have a stress"
    assert np.allclose(labeled.atoms(0).info["stress"], labeled.stresses[0])
    assert "stress" not in labeled.atoms(2).info
    path = write_dataset(tmp_path / "labels.h5", labeled)
    again = read_configurations(path)
    assert np.array_equal(again.stresses, labeled.stresses, equal_nan=True)
    assert content_hash(again) == content_hash(labeled)
    assert differences(labeled, TEACHER)[2] < 1e-9
    wrong = replace(labeled, stresses=-labeled.stresses)
    assert differences(wrong, TEACHER)[2] > 1e-3
    assert differences(wrong, TEACHER | {"stress": False})[2] is None
    assert differences(replace(labeled, stresses=None), TEACHER)[2] is None


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (TEACHER | {"stress": False}, "not asked for: teacher.stress is false"),
        ({"calculator": f"{__name__}:WithoutStress"}, "the teacher gives none; the student learns from energies"),
    ],
)
def test_labels_without_stress_say_why(tmp_path, teacher, words):
    plain = replace(crystal_dataset(3), energies=None, forces=None, stresses=None)
    labeled, outcome = label_dataset(plain, teacher, tmp_path / "parts", 1)
    assert labeled.stresses is None
    assert outcome["stress"].startswith(words)


def test_files_without_stress_are_of_the_first_version(tmp_path):
    for dataset, version in ((in_boxes(morse_dataset(3), 7.0), 1), (crystal_dataset(3), 2)):
        with h5py.File(write_dataset(tmp_path / "labels.h5", dataset)) as file:
            assert file.attrs["version"] == version
            assert ("stresses" in file) == (version == 2)
            assert str(file.attrs["units"]).endswith("forces eV/A") == (version == 1)


def test_a_dataset_of_molecules_has_the_hash_that_it_had():
    assert content_hash(morse_dataset(9))[:16] == "f15712c1a28ef1a2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: np.where(np.arange(3)[:, None] == 1, np.nan, s), "not finite"),
        (lambda s: s + np.triu(np.ones((3, 3)), 1), "not symmetric"),
    ],
)
def test_stresses_in_a_file_that_make_no_sense_are_refused(tmp_path, change, message):
    dataset = crystal_dataset(3)
    path = write_dataset(tmp_path / "labels.h5", replace(dataset, stresses=change(dataset.stresses)))
    with pytest.raises(UserError, match=message):
        read_configurations(path)


def test_merged_with_labels_of_molecules():
    crystals, molecules = crystal_dataset(3), replace(morse_dataset(4), teacher="EMT")
    merged = merge({"a": molecules, "b": crystals})
    assert merged.has_stress.tolist() == [False] * 4 + [True] * 3
    assert np.array_equal(merged.stresses[4:], crystals.stresses)


def test_the_strain_derivative_of_the_energy_shows_a_stress_of_another_kind():
    silver = bulk("Ag", cubic=True)
    assert strain_slopes(silver, EMT()).agree
    for factor in (-1.0, GPA, 1.05, 1 / silver.get_volume()):
        assert not strain_slopes(silver, Scaled(factor)).agree
    assert strain_slopes(silver, WithoutStress()) is None


def test_an_energy_that_bends_within_the_step_is_judged_at_a_shorter_one(monkeypatch):
    silver = bulk("Ag", cubic=True)
    assert strain_slopes(silver, Bent()).agree
    monkeypatch.setattr(gradient_check, "SHARES", (1.0,))
    assert not strain_slopes(silver, Bent()).agree


@pytest.mark.parametrize("rattle", [0.0, 0.01])
def test_own_stress_is_read_in_the_conventions_of_ase_and_of_virials(tmp_path, rattle):
    frames = scan(rattle)
    write(tmp_path / "own.extxyz", frames)
    read = read_extxyz(tmp_path / "own.extxyz")
    expected = np.array([voigt_6_to_full_3x3_stress(frame.get_stress()) for frame in frames])
    assert np.allclose(read.stresses, expected, atol=1e-7)
    for key, settings in (("virials", {}), ("virial", {}), ("REF_virials", {"virials_key": "REF_virials"})):
        others = []
        for frame, stress in zip(frames, expected, strict=True):
            other = frame.copy()
            other.info |= {"energy": frame.get_potential_energy(), key: -frame.get_volume() * stress, "split": "train"}
            other.arrays["forces"] = frame.get_forces()
            others.append(other)
        write(tmp_path / "virials.extxyz", others)
        read = read_extxyz(tmp_path / "virials.extxyz", OwnDataSettings(**settings))
        assert np.allclose(read.stresses, expected, atol=1e-6)
    assert check_units(read).doubts == ()


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (-1.0, "the sign of a pressure"),
        (GPA, "with GPa"),
        (-10 * GPA, "kbar and the sign of a pressure"),
        (1 / 183.6315, "Hartree/bohr"),
    ],
)
def test_own_stress_in_another_unit_is_refused_by_the_energies(tmp_path, scale, words):
    write(tmp_path / "own.extxyz", scan(scale=scale))
    with pytest.raises(UserError, match=f"energy changes on strain.*{re.escape(words)}"):
        read_extxyz(tmp_path / "own.extxyz")


def test_too_large_a_stress_is_refused_where_nothing_can_be_compared():
    dataset = crystal_dataset(2).select(np.array([1]))
    assert check_stress(dataset) == (
        "",
        "stress against energies (it takes frames of one structure, strained)",
    )
    assert "GPa or kbar?" in check_stress(replace(dataset, stresses=1000 * dataset.stresses))[0]


def test_own_stress_may_be_missing_but_not_contradict_virials(tmp_path):
    frames = scan()
    del frames[3].calc.results["stress"]
    write(tmp_path / "own.extxyz", frames)
    assert np.flatnonzero(~read_extxyz(tmp_path / "own.extxyz").has_stress).tolist() == [3]
    frames[5].info["virials"] = np.eye(3)
    write(tmp_path / "own.extxyz", frames)
    with pytest.raises(UserError, match="frame 5: 'virials' and 'stress' do not belong together"):
        read_extxyz(tmp_path / "own.extxyz")


def test_placeholders_of_stress_are_refused(tmp_path):
    write(tmp_path / "own.extxyz", scan(scale=0.0))
    with pytest.raises(UserError, match="every stress is zero: placeholders"):
        read_extxyz(tmp_path / "own.extxyz")


def test_the_stress_of_a_molecule_is_not_read(tmp_path):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.15]])
    atoms.calc = EMT()
    atoms.info["stress"] = np.zeros(6)
    atoms.info |= {"energy_": atoms.get_potential_energy(), "split": "train"}
    write(tmp_path / "own.extxyz", atoms)
    assert (
        read_extxyz(tmp_path / "own.extxyz", OwnDataSettings(energy_key="energy_", check_units=False)).stresses is None
    )
