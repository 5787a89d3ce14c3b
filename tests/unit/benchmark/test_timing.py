"""Interleaved timing: fair turns, warm-up not counted, times in milliseconds."""

import gc
import statistics
from types import SimpleNamespace

import pytest

from mlff_distiller.benchmark import timing
from mlff_distiller.benchmark.timing import interleaved


class Clock:
    """Moves only when somebody sleeps: other work on the machine changes nothing."""

    def __init__(self):
        self.seconds = 0.0

    def sleep(self, seconds):
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    shown = SimpleNamespace(perf_counter=lambda: made.seconds, perf_counter_ns=lambda: round(1e9 * made.seconds))
    monkeypatch.setattr(timing, "time", shown)
    return made


def test_calls_take_turns_and_the_order_alternates():
    seen = []
    interleaved([lambda i: seen.append(("a", i)), lambda i: seen.append(("b", i))], runs=3, warmup=0)
    assert seen == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_one_sample_per_run_in_milliseconds(clock):
    (fast, slow), _ = interleaved([lambda i: None, lambda i: clock.sleep(0.01)], runs=5)
    assert len(fast.samples) == len(slow.samples) == 5
    assert slow.samples == pytest.approx([10] * 5)
    assert fast.samples == [0] * 5


def test_short_calls_follow_each_other_long_ones_stand_alone(clock):
    indices: dict[str, list[int]] = {"short": [], "long": []}

    def call(name: str, seconds: float):
        def wait(index: int) -> None:
            indices[name].append(index)
            clock.sleep(seconds)

        return wait

    (short, long), warmed = interleaved([call("short", 0.001), call("long", 0.006)], runs=2, warmup=1)
    assert indices["long"] == [0, 1, 2]
    # Every call has a number of its own, the warm-up's too: a calculator that keeps its last result never has it asked.
    in_turns = indices["short"][warmed:]
    assert indices["short"] == list(range(warmed + len(in_turns)))
    assert len(in_turns) == 2 * 5
    # A sample is a call's mean, not the turn's length.
    assert statistics.median(short.samples) == pytest.approx(1)
    assert long.first == long.samples


def test_the_first_call_of_a_turn_is_told_apart(clock):
    calls = []

    def slow_after_another(index: int) -> None:
        calls.append(index)
        clock.sleep(0.002 if calls[-2:-1] == ["another"] else 0.0002)

    (mine, _), _ = interleaved([slow_after_another, lambda i: calls.append("another")], runs=4, warmup=3)
    # Every other round begins with the one that ended the last: no other came between.
    assert sorted(mine.first)[2] >= 2
    assert statistics.median(mine.samples) < 1


def test_waits_for_the_device_inside_the_timed_part(clock):
    (turns,), _ = interleaved([lambda i: None], runs=2, synchronize=lambda: clock.sleep(0.005))
    assert turns.samples == pytest.approx([5, 5])


def test_garbage_collection_is_back_on_after_an_error():
    def fail(_):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        interleaved([fail], runs=1)
    assert gc.isenabled()


def test_warm_up_is_shorter_where_calls_take_long(monkeypatch, clock):
    monkeypatch.setattr(timing, "WARM_UP_SECONDS", 0.02)

    def rounds(call, warmup):
        return interleaved([call], runs=0, warmup=warmup)[1]

    assert rounds(lambda i: None, 5) == 5
    assert rounds(lambda i: clock.sleep(0.01), 50) == timing.FEWEST_WARM_UPS
    assert rounds(lambda i: clock.sleep(0.01), 2) == 2
    assert rounds(lambda i: None, 0) == 0
