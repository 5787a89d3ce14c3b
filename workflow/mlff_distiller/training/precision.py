"""Sets the precision of float32 matrix products on a GPU within a context."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matmul_precision(device: torch.device, tf32: bool) -> Iterator[None]:
    """Matrix products in TF32 or full fp32 on a GPU within the context; no effect on a CPU."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
