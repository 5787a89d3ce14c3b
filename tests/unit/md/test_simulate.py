"""The measures of the MD stage on data whose answer is known."""

import numpy as np
import pytest

from mlff_distiller.md.measures import bonds_of, drift
from mlff_distiller.md.settings import NveGates, NveSettings
from mlff_distiller.utils.errors import UserError


def test_drift_finds_a_slope_under_a_vibration():
    times = np.arange(0, 10, 0.005)
    values = 0.3 * times + 5 * np.sin(60 * times)
    found = drift(times, values)
    assert found.value == pytest.approx(0.3, abs=3 * found.stderr)
    assert found.stderr < 0.05


def test_the_error_of_a_drift_is_honest_for_correlated_noise():
    # An autoregressive series without drift: |slope| beyond two errors should happen about one time in twenty.
    generator = np.random.default_rng(0)
    outside = 0
    for _ in range(200):
        noise = generator.normal(size=2000)
        series = np.zeros(2000)
        for step in range(1, 2000):
            series[step] = 0.9 * series[step - 1] + noise[step]
        found = drift(np.arange(2000.0), series)
        outside += abs(found.value) > 2.3 * found.stderr  # Student's t, 8 degrees of freedom
    assert 2 <= outside <= 24


def test_too_few_samples_for_a_drift():
    with pytest.raises(ValueError, match="too few"):
        drift(np.arange(5.0), np.arange(5.0))


@pytest.mark.parametrize(("name", "bonds"), [("water", 2), ("methane", 4), ("benzene", 12), ("caffeine", 25)])
def test_bonds_by_covalent_radii(molecules, name, bonds):
    i, j, lengths = bonds_of(molecules[name])
    assert len(i) == bonds
    assert (i < j).all()
    assert (lengths < 1.6).all()


def test_settings_are_laid_over_the_defaults():
    made = NveSettings.from_mapping({"steps": 700, "gates": {"momentum": 1.0}})
    assert made.steps == 700
    assert made.gates == NveGates(momentum=1.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 100}, "11 samples; a drift needs 20"),
        ({"sample_every": 0}, r"md\.settings\.sample_every: expected whole number >= 1, got 0"),
    ],
)
def test_lengths_that_give_no_drift_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        NveSettings.from_mapping(given)


@pytest.mark.parametrize("given", [{"step": 7}, {"gates": {"momentums": 1.0}}])
def test_a_misspelt_setting_names_the_right_one(given):
    with pytest.raises(UserError, match=r"did you mean '(steps|momentum)'"):
        NveSettings.from_mapping(given)
