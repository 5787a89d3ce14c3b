"""What a round gained: the errors of two students on the same held-out frames."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff_distiller import cli
from mlff_distiller.data.dataset import write_dataset
from mlff_distiller.records import schema
from mlff_distiller.records.fields import check_fields, problem
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.training.accuracy import measure
from mlff_distiller.utils.files import sha256_of
from tests.conftest import make_student
from tests.unit.data.labeled_sets import morse_dataset

SMALL = {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1}
CARD = {"round": 2, "configurations": 30, "trajectories": {"number": 12, "diverged_by_rule": {"too hot": 2}}}


@pytest.fixture
def students(tmp_path):
    """Two with other forces: those of the second are smaller."""
    made = {}
    for name, scale in (("before", 1.0), ("after", 0.01)):
        student = make_student(**SMALL)
        with torch.no_grad():
            student.network.readout_out.weight.mul_(scale)
        save_student(tmp_path / f"{name}.safetensors", student, {})
        made[name] = student
    return made


def gain(folder, labels, older):
    write_dataset(folder / "labels.h5", labels)
    write_dataset(folder / "older.h5", older)
    (folder / "exploring.json").write_text(json.dumps(CARD))
    line = ["round-gain", "--before", folder / "before.safetensors", "--after", folder / "after.safetensors"]
    line += [
        "--dataset",
        folder / "labels.h5",
        "--older",
        folder / "older.h5",
        "--exploring",
        folder / "exploring.json",
    ]
    line += ["--device", "cpu", "--output", folder / "gain.json"]
    assert cli.main([str(word) for word in line]) == 0
    return schema.read(folder / "gain.json")


def test_both_students_are_measured_on_what_was_not_trained_on(tmp_path, students, capsys):
    labels, older = morse_dataset(30, seed=1), morse_dataset(40, seed=2)
    explored, sampled = gain(tmp_path, labels, older)
    for record, data in ((explored, labels), (sampled, older)):
        held_out = data.of_split("val")
        assert record["n_configurations"] == len(held_out)
        for name, found in (("before", record["before"]), ("after", record)):
            expected = measure(students[name], held_out)["force_mae_mev_per_a"]
            assert found["force_mae_mev_per_a"] == pytest.approx(expected, rel=1e-4)
        assert (record["task"], record["round"], record["split"]) == ("round", 2, "val")
        assert record["student_sha256"] == sha256_of(tmp_path / "after.safetensors")
        check_fields(record)
        assert problem(record) is None
    assert (explored["frames"], explored["trajectories"], explored["diverged"]) == ("explored", 12, {"too hot": 2})
    assert sampled["frames"] == "sampled"
    assert explored["force_mae_mev_per_a"] < explored["before"]["force_mae_mev_per_a"]
    said = capsys.readouterr().out
    assert f"-> {explored['force_mae_mev_per_a']:.1f} meV/A" in said


def test_without_held_out_frames_the_record_says_so(tmp_path, students):
    labels = morse_dataset(10)
    explored, sampled = gain(tmp_path, replace(labels, split=np.zeros(10, dtype=np.uint8)), labels)
    assert (explored["status"], sampled["status"]) == ("unavailable", "ok")
    assert "no frame of a held-out molecule" in explored["reason"]
