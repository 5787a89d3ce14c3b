import argparse
import itertools
import json
from pathlib import Path

import pytest
from matplotlib.image import imread

from mlff_distiller.decisions import claims
from mlff_distiller.decisions.ladder import LADDER_STEPS, ladder, ladder_step, rungs
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.report import captions
from mlff_distiller.report.figures import draw, style
from mlff_distiller.report.figures.ladder import source_marks
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_json
from mlff_distiller.variants.registry import FAMILIES
from tests.unit.records.synthetic_records import (
    FAILS_EQUIVALENCE,
    VARIANTS,
    benchmark,
    equivalence,
    run_records,
    schema,
    write_run,
)

LEDGER = Path(__file__).parents[3] / "config" / "claims.yaml"


@pytest.fixture(scope="module")
def entries():
    return collect.merge(run_records(replicates=2))


@pytest.fixture(scope="module")
def run(entries):
    return Run(entries, ledger=claims.load(LEDGER))


def texts(figure):
    """Everything written in a figure."""
    from matplotlib.text import Text

    return [item for item in figure.findobj(Text) if item.get_text().strip() and item.get_visible()]


def words(figure):
    return " ".join(item.get_text() for item in texts(figure))


def drawn_boxes(figure):
    """(text, box in pixels) of every text that is drawn: ticks outside the axes' range are not."""
    from matplotlib.text import Text

    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for ticks in (axis.get_major_ticks(), axis.get_minor_ticks()):
                hidden |= {label for t in ticks if not low <= t.get_loc() <= high for label in (t.label1, t.label2)}
            if not axis.get_visible() or not axes.axison:
                hidden |= set(axis.findobj(Text))
    renderer = figure.canvas.get_renderer()
    # The box of an annotation's text alone, without its pointer.
    return [(item.get_text(), Text.get_window_extent(item, renderer)) for item in texts(figure) if item not in hidden]


def overlaps(figure):
    """Pairs of texts that lie on one another by more than a pixel."""
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(drawn_boxes(figure), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


@pytest.mark.parametrize("name", draw.FIGURES)
def test_each_figure_shows_something_that_can_be_read(name, run):
    figure = draw.draw(name, run)
    assert "records in this run" not in words(figure)
    assert overlaps(figure) == []
    width = figure.get_tightbbox(figure.canvas.get_renderer()).width
    assert width <= style.WIDTH * 1.25, "labels outside the axes must not shrink the rest on the page"


@pytest.mark.parametrize("name", draw.FIGURES)
def test_a_run_without_the_data_gives_a_figure_that_says_so(name):
    assert "in this run" in words(draw.draw(name, Run([])))


@pytest.mark.parametrize("name", draw.FIGURES)
def test_each_figure_has_a_title_a_sentence_and_a_way_to_read_it(name, run):
    assert captions.TITLES[name]
    assert captions.READING[name].endswith(".")
    sentence = captions.caption(name, run)
    assert sentence.endswith(".")
    assert any(character.isdigit() for character in sentence), "a sentence worked out from the records has a number"
    assert captions.caption(name, Run([])) == "This run has nothing to show here."


def test_sentences_say_what_was_put_in(run):
    assert "cpp leads, 6" in captions.caption("ladder_all", run)
    assert "failed: analytic" in captions.caption("nve_drift", run)
    assert "unseen 41, larger than trained 46.5" in captions.caption("accuracy", run)


def test_losers_and_failures_are_in_the_figure_of_all_variants(run):
    shown = words(draw.draw("ladder_all", run))
    for name in (*VARIANTS, "torch_cluster", "cuda_graph"):
        assert name in shown
    assert "unavailable" in shown
    assert "not equivalent" in shown


def test_a_variant_with_wrong_results_is_marked(run):
    assert f"{FAILS_EQUIVALENCE} ✕" in words(draw.draw("energy_forces", run))


def test_one_variant_on_one_molecule_is_enough():
    small = collect.merge([benchmark("eager", task, "water", 1.0) for task in ("energy", "energy_forces", "neighbors")])
    for name in draw.FIGURES:
        draw.draw(name, Run(small))


def test_of_many_variants_few_are_named():
    entries = []
    for number in range(18):
        entries += [
            {**e, "variant": f"variant_{number}"}
            for e in (
                *(benchmark("cpp", t, s, 2.0) for s in ("water", "caffeine") for t in ("energy", "energy_forces")),
                equivalence("cpp", "water"),
            )
        ]
    entries += [benchmark("eager", t, s, 1.0) for s in ("water", "caffeine") for t in ("energy", "energy_forces")]
    run = Run(collect.merge(entries))
    figure = draw.draw("latency", run)
    assert words(figure).count("variant_") == 4
    assert "eager" in words(figure)
    assert len(figure.axes[0].lines) == 19
    assert overlaps(figure) == []
    assert len(rungs(run)) == 8


def test_runs_too_short_to_tell_are_not_drawn_as_passed(run):
    entries = json.loads(json.dumps(run.records))
    for entry in entries:
        if entry["kind"] == "md" and entry["variant"] in ("eager", "vesin") and "drift_mev_per_atom_ps" in entry:
            entry["drift_stderr_mev_per_atom_ps"] = 0.3
    shown = words(draw.draw("nve_drift", Run(entries)))
    assert "not shown, too short to tell: eager, vesin" in shown
    assert "cpp, 0.50 ps" in shown
    for entry in entries:
        if entry["kind"] == "md" and "drift_mev_per_atom_ps" in entry:
            entry["drift_stderr_mev_per_atom_ps"] = 3.0
            entry["passed"] = True
    assert "every trajectory is too short" in words(draw.draw("nve_drift", Run(entries)))


def test_colors_are_fixed_per_family_and_told_apart_without_color(run):
    appearance = style.appearance(run.families)
    assert appearance["torch_compile"]["color"] == appearance["torch_compile_forces"]["color"]
    assert appearance["torch_compile"]["linestyle"] != appearance["torch_compile_forces"]["linestyle"]
    assert appearance["torch_compile"]["marker"] != appearance["torch_compile_forces"]["marker"]
    assert appearance["vesin"]["color"] != appearance["eager"]["color"], "another neighbor search is not the baseline"
    assert style.color("eager") == style.appearance({"eager": "eager"})["eager"]["color"]


def test_spread_moves_labels_apart_as_little_as_possible():
    assert style._spread([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])
    moved = style._spread([0.5, 0.5, 0.5], 0.1)
    assert moved == pytest.approx([0.4, 0.5, 0.6])


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'latency'"):
        draw.draw("latencies", Run([]))


def test_the_stage_writes_the_same_bytes_each_time(tmp_path):
    document = collect.collect(write_run(tmp_path / "jobs", replicates=1))
    source = write_json(tmp_path / "results.json", document)
    made = []
    for folder in ("one", "two"):
        paths = [tmp_path / folder / f"latency.{suffix}" for suffix in ("png", "svg", "pdf")]
        assert draw.run(argparse.Namespace(name="latency", results=source, claims=None, output=paths)) == 0
        made.append([path.read_bytes() for path in paths])
    assert made[0] == made[1]
    pixels = imread(tmp_path / "one" / "latency.png")
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.05, "the picture is not blank"


def test_a_figure_of_an_unknown_form_is_refused_before_any_work(tmp_path):
    arguments = argparse.Namespace(name="latency", results=tmp_path / "none.json", output=[tmp_path / "latency.jpg"])
    with pytest.raises(UserError, match=r"latency\.jpg: a figure is"):
        draw.run(arguments)


def test_the_ladder_goes_from_eager_to_fused_kernels_with_what_failed_in_its_place(run):
    steps = ladder(run)
    assert [name for name, _ in steps] == [
        "eager", "torch_cluster", "vesin", "bf16", "torchscript", "torch_compile", "torch_compile_forces", "analytic",
        "cuda_graph", "cpp",
    ]  # fmt: skip
    assert dict(steps)["torch_compile_forces"] == "Inductor on energy and forces"
    shown = words(draw.draw("ladder_all", run))
    for text in ("unavailable", "not equivalent", "fused C++ kernel", "projected by the source"):
        assert text in shown


def test_the_short_ladder_has_the_fastest_of_each_kind_and_the_winner(run):
    assert [name for name, _ in rungs(run)] == [
        "eager",
        "vesin",
        "torchscript",
        "torch_compile_forces",
        "analytic",
        "cpp",
    ]


def test_every_family_has_a_ladder_step_and_other_options_are_named():
    assert {family for family, _, _ in LADDER_STEPS} == set(FAMILIES)
    position, text = ladder_step({"family": "triton", "precision": "bf16"})
    assert LADDER_STEPS[position][2] in text
    assert text.endswith("precision bf16")
    assert ladder_step({"family": "unknown"})[0] == len(LADDER_STEPS)


def test_the_sources_numbers_stand_on_the_rows_they_are_about(run):
    names = [name for name, _ in ladder(run)]
    energy = {names[row]: (low, high) for row, low, high in source_marks(run, names, "energy")}
    assert energy == {"torchscript": (1.45, 1.45), "torch_compile": (1.45, 1.45), "torch_cluster": (1.2, 1.5)}
    forces = {names[row]: (low, high) for row, low, high in source_marks(run, names, "energy_forces")}
    assert forces == {"analytic": (3.0, 5.0)}, "no Triton kernel is in this run"
    # A gain over another variant is multiplied by the speed-up of that variant in this run.
    claim = {"id": "x", "statement": "x", "chart": {"low": 1.5, "high": 2.0}}
    claim["rule"] = {"variant": "cpp", "over": "torch_compile*", "task": "energy_forces"}
    over = run.ranking("energy_forces", "torch_compile*")[0][1].value
    other = Run(run.records, ledger={"claims": [claim]})
    ((row, low, high),) = source_marks(other, names, "energy_forces")
    assert (names[row], low, high) == ("cpp", pytest.approx(1.5 * over), pytest.approx(2 * over))


def test_errors_against_the_teacher_lie_within_what_the_triangle_inequality_allows(run):
    low, high = run.teacher_error("cpp")
    own, cpp, eager = run.teacher_error("eager")[0], run.reference_error("cpp"), run.reference_error("eager")
    assert (low, high) == (pytest.approx(own - cpp - eager), pytest.approx(own + cpp + eager))
    assert Run([]).teacher_error("cpp") == []


def test_the_energy_along_a_run_stands_beside_that_of_the_same_start_in_fp64(run):
    entries = json.loads(json.dumps(run.records))
    assert "fp64" not in words(draw.draw("md_energy", run))
    trace = {"time_fs": [0.0, 250.0, 500.0], "total_mev_per_atom": [0.0, -0.31, 0.2]}
    for entry in entries:
        if entry["kind"] == "md" and entry.get("energy_trace"):
            entry["fp64_energy_trace"] = trace
    figure = draw.draw("md_energy", Run(entries))
    assert "fp64" in words(figure)
    drawn = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [0.0, 0.25, 0.5]]
    assert [list(line.get_ydata()) for line in drawn] == [trace["total_mev_per_atom"]]
    assert "in fp64 by 0.31." in captions.caption("md_energy", Run(entries))


def test_what_is_not_equivalent_is_hollow_and_leads_no_further():
    rows = {"eager": ("eager", 1.0), "fp16": ("autocast", 6.0), "slow": ("cuda", 3.0), "fast": ("cuda", 4.0)}
    bad = {"equivalent": False, "status": "failed", "reason": "off", "precision": "16bit"}
    entries = []
    for name, (family, speedup) in rows.items():
        fields = bad if name == "fp16" else {}
        entries += [
            schema.record("compile", variant=name, device="cpu", family=family, options={}),
            equivalence("cpp", "water", **fields) | {"variant": name},
            *[benchmark("cpp", "energy_forces", "water", speedup, replicate=k) | {"variant": name} for k in (1, 2, 3)],
        ]
    timed = Run(collect.merge(entries))
    # Of one family the fastest is on top.
    assert [name for name, _ in ladder(timed)] == ["eager", "fp16", "slow", "fast"]
    axis = draw.draw("ladder_all", timed).axes[0]
    hollow = [
        line.get_ydata()[0] for line in axis.lines if line.get_marker() == "D" and line.get_markerfacecolor() == "white"
    ]
    assert hollow == [1]
    (steps,) = (line for line in axis.lines if len(line.get_xdata()) == len(rows))
    best = list(steps.get_xdata())
    assert best[0] == best[1] == 1.0
    assert best[2:] == pytest.approx([3.0, 4.0], rel=0.1)
