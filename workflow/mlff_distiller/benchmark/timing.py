"""Timing of calls that take from microseconds to seconds, on a CPU or a GPU, fairly."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Call = Callable[[int], object]

#: Warm-up ends after this time and this many rounds: slow calls need fewer.
WARM_UP_SECONDS, FEWEST_WARM_UPS = 0.25, 3
#: Calls shorter than this are timed several in a row.
TURN_SECONDS = 0.005


@dataclass(frozen=True)
class Turns:
    """Times of one of the interleaved calls, ms: each turn's mean over its calls, and its first call alone."""

    samples: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


def interleaved(
    calls: Sequence[Call], runs: int, warmup: int = 1, synchronize: Callable[[], object] | None = None
) -> tuple[list[Turns], int]:
    """Time several calls in turn, so that drifts of the machine affect all of them.

    A turn is as many calls in a row as take :data:`TURN_SECONDS`, or a single longer one. Calls of a simulation follow
    each other in the same way; only the first of a turn finds the caches full of the other's data.

    Args:
        calls: functions of the call's number (to choose its input): a call's numbers follow each other without a gap, so
            that inputs taken in a circle never come twice in a row. The order of calls is reversed every other round.
        runs: rounds.
        warmup: rounds of single calls before those, at most: fewer where they take long (:data:`WARM_UP_SECONDS`). The
            quickest of them says how long a turn is; with none, a turn is one call.
        synchronize: waits for the device; called before the clock is read, after every call.

    Returns:
        For each call the wall-clock times of its ``runs`` turns; how many rounds of warm-up there were.
    """
    turns = [Turns() for _ in calls]
    wait = synchronize or (lambda: None)

    def timed(call: Call, index: int) -> float:
        wait()
        start = time.perf_counter_ns()
        call(index)
        wait()
        return (time.perf_counter_ns() - start) / 1e6

    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        quickest, warmed = [math.inf] * len(calls), 0
        start = time.perf_counter()
        while warmed < warmup and (warmed < FEWEST_WARM_UPS or time.perf_counter() - start < WARM_UP_SECONDS):
            quickest = [min(least, timed(call, warmed)) for least, call in zip(quickest, calls, strict=True)]
            warmed += 1
        lengths = [max(1, math.ceil(1e3 * TURN_SECONDS / max(least, 1e-3))) for least in quickest]
        for index in range(runs):
            order = range(len(calls)) if index % 2 == 0 else reversed(range(len(calls)))
            for which in order:
                length = lengths[which]
                times = [timed(calls[which], warmed + index * length + k) for k in range(length)]
                turns[which].samples.append(sum(times) / length)
                turns[which].first.append(times[0])
    finally:
        if collecting:
            gc.enable()
    return turns, warmed
