"""Interleaved timing: fair turns, warm-up not counted, times in milliseconds."""

import gc
import statistics
import time

import pytest

from mlff_distiller import timing
from mlff_distiller.timing import interleaved, warm_up


def test_calls_take_turns_and_the_order_alternates():
    seen = []
    interleaved([lambda i: seen.append(("a", i)), lambda i: seen.append(("b", i))], runs=3)
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_one_sample_per_run_in_milliseconds():
    fast, slow = interleaved([lambda i: None, lambda i: time.sleep(0.01)], runs=5)
    assert len(fast) == len(slow) == 5
    assert min(slow) == pytest.approx(10, rel=0.5)
    assert statistics.median(fast) < 5


def test_waits_for_the_device_inside_the_timed_part():
    samples = interleaved([lambda i: None], runs=2, synchronize=lambda: time.sleep(0.005))
    assert min(samples[0]) >= 5


def test_garbage_collection_is_back_on_after_an_error():
    def fail(_):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interleaved([fail], runs=1)
    assert gc.isenabled()


def test_warm_up_is_shorter_where_calls_take_long(monkeypatch):
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.02)
    seen = []
    assert warm_up([seen.append, seen.append], 5) == 5
    assert seen == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert warm_up([lambda i: time.sleep(0.01)], 50) == timing.FEWEST_WARM_UPS
    assert warm_up([lambda i: time.sleep(0.01)], 2) == 2
    assert warm_up([], 0) == 0
