"""Figures and captions of the student's accuracy: plain names, named molecules, what the axes hold."""

import pytest
from matplotlib.collections import PolyCollection

from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import number
from mlff_distiller.report import captions
from mlff_distiller.report.figures import accuracy as figures
from mlff_distiller.report.figures import draw
from tests.unit.records.synthetic_records import accuracy, benchmark, training
from tests.unit.report.test_figures import overlaps, words

SIZES = {"water": 3, "methane": 5, "benzene": 12}


def group(error, atoms, configurations):
    return {
        "n_atoms": atoms,
        "n_configurations": configurations,
        "force_mae_mev_per_a": error,
        "energy_mae_mev_per_atom": error / 2,
    }


def split(name, mae, **fields):
    entry = accuracy(name, mae)
    return entry | {"by_force": {}, "by_element": {"1": group(0.6 * mae, 90, 4), "8": group(1.2 * mae, 90, 4)}} | fields


@pytest.fixture
def seven():
    """Four configurations of each of three benchmark molecules, two of which share a group."""
    return split(
        "benchmark",
        50.0,
        n_molecules=3,
        n_configurations=12,
        by_size={"1 to 9": group(104.0, 4 * (3 + 5), 8), "9 to 17": group(6.0, 4 * 12, 4)},
    )


def run_of(*entries):
    timed = [benchmark("eager", "energy_forces", name, 1.0, n_atoms=atoms) for name, atoms in SIZES.items()]
    return Run(collect.merge([*timed, *entries]))


def test_splits_have_plain_names():
    entries = [split(name, 20.0, n_molecules=7) for name in ("test", "larger", "benchmark", "visited")]
    assert [figures.split_title(e) for e in entries] == ["unseen", "larger than trained", "the seven", "own MD"]
    assert figures.split_title(split("benchmark", 20.0, n_molecules=None)) == "benchmark"
    assert figures.split_title(split("of_mine", 20.0)) == "of_mine"
    for name in ("accuracy", "force_parity", "force_errors"):
        shown = words(draw.draw(name, run_of(*entries)))
        assert all(text in shown for text in ("unseen", "larger than trained", "the seven", "own MD"))
        assert not any(text in shown for text in ("visited", "excellent", "usable"))


def test_groups_of_benchmark_molecules_have_their_names(seven):
    run = run_of(seven)
    assert figures.molecules_in(run, seven, "1 to 9") == ("water", "methane")
    assert figures.molecules_in(run, seven, "9 to 17") == ("benzene",)
    shown = words(draw.draw("force_errors", run))
    assert "water, methane 104" in shown, "the largest error of all has its value"
    assert "benzene" in shown
    assert "benzene 6" not in shown


def test_molecules_that_the_records_name_are_not_guessed(seven):
    """Configurations in unequal numbers, of which no guess would be right."""
    named = seven | {
        "by_molecule": {"O": group(90.0, 2 * 3, 2), "C": group(110.0, 6 * 5, 6), "c1ccccc1": group(6.0, 48, 4)}
    }
    named["by_size"] = {"1 to 9": group(104.0, 2 * 3 + 6 * 5, 8), "9 to 17": group(6.0, 4 * 12, 4)}
    assert figures.molecules_in(Run([named]), named, "1 to 9") == ("water", "methane")
    assert figures.molecules_in(Run([named]), named, "9 to 17") == ("benzene",)
    many = named | {"by_molecule": {name: group(9.0, 6, 2) for name in ("O", "N", "F")}}
    assert figures.molecules_in(Run([many]), many, "1 to 9") == (), "too many to name a dot after"
    other = named | {"by_molecule": {"ligand": group(9.0, 24, 2)}}
    assert figures.molecules_in(Run([other]), other, "9 to 17") == ("ligand",)


def test_only_the_molecule_that_fits_is_named(seven):
    md = split("visited", 30.0, n_molecules=1, n_configurations=6, by_size={"1 to 9": group(120.0, 6 * 3, 6)})
    assert figures.molecules_in(run_of(md), md, "1 to 9") == ("water",)
    for strange in (group(120.0, 6 * 4, 6), group(120.0, 6 * 3, 9)):
        other = md | {"by_size": {"1 to 9": strange}}
        assert figures.molecules_in(run_of(other), other, "1 to 9") == ()
    unseen = split("test", 30.0, n_molecules=1, n_configurations=6, by_size={"1 to 9": group(120.0, 6 * 3, 6)})
    assert figures.molecules_in(run_of(unseen), unseen, "1 to 9") == ()
    assert figures.molecules_in(Run([seven]), seven, "1 to 9") == (), "a run without molecules knows no names"


def test_the_caption_names_the_largest_error(seven):
    unseen = split("test", 20.0, by_size={"1 to 9": group(25.0, 90, 30)})
    run = run_of(unseen, seven)
    assert captions.caption("force_errors", run) == (
        "The force error is largest, 104 meV/Å, on water and methane (the three benchmark molecules); among elements "
        "(unseen) on oxygen (24), smallest on hydrogen (12)."
    )
    assert "Worst of the three benchmark molecules: water and methane (104 meV/Å, 52 meV/atom)." in captions.caption(
        "accuracy", run
    )
    unseen["by_size"] = {"1 to 9": group(250.0, 90, 30)}
    assert "250 meV/Å, on molecules of 1–8 atoms (unseen)" in captions.caption("force_errors", run_of(unseen, seven))


def test_small_groups_are_neither_drawn_nor_named(seven):
    seven["by_element"]["16"] = group(900.0, figures.FEWEST_ATOMS - 1, 4)
    run = run_of(seven)
    assert "900" not in captions.caption("force_errors", run)
    assert max(axes.get_xlim()[1] for axes in draw.draw("force_errors", run).axes) < 200


def test_no_line_joins_the_dots_of_the_force_errors(seven):
    axes = draw.draw("force_errors", run_of(split("test", 20.0), seven)).axes[0]
    dots = [line for line in axes.lines if line.get_marker() in ("o", "s") and len(line.get_xdata())]
    assert len(dots) == 5
    assert all(len(line.get_xdata()) == 1 for line in dots)


def test_each_error_is_a_bar_with_its_value_within_the_axes():
    figure = draw.draw("accuracy", run_of(split("test", 20.0), split("larger", 31.5)))
    assert [bar.get_width() for bar in figure.axes[0].patches] == [31.5, 20.0]
    assert all(text in words(figure) for text in ("31.5", "20.0", "1.00"))
    for axes in figure.axes:
        assert axes.get_xlim()[0] == 0
        assert max(bar.get_width() for bar in axes.patches) < axes.get_xlim()[1]
        assert [line for line in axes.lines if len(set(line.get_xdata())) == 1] == [], "no limit without a source"


def test_the_parity_shows_errors_and_counts_what_lies_outside():
    forces = [0.01 * n for n in range(-100, 100)]
    errors = [0.03 if n % 2 else -0.03 for n in range(200)]
    errors[0] = 5.0
    student = [force + error for force, error in zip(forces, errors, strict=True)]
    figure = draw.draw(
        "force_parity",
        run_of(split("test", 30.0, parity={"teacher": forces, "student": student, "numbers": [1] * 200})),
    )
    axes = figure.axes[0]
    assert "unseen: MAE 30.0 meV/Å" in words(figure)
    assert "1 of 200 outside" in words(figure)
    assert axes.get_ylim()[1] == pytest.approx(1.05 * 30)
    assert sorted(line.get_ydata()[0] for line in axes.lines) == [-30, 30]
    (cells,) = axes.findobj(PolyCollection)
    assert cells.get_array().sum() == 199


def test_titles_of_neighboring_panels_do_not_touch():
    figure = draw.draw("force_parity", run_of(*(split(name, 31.5) for name in ("larger", "test", "val", "visited"))))
    assert overlaps(figure) == []


def test_a_student_without_errors_can_be_drawn():
    parity = {"teacher": [0.5, -0.5], "student": [0.5, -0.5], "numbers": [1, 1]}
    assert "unseen: MAE 0 meV/Å" in words(draw.draw("force_parity", run_of(split("test", 0.0, parity=parity))))


def test_the_error_of_the_final_student_can_be_read():
    made = training()
    *_, before, last = made["learning_curve"]
    last["val_force_mae_mev_per_a"] = 1 + before["val_force_mae_mev_per_a"]
    figure = draw.draw("learning_curve", Run([made]))
    for axes, end in zip(
        figure.axes, (before["val_force_mae_mev_per_a"], before["val_energy_mae_mev_per_atom"]), strict=True
    ):
        assert axes.get_yscale() == "linear"
        assert axes.get_ylim()[0] == 0
        assert len([tick for tick in axes.get_yticks() if 0 <= tick <= axes.get_ylim()[1]]) >= 4
        assert f"final student: {number(end)}" in words(figure)
        assert any(set(line.get_ydata()) == {end} for line in axes.lines)
    assert overlaps(figure) == []
