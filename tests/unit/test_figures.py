import argparse
import itertools

import numpy as np
import pytest
from matplotlib.image import imread
from synthetic_records import FAILS_EQUIVALENCE, VARIANTS, benchmark, equivalence, run_records, write_run

from mlff_distiller import captions, figures, results, style
from mlff_distiller.errors import UserError
from mlff_distiller.files import write_json
from mlff_distiller.summary import Run


@pytest.fixture(scope="module")
def entries():
    return results.merge(run_records(replicates=2))


@pytest.fixture(scope="module")
def run(entries):
    return Run(entries)


def texts(figure):
    """Everything written in a figure."""
    from matplotlib.text import Text

    return [item for item in figure.findobj(Text) if item.get_text().strip() and item.get_visible()]


def words(figure):
    return " ".join(item.get_text() for item in texts(figure))


@pytest.mark.parametrize("name", figures.FIGURES)
def test_each_figure_shows_something_and_clips_nothing(name, run):
    figure = figures.draw(name, run)
    assert "records in this run" not in words(figure)
    renderer = figure.canvas.get_renderer()
    tight = figure.get_tightbbox(renderer)
    dpi = figure.dpi
    for item in texts(figure):
        if item.get_window_extent(renderer).width == 0:
            continue
        box = item.get_window_extent(renderer)
        assert box.x0 / dpi >= tight.x0 - 0.02, item.get_text()
        assert box.x1 / dpi <= tight.x1 + 0.02, item.get_text()
    assert tight.width <= style.WIDTH * 1.25, "labels outside the axes must not shrink the rest on the page"


@pytest.mark.parametrize("name", figures.FIGURES)
def test_tick_labels_do_not_overlap(name, run):
    figure = figures.draw(name, run)
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [t for t in axis.get_ticklabels() if t.get_text() and t.get_visible()]
            low, high = sorted(axis.get_view_interval())
            ticks = [t for t, at in zip(labels, axis.get_ticklocs(), strict=False) if low <= at <= high]
            boxes = [label.get_window_extent(renderer) for label in ticks]
            for one, other in itertools.pairwise(boxes):
                assert not one.overlaps(other)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_a_run_without_the_data_gives_a_figure_that_says_so(name):
    assert "in this run" in words(figures.draw(name, Run([])))


@pytest.mark.parametrize("name", figures.FIGURES)
def test_each_figure_has_a_title_a_sentence_and_a_way_to_read_it(name, run):
    assert captions.TITLES[name]
    assert captions.READING[name].endswith(".")
    sentence = captions.caption(name, run)
    assert sentence.endswith(".")
    assert any(character.isdigit() for character in sentence), "a sentence worked out from the records has a number"
    assert captions.caption(name, Run([])) == "This run has nothing to show here."


def test_sentences_say_what_was_put_in(run):
    assert "cpp leads with 6." in captions.caption("speedup", run)
    assert "failed: analytic" in captions.caption("nve_drift", run)
    assert "split 'test'" in captions.caption("accuracy", run)


def test_losers_and_failures_are_in_the_speedup_figure(run):
    shown = words(figures.draw("speedup", run))
    for name in (*VARIANTS, "torch_cluster", "cuda_graph"):
        assert name in shown
    assert "unavailable" in shown
    assert "not equivalent" in shown


def test_a_variant_with_wrong_results_is_marked(run):
    for name in ("latency", "energy_forces"):
        assert f"{FAILS_EQUIVALENCE} ✕" in words(figures.draw(name, run))


def test_one_variant_on_one_molecule_is_enough():
    small = results.merge([benchmark("eager", task, "water", 1.0) for task in ("energy", "energy_forces", "neighbors")])
    for name in figures.FIGURES:
        figures.draw(name, Run(small))


def test_many_variants_still_have_labels_apart():
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
    figure = figures.draw("latency", Run(results.merge(entries)))
    renderer = figure.canvas.get_renderer()
    labels = [t for t in texts(figure) if t.get_text().startswith("variant_")]
    boxes = sorted((t.get_window_extent(renderer) for t in labels), key=lambda box: box.y0)
    assert len(boxes) == 18
    gaps = np.diff([(box.y0 + box.y1) / 2 for box in boxes])
    assert (gaps > 0.8 * boxes[0].height).all()


def test_colors_are_fixed_per_family_and_told_apart_without_color(run):
    looks = style.looks(run.families)
    assert looks["torch_compile"]["color"] == looks["torch_compile_forces"]["color"]
    assert looks["torch_compile"]["linestyle"] != looks["torch_compile_forces"]["linestyle"]
    assert looks["torch_compile"]["marker"] != looks["torch_compile_forces"]["marker"]
    assert looks["vesin"]["color"] != looks["eager"]["color"], "another neighbor search is not the baseline"
    assert style.color("eager") == style.looks({"eager": "eager"})["eager"]["color"]


def test_spread_moves_labels_apart_as_little_as_possible():
    assert style._spread([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])
    moved = style._spread([0.5, 0.5, 0.5], 0.1)
    assert moved == pytest.approx([0.4, 0.5, 0.6])


def test_an_unknown_figure_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'speedup'"):
        figures.draw("speedups", Run([]))


def test_the_stage_writes_the_same_bytes_each_time(tmp_path):
    document = results.collect(write_run(tmp_path / "jobs", replicates=1))
    source = write_json(tmp_path / "results.json", document)
    made = []
    for folder in ("one", "two"):
        paths = [tmp_path / folder / f"speedup.{suffix}" for suffix in ("png", "svg", "pdf")]
        assert figures.run(argparse.Namespace(name="speedup", results=source, output=paths)) == 0
        made.append([path.read_bytes() for path in paths])
    assert made[0] == made[1]
    pixels = imread(tmp_path / "one" / "speedup.png")
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.05, "the picture is not blank"


def test_a_figure_of_an_unknown_form_is_refused_before_any_work(tmp_path):
    arguments = argparse.Namespace(name="speedup", results=tmp_path / "none.json", output=[tmp_path / "speedup.jpg"])
    with pytest.raises(UserError, match=r"speedup\.jpg: a figure is"):
        figures.run(arguments)
