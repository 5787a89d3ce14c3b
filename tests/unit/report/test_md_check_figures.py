"""Figures of the MD checks: what coincides is drawn once, what is unlikely is marked, a shifted band is named."""

import copy

import numpy as np
import pytest

from mlff_distiller.records.run import Run
from mlff_distiller.report import captions, tables
from mlff_distiller.report.bands import largest_shift
from mlff_distiller.report.figures import draw, style
from tests.unit.records.synthetic_records import md_checks
from tests.unit.report.test_figures import overlaps, words


def checks(task, *variants):
    return [entry for variant in variants for entry in copy.deepcopy(md_checks(variant)) if entry["task"] == task]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_variants_that_coincide_are_drawn_once():
    figure = draw.draw("md_timestep", Run(checks("timestep", "cpp", "eager", "analytic")))
    assert legend(figure) == ["methane", "benzene", "caffeine"]
    assert figure.legends[0].get_title().get_text() == "all three coincide: analytic, cpp, eager"
    assert len([line for line in figure.axes[0].lines if line.get_marker() != "None"]) == 3
    assert overlaps(figure) == []


def test_one_variant_is_named_above_its_molecules():
    assert draw.draw("md_timestep", Run(checks("timestep", "cpp"))).legends[0].get_title().get_text() == "cpp"


def test_variants_that_differ_are_named_at_most_six_of_them():
    entries = checks("timestep", "cpp", "eager", "analytic")
    entries[0]["fluctuation_mev_per_atom"] = [0.03, 0.008, 0.002]
    names = legend(draw.draw("md_timestep", Run(entries)))
    assert "methane, cpp" in names
    assert "methane, analytic and eager" in names
    for position, entry in enumerate(entries):
        entry["fluctuation_mev_per_atom"] = [(1 + position) * value for value in (0.016, 0.004, 0.001)]
    figure = draw.draw("md_timestep", Run(entries))
    assert len(legend(figure)) == 6
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert [line.get_color() for line in lines].count(style.FAINT) == 3


def test_an_unlikely_kinetic_energy_is_marked_in_color_and_in_words():
    entries = checks("nvt", "cpp")
    entries[1] |= {"p_value": 0.01, "mean_temperature_k": 319.0}
    figure = draw.draw("md_kinetic", Run(entries))
    colors = {text.get_text(): text.get_color() for axis in figure.axes for text in axis.texts}
    assert colors == {"p = 0.4": style.INK, "p = 0.01, unlikely\n319 K for 300 K": style.BAD}
    assert "p is below 0.05 in 1 of them" in captions.caption("md_kinetic", Run(entries))


def test_two_seeds_that_were_judged_together_are_named_with_the_first_p():
    entries = checks("nvt", "cpp")
    assert "second" not in captions.caption("md_kinetic", Run(entries))
    entries[1] |= {"p_value": 0.3, "first_p_value": 0.012}
    told = captions.caption("md_kinetic", Run(entries))
    assert "a second of another seed ran, and histogram, temperature and p are of both together" in told
    assert f"cpp on {entries[1]['system']} (0.012)" in told
    (row,) = (row for row in tables.md_checks(Run(entries)) if row["system"] == entries[1]["system"])
    assert "of two trajectories of different seeds together, since the first alone had p = 0.012" in row["found"]


def spectrum(*centers):
    numbers = np.arange(0.0, 4200.0, 10.0)
    density = sum(np.exp(-(((numbers - center) / 40) ** 2)) for center in centers)
    return {"spectrum": {"wavenumbers": numbers.tolist(), "density": density.tolist()}}


@pytest.mark.parametrize(("moved", "by"), [(1400, -60), (3100, 40)])
def test_the_band_that_is_shifted_most_is_found(moved, by):
    teacher = (400, 1400, 3100)
    student = tuple(center + by if center == moved else center for center in teacher)
    shift = largest_shift({"teacher": spectrum(*teacher), "student": spectrum(*student)})
    assert (shift.at, shift.by) == (pytest.approx(moved, abs=2), pytest.approx(by, abs=2))


def test_a_shifted_band_is_in_the_caption_if_the_teachers_halves_differ_by_less():
    entries = checks("spectra", "cpp")
    for entry in entries:
        entry["distributions"]["teacher"] |= spectrum(400, 1400, 3100)
        entry["distributions"]["student"] |= spectrum(400, 1340, 3100)
        entry["spectrum_difference"] = 0.05
    assert "band" not in captions.caption("md_spectra", Run(entries))
    entries[0]["spectrum_difference"] = 0.25
    sentence = captions.caption("md_spectra", Run(entries))
    assert "the band of methane near 1400 1/cm lies 60 1/cm lower with cpp than with the teacher" in sentence
    assert words(draw.draw("md_spectra", Run(entries))).count("in common") == 3
