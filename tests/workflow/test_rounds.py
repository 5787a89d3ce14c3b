"""Rounds of labels on the student's own frames: what runs when, and one round for real."""

import json

import pytest
import yaml
from ase.io import write

from mlff_distiller.data.read import read_dataset
from mlff_distiller.md.explore import METHODS
from mlff_distiller.records import schema
from mlff_distiller.utils.files import sha256_of
from tests.unit.data.labeled_sets import emt_frames
from tests.workflow.test_own_data import MINE, TEN

CHECKS = {"check_machine": 1, "check_inputs": 1, "check_teacher": 1}
#: What each round adds.
ROUND = ("explore", "label_round", "merge_round", "train_round", "measure_gain")
SPLITS = {"splits": ["train", "val", "test"]}


def rounds(n, **student):
    return {"student": {"sampling": SPLITS, "rounds": {"number": n}} | student}


def planned(checkout, config, *arguments):
    (checkout.folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return checkout.plan("distill", "--configfile", "mine.yaml", *arguments)


@pytest.mark.parametrize(
    ("student", "first"),
    [
        ({"checkpoint": None}, {"train_student": 1, "sample_configurations": 1, "label_configurations": 1}),
        ({}, {"copy_student": 1, "sample_configurations": 1, "label_configurations": 1}),
        ({"dataset": "mine.extxyz"}, {"copy_student": 1, "import_dataset": 1, "check_same_teacher": 1}),
    ],
)
def test_each_round_explores_labels_and_trains_once(fresh, student, first):
    (fresh.folder / "mine.extxyz").touch()
    expected = CHECKS | first | {"take_last_student": 1, "measure_accuracy": 1, "distill": 1}
    assert planned(fresh, rounds(2, **student)) == expected | dict.fromkeys(ROUND, 2)


def test_where_rounds_may_end_early_the_next_is_planned_when_one_has_been_judged(fresh):
    limited = {"student": {"sampling": SPLITS, "rounds": {"number": 3, "enough_mev_per_a": 30}}}
    plan = planned(fresh, limited)
    assert {rule: plan[rule] for rule in (*ROUND, "decide_round", "take_last_student")} == dict.fromkeys(
        (*ROUND, "decide_round", "take_last_student"), 1
    )
    limited["student"]["rounds"]["number"] = 1
    (fresh.folder / "mine.yaml").write_text(yaml.safe_dump(limited))
    refused = fresh.snakemake("distill", "-n", "--configfile", "mine.yaml")
    assert "student.rounds: enough_mev_per_a ends rounds early" in refused.stdout + refused.stderr


def test_no_rounds_add_nothing(fresh):
    assert not {*ROUND, "take_last_student"} & fresh.plan("distill").keys()


def test_a_student_that_rounds_improved_is_not_the_one_that_ships(fresh):
    (fresh.folder / "mine.yaml").write_text(yaml.safe_dump(rounds(1)))
    text = fresh.reasons("accuracy", "--configfile", "mine.yaml")
    assert "results/default/student/training.json" in text
    assert "resources/student/accuracy_default.json" not in text
    assert "resources/student/accuracy_default.json" in fresh.reasons("accuracy")


TINY = {
    "run": "tiny",
    "student": {
        "checkpoint": None,
        "sampling": {**SPLITS, "molecules": 12, "configurations": 80, "max_atoms": 8, "fractions": {"val": 0.2, "test": 0.1},
                     "benchmark_configurations": 0},
        "training": {
            "max_seconds": None,
            "n_steps": 60,
            "student": {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1},
        },
        "rounds": {
            "number": 3,
            "max_labels": 100,
            "explore": {"molecules": 6, "clusters": 2, "held_out": 0.25, "steps": 40, "labels": 40, "apart_fs": 5.0},
            "training": {"n_steps": 40, "learning_rate": 0.001},
        },
    },
    "molecules": {"systems": ["water"]},
    "md": {"systems": ["water"]},
}  # fmt: skip


@pytest.mark.timeout(900)
def test_a_round_ends_in_a_student_that_learned_its_own_frames(fresh):
    (fresh.folder / "mine.yaml").write_text(yaml.safe_dump(TINY))
    done = fresh.snakemake("distill", "--configfile", "mine.yaml", timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = fresh.folder / "results/tiny"
    sampled, own = read_dataset(folder / "dataset/labels.h5"), read_dataset(folder / "rounds/1/labels.h5")
    assert own.methods == METHODS
    assert 0 < len(own) <= 40
    assert own.teacher == sampled.teacher
    (card,) = schema.read(folder / "rounds/1/training.json")
    assert card["training"]["n_training"] == len(sampled.of_split("train")) + len(own.of_split("train"))
    assert card["settings"]["start_from"].endswith("rounds/0/student.safetensors")
    assert (card["settings"]["n_steps"], card["settings"]["batch_atoms"]) == (40, 512)
    # All labels once more are not kept.
    assert not (folder / "rounds/1/dataset.h5").exists()
    assert sha256_of(folder / "student/student.safetensors") == sha256_of(folder / "rounds/1/student.safetensors")
    explored, remembered = schema.read(folder / "rounds/1/gain.json")
    assert explored["n_configurations"] == len(own.of_split("val")) > 0
    assert remembered["n_configurations"] == len(sampled.of_split("val"))
    assert "round 1, held-out frames of its own dynamics: force MAE" in done.stdout
    exploring = json.loads((folder / "rounds/1/exploring.json").read_text())
    assert exploring["student_sha256"] == sha256_of(folder / "rounds/0/student.safetensors")
    assert exploring["trajectories"]["number"] == explored["trajectories"] > 0
    # With up to 40 more, 80 and its own would be more than max_labels.
    (decided,) = schema.read(folder / "rounds/1/enough.json")
    assert decided["round"] == 1
    assert decided["enough"].startswith(f"{len(sampled) + len(own)} labels and up to 40 of a further round")
    assert "round 1: the last one: " in done.stdout
    assert not (folder / "rounds/2").exists()
    assert planned(fresh, TINY) == {}
    # Another round leaves the first as it is.
    two = TINY["student"]["rounds"] | {"number": 2, "max_labels": None}
    assert planned(fresh, TINY | {"student": TINY["student"] | {"rounds": two}}) == dict.fromkeys(ROUND, 1) | {
        "take_last_student": 1,
        "measure_accuracy": 1,
        "distill": 1,
    }
    # Another limit decides anew, and makes nothing again.
    more = TINY["student"]["rounds"] | {"max_labels": 1000}
    assert planned(fresh, TINY | {"student": TINY["student"] | {"rounds": more}})["decide_round"] == 1


@pytest.mark.timeout(900)
def test_labels_of_ones_own_are_shown_to_be_the_named_teachers(fresh):
    explore = {"molecules": 5, "clusters": 0, "held_out": 0.2, "steps": 20, "labels": 20, "apart_fs": 5.0}
    fractions = {"val": 0.2, "test": 0.1}
    student = MINE["student"] | {"own_data": {"fractions": fractions}, "rounds": {"number": 1, "explore": explore}}
    (fresh.folder / "my_teacher.py").write_text(
        "from ase.calculators.emt import EMT\n\n\ndef emt():\n    return EMT()\n"
    )
    (fresh.folder / "mine.yaml").write_text(yaml.safe_dump(MINE | {"student": student}))
    write(fresh.folder / "mine.extxyz", emt_frames(6, names=TEN))
    done = fresh.snakemake("distill", "--configfile", "mine.yaml", timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = fresh.folder / "results/mine"
    assert read_dataset(folder / "rounds/1/labels.h5").teacher == "my_teacher:emt()"
    merged = json.loads((folder / "rounds/1/dataset.json").read_text())
    assert merged["teacher"] == "my_teacher:emt()"
    assert merged["configurations"] == 60 + len(read_dataset(folder / "rounds/1/labels.h5"))
    # Labels with another zero of energy are another teacher's, and nothing is trained on them.
    write(fresh.folder / "mine.extxyz", emt_frames(6, names=TEN, offset={1: -13.6, 6: -1030.0}))
    done = fresh.snakemake("distill", "--configfile", "mine.yaml", timeout=800)
    assert done.returncode != 0
    assert "these labels are not those of my_teacher:emt()" in done.stdout + done.stderr
