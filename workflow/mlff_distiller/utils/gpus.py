"""Which GPU a simulation works on, where a machine has several and simulations run beside one another."""

import os
import zlib

from mlff_distiller.utils import provenance


def take_one(work: str) -> None:
    """Leave this process one of the machine's GPUs: always the same for the same ``work``, spread over all of them.

    Only where all are alike: what was compiled for the first need not run on another kind. And only where nobody has
    chosen already (``CUDA_VISIBLE_DEVICES``). To be called before CUDA is in use.

    Args:
        work: a name, different for simulations that run beside one another.
    """
    models = provenance.gpu_names()
    if len(set(models)) != 1 or "CUDA_VISIBLE_DEVICES" in os.environ:
        return
    import torch

    # A container may hide some of those that the driver shows.
    if len(models) == torch.cuda.device_count():
        os.environ["CUDA_VISIBLE_DEVICES"] = str(share(work, len(models)))


def share(work: str, n: int) -> int:
    """A number below ``n``, by a checksum of ``work``."""
    return zlib.crc32(work.encode()) % n
