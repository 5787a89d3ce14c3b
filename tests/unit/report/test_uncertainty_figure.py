"""What the figure of expected errors shows, from a small synthetic record."""

from mlff_distiller.records.run import Run
from mlff_distiller.report import captions
from mlff_distiller.report.figures import draw


def entry(split, **fields):
    return {
        "kind": "accuracy",
        "variant": "student",
        "task": None,
        "split": split,
        "device": "cpu",
        "force_mae_mev_per_a": 30.0,
        "reliability": {
            "expected_mev_per_a": [10.0, 20.0, 100.0],
            "found_mev_per_a": [11.0, 15.0, 130.0],
            "detection": {"bond pulled": 0.97, "radical": 0.91},
        },
    } | fields


def test_molecules_never_seen_are_shown_and_the_worst_is_named():
    other = entry("visited")
    other["reliability"] = {"expected_mev_per_a": [1.0], "found_mev_per_a": [9.0], "detection": {}}
    run = Run([other, entry("test")])
    figure = draw.draw("uncertainty", run)
    errors, detection = figure.axes
    assert list(errors.lines[1].get_ydata()) == [11.0, 15.0, 130.0]
    assert [bar.get_width() for bar in detection.patches] == [0.97, 0.91]
    text = captions.caption("uncertainty", run)
    assert "of 10 to 100 meV/Å are at most 1.3 times off" in text
    assert "hardest to recognize: radical (0.91)" in text


def test_a_student_that_expects_nothing_has_no_such_figure():
    run = Run([entry("test", reliability=None)])
    assert captions.caption("uncertainty", run) == "This run has nothing to show here."
    assert "no uncertainty" in "".join(text.get_text() for text in draw.draw("uncertainty", run).axes[0].texts).lower()
