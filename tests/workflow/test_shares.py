"""Samples and labels by several jobs: `--set-scatter`."""

import json

import pytest
import yaml

from tests.workflow.test_plan import EVERYTHING

SMALL = {
    "run": "tiny",
    "student": {
        "sampling": {
            "splits": ["train", "val", "test"],
            "molecules": 6,
            "configurations": 20,
            "max_atoms": 6,
            "benchmark_configurations": 2,
        }
    },
}
LABELS = "results/tiny/dataset/labels.h5"
SHARED = ("--set-scatter", "labels=3", "samples=2")


def test_each_share_is_a_job_and_one_more_gathers(fresh):
    assert fresh.plan(*SHARED) == EVERYTHING | {"sample_share": 2, "label_share": 3}


def test_rounds_are_labeled_in_as_many_shares(fresh):
    planned = fresh.plan("distill", "--configfile", "config/rounds.yaml", "--set-scatter", "labels=4")
    rounds = planned["label_round"]
    assert rounds == yaml.safe_load((fresh.folder / "config/rounds.yaml").read_text())["student"]["rounds"]["number"]
    assert planned["label_share"] == 4 * (rounds + planned["label_configurations"])
    assert "sample_share" not in planned


def test_shares_of_nothing_are_refused(fresh):
    done = fresh.snakemake("--dry-run", "--set-scatter", "label=3")
    assert done.returncode != 0
    assert "--set-scatter label: no such shares; did you mean 'labels'?" in done.stdout + done.stderr


@pytest.mark.timeout(900)
def test_labels_of_several_jobs_are_those_of_one_and_are_not_made_again_for_another_number(fresh):
    (fresh.folder / "tiny.yaml").write_text(yaml.safe_dump(SMALL))
    settings = (LABELS, "--configfile", "tiny.yaml")

    def run(*arguments):
        done = fresh.snakemake(*settings, *arguments)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout + done.stderr

    run()
    dataset = fresh.folder / "results/tiny/dataset"
    whole = {path.name: path.read_bytes() for path in dataset.glob("*.h5")}
    assert set(whole) == {"configurations.h5", "labels.h5"}
    tried = json.loads((dataset / "labels.json").read_text())["labels_tried"]
    # Finished by one job: shares that are asked for later make nothing again, and that is said.
    said = run(*SHARED)
    assert "Nothing to be done" in said
    assert f"{LABELS} keeps the number of its shares, 1; for another one delete {LABELS}.n_shares" in said

    for path in dataset.iterdir():
        path.unlink()
    said = run(*SHARED)
    assert said.count("rule label_share:") == 3
    assert {path.name: path.read_bytes() for path in dataset.glob("*.h5")} == whole
    assert not list(dataset.rglob("*.npz"))
    assert not list(dataset.rglob("*.parts"))
    assert json.loads((dataset / "labels.json").read_text())["labels_tried"] == tried > 20
    # Whoever goes on without the option, on another machine say, makes nothing again.
    assert "Nothing to be done" in run()
    # What has changed is made in as many shares as before, whatever is asked for.
    limits = {"limits": {"max_force_ev_per_a": 10.0}}
    (fresh.folder / "tiny.yaml").write_text(yaml.safe_dump(SMALL | {"student": SMALL["student"] | limits}))
    planned = {"label_share": 3, "label_configurations": 1}
    assert fresh.plan(*settings) == fresh.plan(*settings, "--set-scatter", "labels=2") == planned
