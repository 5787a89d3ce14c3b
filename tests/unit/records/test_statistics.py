import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlff_distiller.records.statistics import Ratio, compare, geometric_mean, is_noisy, ratio_of, summarize, verdict
from mlff_distiller.records.wording import interval, times_as_fast


def timings(random, *, processes, samples, speedup, process_spread=0.02, noise=0.03):
    """Interleaved times with a known speed-up; slow-downs common to a pair, effects of the process on each side."""
    variant, baseline = [], []
    for _ in range(processes):
        common = random.normal(0, 0.05) + random.gamma(2, 0.02, samples)
        for side, center in ((variant, 8 / speedup), (baseline, 8.0)):
            own = random.normal(0, process_spread) + random.normal(0, noise, samples)
            side.append(center * np.exp(common + own))
    return variant, baseline


def test_summary_of_known_numbers():
    found = summarize(np.arange(1, 101, dtype=float))
    assert found.mean == pytest.approx(50.5)
    assert found.median == pytest.approx(50.5)
    assert found.std == pytest.approx(math.sqrt(100 * 101 / 12))
    assert found.p95 == pytest.approx(95.05)
    assert found.p99 == pytest.approx(99.01)


def test_one_sample_has_no_spread():
    assert summarize([2.0]).std == 0
    assert not is_noisy([2.0])


def test_noise_is_interquartile_range_over_ten_percent():
    assert not is_noisy([100, 101, 102, 103, 104, 105, 106, 107, 108])
    assert is_noisy([100, 105, 110, 115, 120, 125, 130, 135, 140])
    assert not is_noisy([100.0] * 20 + [900.0] * 3), "a few outliers do not make a series noisy"


@pytest.mark.parametrize("bad", [[], [1.0, float("nan")], [1.0, 0.0], [1.0, -2.0], [float("inf")]])
def test_times_must_be_positive_finite_numbers(bad):
    with pytest.raises(ValueError, match="time"):
        summarize(bad)


def test_speedup_is_the_ratio_of_the_pooled_medians():
    found = compare([[2.0, 2.0, 3.0], [2.0, 9.0, 2.0]], [[4.0, 5.0, 5.0], [6.0, 5.0, 1.0]])
    assert found.speedup.value == pytest.approx(5.0 / 2.0)
    assert found.median.value == pytest.approx(2.0)
    assert found.baseline_median.value == pytest.approx(5.0)


def test_same_seed_same_interval_and_other_seed_another():
    data = timings(np.random.default_rng(0), processes=3, samples=20, speedup=1.5)
    assert compare(*data, seed=5) == compare(*data, seed=5)
    assert compare(*data, seed=5).speedup.low != compare(*data, seed=6).speedup.low


@pytest.mark.parametrize(
    ("processes", "process_spread"), [(3, 0.0), (3, 0.02), (3, 0.06), (5, 0.02), (8, 0.06)], ids=str
)
def test_interval_contains_the_truth_as_often_as_it_says(processes, process_spread):
    random = np.random.default_rng([processes, round(1000 * process_spread)])
    repeats, hits = 300, 0
    for seed in range(repeats):
        data = timings(random, processes=processes, samples=20, speedup=2.0, process_spread=process_spread)
        found = compare(*data, resamples=200, seed=seed).speedup
        hits += found.low <= 2.0 <= found.high
    # Three standard errors below 95 %; a plain percentile bootstrap of three processes reaches about 75 %.
    assert hits / repeats >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / repeats)


def test_more_samples_and_agreeing_processes_narrow_the_interval():
    random = np.random.default_rng(3)
    few = compare(*timings(random, processes=4, samples=10, speedup=2.0, process_spread=0)).speedup
    many = compare(*timings(random, processes=4, samples=400, speedup=2.0, process_spread=0)).speedup
    assert many.log_error < few.log_error / 3


def test_processes_that_disagree_widen_the_interval_whatever_the_number_of_samples():
    random = np.random.default_rng(4)
    found = compare(*timings(random, processes=4, samples=1000, speedup=2.0, process_spread=0.1)).speedup
    assert found.log_error > 0.08


def test_interleaving_cancels_what_slows_both_sides():
    random = np.random.default_rng(5)
    common = np.exp(random.normal(0, 0.5, 60))
    variant, baseline = 4 * common, 8 * common
    paired = compare([variant], [baseline]).speedup
    apart = compare([variant], [random.permutation(baseline)]).speedup
    assert paired.log_error < apart.log_error / 10


def test_a_against_a_shows_no_difference():
    random = np.random.default_rng(6)
    data = [timings(random, processes=3, samples=20, speedup=1.0, process_spread=0.01) for _ in range(100)]
    verdicts = [compare(*pair, resamples=200).speedup.verdict for pair in data]
    assert verdicts.count("no difference shown") >= 90


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (1.01, 1.2, "faster"),
        (0.7, 0.99, "slower"),
        (0.9, 1.1, "no difference shown"),
        (1.0, 1.2, "no difference shown"),
    ],
)
def test_verdict(low, high, word):
    assert verdict(low, high) == word
    assert Ratio((low + high) / 2, low, high).verdict == word


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), min_size=1, max_size=4),
    st.lists(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), min_size=1, max_size=4),
)
def test_an_interval_contains_its_estimate_whatever_the_samples(variant, baseline):
    count = min(len(variant), len(baseline))
    found = compare(variant[:count], baseline[:count], resamples=50)
    for ratio in (found.speedup, found.median, found.baseline_median):
        assert 0 < ratio.low <= ratio.value * (1 + 1e-12)
        assert ratio.value <= ratio.high * (1 + 1e-12)
        assert math.isfinite(ratio.high)


def test_processes_must_come_in_pairs():
    with pytest.raises(ValueError, match="2 processes of the variant against 1"):
        compare([[1.0], [1.0]], [[1.0]])
    with pytest.raises(ValueError, match="0 processes"):
        compare([], [])


def test_geometric_mean_of_opposite_ratios_is_one():
    found = geometric_mean([Ratio(4.0, 2.0, 8.0), Ratio(0.25, 0.125, 0.5)])
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.5, 2.0))
    with pytest.raises(ValueError, match="no ratios"):
        geometric_mean([])


def test_ratio_of_independent_ratios_adds_errors_in_quadrature():
    found = ratio_of(
        Ratio(6.0, 6.0 / math.exp(0.3), 6.0 * math.exp(0.3)), Ratio(2.0, 2 / math.exp(0.4), 2 * math.exp(0.4))
    )
    assert found.value == pytest.approx(3.0)
    assert found.log_error == pytest.approx(0.5)


def test_fewer_than_three_processes_have_a_verdict_and_no_interval_in_print():
    entry = {
        "speedup": 2.0,
        "speedup_ci95": [1.8, 2.3],
        "median_ms": 5.0,
        "median_ci95_ms": [4.0, 6.0],
        "replicates": 2,
    }
    two, three = Ratio.of(entry, "speedup"), Ratio.of(entry | {"replicates": 3}, "speedup")
    assert (two.verdict, interval(two)) == ("faster", "2.00× (2 processes)")
    assert interval(three) == "2.00×\u00a0[1.80,\u00a02.30]"
    assert times_as_fast(two) == "2.0 times (2 processes)"
    wide = entry | {"speedup": 94.89, "speedup_ci95": [10.613, 340.32], "replicates": 3}
    assert interval(Ratio.of(wide, "speedup")) == "94.9×\u00a0[10.6,\u00a0340]", "no more than three digits"
    assert not geometric_mean([two, three]).certain
    assert not ratio_of(three, Ratio.of(entry, "median_ms")).certain
