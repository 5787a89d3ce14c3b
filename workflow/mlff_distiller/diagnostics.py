"""What explains a time: operations and kernel launches, how busy the device was, what the compiler broke apart, how the
first calls went. Never part of a timing: profiled calls are slower than others."""

import sys
import time
from collections.abc import Callable
from typing import Any

#: Calls that a profile is averaged over.
PROFILED_CALLS = 3
#: CUDA's own functions that start work on the device, by the beginning of their names in a profile.
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch")


def profile(call: Callable[[], object], device: str) -> dict[str, float]:
    """Counts of one call, averaged over :data:`PROFILED_CALLS` calls that follow one that is not counted.

    Returns:
        ``n_operations``, PyTorch operations that no other operation called; on a CUDA device also ``n_launches``
        (kernels, and graphs of kernels, that the host started), ``n_kernels`` (kernels, copies and fills that ran) and
        ``kernel_ms`` (the sum of their times; they run one after the other).
    """
    import torch
    from torch.profiler import ProfilerActivity

    on_gpu = device.startswith("cuda")
    call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(PROFILED_CALLS):
            call()
        if on_gpu:
            torch.cuda.synchronize()
    operations = launches = kernels = 0
    microseconds = 0.0
    for event in profiler.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            kernels += 1
            microseconds += event.time_range.elapsed_us()
        elif event.name.startswith("aten::"):
            operations += not _inside_an_operation(event)
        elif event.name.startswith(LAUNCHES):
            launches += 1
    counts = {"n_operations": operations / PROFILED_CALLS}
    if on_gpu:
        counts |= {"n_launches": launches / PROFILED_CALLS, "n_kernels": kernels / PROFILED_CALLS}
        counts["kernel_ms"] = microseconds / 1000 / PROFILED_CALLS
    return counts


def _inside_an_operation(event: Any) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith("aten::"):
            return True
        parent = parent.cpu_parent
    return False


def compiler_counts() -> dict[str, int]:
    """What ``torch.compile`` did in this process so far; empty where nothing was compiled.

    Returns:
        ``n_graphs`` compiled, ``n_graph_breaks`` (places where Python had to take over), ``n_recompiles`` (further
        graphs for code that was compiled before, because what it had taken for granted no longer held).
    """
    utils = sys.modules.get("torch._dynamo.utils")
    graphs = utils.counters["stats"]["unique_graphs"] if utils else 0
    if not graphs:
        return {}
    # Metrics of the forward passes name a frame; the number of entries before it tells a first compilation from others.
    frames = [entry for entry in utils.get_compilation_metrics() if getattr(entry, "co_name", None)]
    again = sum(bool(entry.cache_size) for entry in frames)
    # Not every kind of break is counted by PyTorch; but what follows one becomes a function of its own.
    resumed = {entry.co_name for entry in frames if entry.co_name.startswith("torch_dynamo_resume_in_")}
    breaks = max(sum(utils.counters["graph_break"].values()), len(resumed))
    return {"n_graphs": graphs, "n_graph_breaks": breaks, "n_recompiles": again}


def timed_calls(call: Callable[[], object], count: int, synchronize: Callable[[], object] | None = None) -> list[float]:
    """Times of the next ``count`` calls in ms, one by one: how long it takes until a call costs what all later ones do.

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
