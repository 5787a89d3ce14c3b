"""The acceptance suite in the report: the right cases are named, and nothing that failed is left out."""

import pytest

from mlff_distiller.records.acceptance import changing_mode
from mlff_distiller.records.run import Run
from mlff_distiller.report import acceptance, captions
from mlff_distiller.report.render import render
from tests.unit.records.synthetic_records import acceptance as records

FREQUENCIES = ("student_per_cm", "teacher_per_cm")


@pytest.fixture(scope="module")
def run():
    return Run(records())


def row(run, words):
    return next(row for row in acceptance.rows(run) if row["measure"].startswith(words))


def test_rows_have_the_median_and_the_worst(run):
    found = row(run, "Largest change of a frequency")
    assert (found["cases"], found["typical"], found["worst"], found["where"]) == ("3", "20", "150", "methane")
    # Without sign for the median, with it for the worst.
    found = row(run, "Harmonic frequencies: largest")
    assert (found["typical"], found["worst"]) == ("20", "-150")
    assert row(run, "Dimers: error of the minimum")["worst"] == "0.20"
    assert row(run, "Torsions: error of the barrier")["where"] == "vinyl alcohol (C0-C1-O2-H6)"


def test_holes_are_counted_and_named(run):
    assert row(run, "Bonds pulled and pressed: curves")["typical"] == "0 of 1"
    found = row(run, "Atoms pushed together: curves")
    assert (found["typical"], found["where"]) == ("1 of 1", "C-O: hole at 1.00 Å behind 60 kcal/mol")
    assert "C-O at 1.00 Å, by 90 kcal/mol" in row(run, "Atoms pushed together: energy below")["where"]


def test_a_minimum_in_one_model_alone_is_told(run):
    entries = [e | ({"student_minimum_a": None} if e["task"] == "dimer" else {}) for e in records()]
    found = row(Run(entries), "Dimers with a minimum in one model alone")
    assert (found["typical"], found["where"]) == ("1 of 1", "water hydrogen bond (teacher alone)")


def test_what_failed_and_what_was_trained_on_is_told(run):
    page = render("acceptance.md.j2", {"acceptance": acceptance.context(run)})
    assert "| geometry, triazine | failed | the student's optimisation did not end in 300 steps |" in page
    assert "In 1 of the 12 comparisons a molecule was used in training, in the others none." in page
    unknown = Run([entry | {"split": "unknown"} for entry in records()])
    assert "not known which" in render("acceptance.md.j2", {"acceptance": acceptance.context(unknown)})
    assert "no such comparison" in render("acceptance.md.j2", {"acceptance": acceptance.context(Run([]))})


def test_the_caption_tells_the_dependence_on_the_displacement(run):
    text = captions.caption("vibrations", run)
    assert "changes from 1175 to 1325 (methane; teacher 1400 to 1400)" in text


def test_a_mode_that_is_anharmonic_in_both_is_no_error():
    entry = next(e for e in records() if e["task"] == "frequencies")
    curves = {key: [list(map(float, modes)) for modes in entry["vibrations"][key]] for key in FREQUENCIES}
    for modes in (curves[key][2] for key in FREQUENCIES):
        modes[0] -= 400.0  # of both, at the largest displacement
    lengths, student, teacher = changing_mode(entry | {"vibrations": entry["vibrations"] | curves})
    assert lengths == [0.002, 0.01, 0.05]
    assert (student, teacher) == ([1175.0, 1250.0, 1325.0], [1400.0] * 3)


def test_records_of_a_run_on_a_gpu_count_too():
    entries = [{**records()[0], "kind": "benchmark", "variant": "eager", "device": "cuda"}, *records()]
    assert acceptance.rows(Run(entries)) == acceptance.rows(Run(records()))
