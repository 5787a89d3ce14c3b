"""Interleaved timing: fair turns, warm-up not counted, times in milliseconds."""

import gc
import statistics
import time

import pytest

from mlff_distiller.timing import interleaved


def test_calls_take_turns_and_the_order_alternates():
    seen = []
    interleaved([lambda i: seen.append(("a", i)), lambda i: seen.append(("b", i))], warmup=1, runs=2)
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_one_sample_per_run_in_milliseconds():
    fast, slow = interleaved([lambda i: None, lambda i: time.sleep(0.01)], warmup=2, runs=5)
    assert len(fast) == len(slow) == 5
    assert min(slow) == pytest.approx(10, rel=0.5)
    assert statistics.median(fast) < 5


def test_waits_for_the_device_inside_the_timed_part():
    samples = interleaved([lambda i: None], warmup=0, runs=2, synchronize=lambda: time.sleep(0.005))
    assert min(samples[0]) >= 5


def test_garbage_collection_is_back_on_after_an_error():
    def fail(_):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interleaved([fail], warmup=0, runs=1)
    assert gc.isenabled()
