"""Which GPU a job works on, where a machine has several and jobs run beside one another."""

import os
import zlib


def take_one(work: str) -> None:
    """Leave this process one of the GPUs that it sees: always the same for the same ``work``, spread over all of them.

    For jobs that are not timed; those that are run alone, on the first. To be called before CUDA is in use.

    Args:
        work: a name, different for jobs that run beside one another.
    """
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    n = torch.cuda.device_count()
    if n > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen(
            work, visible[:n] if visible != [""] else [str(i) for i in range(n)]
        )


def chosen(work: str, devices: list[str]) -> str:
    """One of ``devices``, by a checksum of ``work``."""
    return devices[zlib.crc32(work.encode()) % len(devices)]
