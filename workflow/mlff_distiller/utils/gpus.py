"""Which GPU a simulation uses, where a machine has several and simulations run at the same time."""

import os
import zlib

from mlff_distiller.utils import provenance


def take_one(work: str) -> None:
    """Restrict this process to one GPU, chosen by a hash of ``work``. Call it before CUDA is in use.

    Does nothing where the GPUs are of different models (what was compiled for one need not run on another), or where
    ``CUDA_VISIBLE_DEVICES`` is set already.

    Args:
        work: a name, different for simulations that run at the same time.
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
