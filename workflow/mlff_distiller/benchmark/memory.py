"""How much memory a call takes, how much there is, and how to tell that it was not enough."""

import contextlib
import ctypes
from pathlib import Path

import torch

from mlff_distiller.utils.errors import UserError

#: What PyTorch, this package's kernels and the C library say when there is no memory.
_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` means that a smaller call would do."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError | UserError) and any(word in str(error).lower() for word in _WORDS)


def free_bytes(device: torch.device) -> int | None:
    """Memory that new tensors on ``device`` can have; None where the system does not say."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    return _from("/proc/meminfo", "MemAvailable")


class PeakMemory:
    """Within it, ``bytes`` is worked out: the most memory held at once, beyond what was held at its start.

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
    """Set VmHWM to what is held now; where that is not allowed, peaks are those of the whole process."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _give_back() -> None:
    """Memory that was freed and that the C library keeps would hide what the next call takes."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
