"""Where the time of a call goes: kernels on a GPU, operators on a CPU, by torch.profiler (Kineto, CUPTI).

Never part of a timing: profiled calls, and some calls after them, are slower.
"""

import time
from collections.abc import Callable
from typing import Any

import torch

#: CUDA functions that start work on the device: how their names begin in a profile.
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cuGraphLaunch")
#: Calls that are profiled together; numbers are per call.
CALLS = 5
#: Entries listed, the slowest first; the rest is summed up as one.
KEPT = 15


def profile_call(call: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """The breakdown of ``call``, which has run before (so that nothing compiles now).

    Returns:
        Per call: ``wall_ms`` without the profiler; ``kernels``, a list of {name, calls, us} by falling time;
        ``n_kernels``; ``n_operations``, PyTorch operations that no other operation called. On a GPU also ``n_launches``
        (of kernels and graphs, by the host), ``gpu_busy_ms`` (some kernel or copy runs) and ``gpu_busy_percent`` of the
        wall time. ``unit`` is ``kernel`` or ``operator``.

    Raises:
        RuntimeError: the profiler saw nothing, as on a GPU whose counters are not accessible.
    """
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    wall = _median_wall(call, wait)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        for _ in range(CALLS):
            call()
        wait()
    events = list(profiler.events())
    found: dict[str, list[float]] = {}
    spans: list[tuple[float, float]] = []
    for event in events:
        if on_gpu:
            if event.device_type != DeviceType.CUDA:
                continue
            span = event.time_range
            spans.append((span.start, span.end))
            micros = span.end - span.start
        else:
            micros = event.self_cpu_time_total
        entry = found.setdefault(event.name, [0, 0.0])
        entry[0] += 1
        entry[1] += micros
    if not found:
        raise RuntimeError("torch.profiler saw no kernel; is CUPTI there, and may this user read the GPU's counters?")
    ranked = sorted(found.items(), key=lambda item: -item[1][1])
    kernels = [{"name": name[:120], "calls": count / CALLS, "us": total / CALLS} for name, (count, total) in ranked]
    rest = kernels[KEPT:]
    kept = kernels[:KEPT]
    if rest:
        kept.append({"name": f"{len(rest)} others", "calls": sum(k["calls"] for k in rest),
                     "us": sum(k["us"] for k in rest)})  # fmt: skip
    made = {
        "unit": "kernel" if on_gpu else "operator",
        "wall_ms": 1e3 * wall,
        "kernels": kept,
        "n_kernels": sum(count for count, _ in found.values()) / CALLS,
        "n_operations": sum(_is_operation(event) and not _inside_an_operation(event) for event in events) / CALLS,
    }
    if on_gpu:
        busy_ms = covered(spans) / CALLS / 1e3
        launches = sum(event.name.startswith(LAUNCHES) for event in events)
        made |= {
            "n_launches": launches / CALLS,
            "gpu_busy_ms": busy_ms,
            "gpu_busy_percent": min(100.0, 100 * busy_ms / made["wall_ms"]),
        }
    return made


def _is_operation(event: Any) -> bool:
    return event.name.startswith("aten::")


def _inside_an_operation(event: Any) -> bool:
    parent = event.cpu_parent
    while parent is not None:
        if _is_operation(parent):
            return True
        parent = parent.cpu_parent
    return False


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of intervals (start, end)."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def _median_wall(call: Callable[[], object], wait: Callable[[], object]) -> float:
    times = []
    for _ in range(2 * CALLS + 1):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return sorted(times)[CALLS]
