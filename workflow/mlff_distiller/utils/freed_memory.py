"""Memory that a process has freed: kept for its next tensors instead of given back to the system."""

import contextlib
import ctypes

#: Of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


def keep_freed_memory() -> None:
    """Tells the C library (glibc; no effect on others) to reuse large blocks of memory instead of returning them.

    PyTorch on a CPU allocates and frees hundreds of tensors of megabytes in a call or a step of training. New pages from the
    system for each of them make the plain student up to three times slower in large batches, so that whatever is held
    against it would seem too fast.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_TRIM_THRESHOLD, _LARGEST)
