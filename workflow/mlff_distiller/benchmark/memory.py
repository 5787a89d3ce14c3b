"""Memory: what a call takes, what is free, and whether an error means that it ran out."""

import contextlib
import ctypes
from pathlib import Path

import torch

from mlff_distiller.utils.errors import UserError

#: Messages of PyTorch, this package's kernels and the C library when memory runs out.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | UserError) and any(word in str(error).lower() for word in _WORDS)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free for tensors on ``device``; None where unknown."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    return _from("/proc/meminfo", "MemAvailable")


class PeakMemory:
    """A context that measures ``bytes``: the most memory held at once, beyond that at its start.

    On a GPU by PyTorch's allocator; on a CPU by the process' resident set, as Linux counts it (None elsewhere).
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes: int | None = None

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            _give_back()
            _reset_peak()
            self.before = _from("/proc/self/status", "VmRSS")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.device.type == "cuda":
            if kind is None:
                torch.cuda.synchronize(self.device)
            peak: int | None = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _from("/proc/self/status", "VmHWM")
        self.bytes = None if peak is None or self.before is None else max(peak - self.before, 0)


def _from(path: str, key: str) -> int | None:
    """``key: 12 kB`` of a file under /proc, in bytes."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return 1024 * int(found[0]) if found else None


def _reset_peak() -> None:
    """Set VmHWM to the current value; where that is not allowed, peaks are those of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _give_back() -> None:
    """Return freed memory to the system: the next call would use it, and seem to take less."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
