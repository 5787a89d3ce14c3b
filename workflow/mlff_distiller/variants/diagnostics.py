"""What explains a time besides its profile (profiling.py): graph breaks and recompilations, times of the first calls."""

import sys
import time
from collections.abc import Callable


def compiler_counts() -> dict[str, int]:
    """What ``torch.compile`` did in this process so far; empty where nothing was compiled.

    Returns:
        ``n_graphs`` compiled, ``n_graph_breaks`` (places where Python had to take over), ``n_recompiles`` (further
        graphs for code that was compiled before, because its guards failed).
    """
    utils = sys.modules.get("torch._dynamo.utils")
    graphs = utils.counters["stats"]["unique_graphs"] if utils else 0
    if not graphs:
        return {}
    # Metrics of the forward passes name a frame; the number of entries before it tells a first compilation from others.
    frames = [entry for entry in utils.get_compilation_metrics() if getattr(entry, "co_name", None)]
    again = sum(bool(entry.cache_size) for entry in frames)
    # PyTorch does not count every kind of break, but the code after one becomes a function of its own.
    resumed = {entry.co_name for entry in frames if entry.co_name.startswith("torch_dynamo_resume_in_")}
    breaks = max(sum(utils.counters["graph_break"].values()), len(resumed))
    return {"n_graphs": graphs, "n_graph_breaks": breaks, "n_recompiles": again}


def timed_calls(call: Callable[[], object], count: int, synchronize: Callable[[], object] | None = None) -> list[float]:
    """Times of the next ``count`` calls in ms, one by one: they show how long the warm-up takes.

    Args:
        synchronize: waits for the device.
    """
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        if synchronize:
            synchronize()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times
