"""Whether labels of one's own are those of the teacher that is named."""

import json

import pytest
from ase.io import write

from mlff_distiller import cli
from mlff_distiller.data.dataset import content_hash
from mlff_distiller.data.read import read_dataset
from tests.unit.data.labeled_sets import emt_crystals, emt_frames

EMT = json.dumps({"teacher": {"calculator": "ase.calculators.emt:EMT"}})


def same_teacher(folder, frames, settings=EMT):
    write(folder / "mine.extxyz", frames)
    line = [
        "same-teacher",
        "--dataset",
        folder / "mine.extxyz",
        "--settings",
        settings,
        "--output",
        folder / "same.json",
    ]
    return cli.main([str(word) for word in line])


def test_labels_of_the_named_teacher_are_shown_to_be(tmp_path):
    assert same_teacher(tmp_path, emt_frames()) == 0
    shown = json.loads((tmp_path / "same.json").read_text())
    assert shown["teacher"] == "ase.calculators.emt:EMT()"
    assert shown["content_sha256"] == content_hash(read_dataset(tmp_path / "mine.extxyz"))
    assert shown["largest_difference"]["energy_ev_per_atom"] < 1e-5
    assert shown["largest_difference"]["stress_ev_per_a3"] is None


def test_the_difference_of_the_stress_is_written_unless_the_configuration_calls_it_wrong(tmp_path, capsys):
    frames = emt_crystals(6)
    for frame in frames:
        frame.info["split"] = "train"
    assert same_teacher(tmp_path, frames) == 0
    shown = json.loads((tmp_path / "same.json").read_text())["largest_difference"]
    assert 0 <= shown["stress_ev_per_a3"] < 1e-6
    for frame in frames:
        frame.calc.results["stress"] = -frame.calc.results["stress"]
    assert same_teacher(tmp_path, frames) == 2
    assert "the stress by up to" in capsys.readouterr().err
    without = json.dumps({"teacher": {"calculator": "ase.calculators.emt:EMT", "stress": False}})
    assert same_teacher(tmp_path, frames, without) == 0


@pytest.mark.parametrize("change", [{"offset": {1: 0.5}}, {"force_factor": 1.05}])
def test_another_zero_of_energy_or_other_forces_are_another_teacher(tmp_path, capsys, change):
    assert same_teacher(tmp_path, emt_frames(**change)) == 2
    assert "are not those of ase.calculators.emt:EMT()" in capsys.readouterr().err
    assert not (tmp_path / "same.json").exists()


def test_a_teacher_that_knows_none_of_the_elements_says_so(tmp_path, capsys):
    cobalt = json.dumps({"teacher": {"calculator": "ase.calculators.eam:EAM"}})
    assert same_teacher(tmp_path, emt_frames(), cobalt) == 2
    assert "error: " in capsys.readouterr().err
