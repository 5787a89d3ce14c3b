"""Timing of calls that take from microseconds to seconds, on a CPU or a GPU, fairly."""

import gc
import time
from collections.abc import Callable, Sequence

Call = Callable[[int], object]

#: Warm-up ends once it took this long and had so many rounds: what takes long a call is not warmer after ten of them.
WARM_UP_SECONDS, FEWEST_WARM_UPS = 0.5, 3


def warm_up(calls: Sequence[Call], most: int, synchronize: Callable[[], object] | None = None) -> int:
    """Rounds of calls that are not counted: at most ``most``, fewer where they take long (:data:`WARM_UP_SECONDS`).

    Args:
        calls: as for :func:`interleaved`.
        synchronize: waits for the device.

    Returns:
        How many rounds there were.
    """
    start = time.perf_counter()
    for index in range(most):
        if index >= FEWEST_WARM_UPS and time.perf_counter() - start > WARM_UP_SECONDS:
            return index
        for call in calls:
            call(index)
        if synchronize:
            synchronize()
    return most


def interleaved(calls: Sequence[Call], runs: int, synchronize: Callable[[], object] | None = None) -> list[list[float]]:
    """Time several calls in turn, so that what drifts in the machine drifts for all of them.

    Args:
        calls: functions of the round's number (to choose that round's input); the order is reversed every other round.
        runs: rounds; see :func:`warm_up` for what goes before.
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
        for index in range(runs):
            order = range(len(calls)) if index % 2 == 0 else reversed(range(len(calls)))
            for which in order:
                wait()
                start = time.perf_counter_ns()
                calls[which](index)
                wait()
                elapsed = time.perf_counter_ns() - start
                samples[which].append(elapsed / 1e6)
    finally:
        if collecting:
            gc.enable()
    return samples
