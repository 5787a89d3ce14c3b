"""Timing of calls that take from microseconds to seconds, on a CPU or a GPU, fairly."""

import gc
import time
from collections.abc import Callable, Sequence

Call = Callable[[int], object]


def interleaved(
    calls: Sequence[Call], warmup: int, runs: int, synchronize: Callable[[], object] | None = None
) -> list[list[float]]:
    """Time several calls in turn, so that what drifts in the machine drifts for all of them.

    Args:
        calls: functions of the round's number (to choose that round's input); the order is reversed every other round.
        warmup: rounds that are not counted.
        runs: rounds that are.
        synchronize: waits for the device; called before the clock is read.

    Returns:
        One list of ``runs`` wall-clock times per call, ms.
    """
    samples: list[list[float]] = [[] for _ in calls]
    wait = synchronize or (lambda: None)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for index in range(warmup + runs):
            order = range(len(calls)) if index % 2 == 0 else reversed(range(len(calls)))
            for which in order:
                wait()
                start = time.perf_counter_ns()
                calls[which](index)
                wait()
                elapsed = time.perf_counter_ns() - start
                if index >= warmup:
                    samples[which].append(elapsed / 1e6)
    finally:
        if collecting:
            gc.enable()
    return samples
