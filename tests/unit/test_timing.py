"""Interleaved timing: fair turns, warm-up not counted, times in milliseconds."""

import gc
import statistics
import time

import pytest

from mlff_distiller import timing
from mlff_distiller.timing import interleaved, warm_up


@pytest.fixture
def one_call_a_turn(monkeypatch):
    monkeypatch.setattr(timing, "TURN_SECONDS", 0.0)


def test_calls_take_turns_and_the_order_alternates(one_call_a_turn):
    seen = []
    interleaved([lambda i: seen.append(("a", i)), lambda i: seen.append(("b", i))], runs=3)
    how_long_a_call_takes = 2 * timing.FEWEST_WARM_UPS
    assert seen[how_long_a_call_takes:] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_one_sample_per_run_in_milliseconds():
    fast, slow = interleaved([lambda i: None, lambda i: time.sleep(0.01)], runs=5)
    assert len(fast.samples) == len(slow.samples) == 5
    assert min(slow.samples) == pytest.approx(10, rel=0.5)
    assert statistics.median(fast.samples) < 5


def test_short_calls_follow_each_other_long_ones_stand_alone():
    indices: dict[str, list[int]] = {"short": [], "long": []}

    def call(name: str, seconds: float):
        def wait(index: int) -> None:
            indices[name].append(index)
            time.sleep(seconds)

        return wait

    short, long = interleaved([call("short", 0.001), call("long", 0.006)], runs=2)
    assert len(indices["long"]) == timing.FEWEST_WARM_UPS + 2
    # Every call has an index of its own, so that inputs go on from turn to turn.
    in_turns = indices["short"][timing.FEWEST_WARM_UPS :]
    assert in_turns == list(range(len(in_turns)))
    assert 4 <= len(in_turns) <= 2 * 5
    # A sample is a call's mean, not the turn's length.
    assert statistics.median(short.samples) == pytest.approx(1, rel=0.5)
    assert long.first == long.samples


def test_the_first_call_of_a_turn_is_told_apart():
    calls = iter(range(1000))

    def slow_at_first(_: int) -> None:
        time.sleep(0.0001 if next(calls) < timing.FEWEST_WARM_UPS else 0.001)

    (turns,) = interleaved([slow_at_first], runs=3)
    assert len(turns.first) == 3
    assert min(turns.first) >= 1


def test_waits_for_the_device_inside_the_timed_part():
    (turns,) = interleaved([lambda i: None], runs=2, synchronize=lambda: time.sleep(0.005))
    assert min(turns.samples) >= 5


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
