"""Which GPU a process uses, where a machine has several and jobs run at the same time."""

import fcntl
import os
import tempfile
import zlib
from pathlib import Path
from typing import IO

from mlff_distiller.utils import provenance
from mlff_distiller.utils.files import NO_LOCKS

#: Most processes that are told apart on one GPU.
MOST = 64
#: Locks of this process; they end with it.
_held: list[IO[str]] = []


def take_one(work: str) -> None:
    """Restrict this process to the GPU that fewest others have taken by this function. Call it before CUDA is in use.

    Does nothing where the GPUs are of different models (what was compiled for one need not run on another), or where
    ``CUDA_VISIBLE_DEVICES`` is set already.

    Args:
        work: a name; of GPUs that as many have taken, its hash chooses.
    """
    models = provenance.gpu_names()
    if len(set(models)) != 1 or "CUDA_VISIBLE_DEVICES" in os.environ:
        return
    try:
        import torch
    except ImportError:
        # A teacher without PyTorch has its own ways.
        return

    # A container may hide some of those that the driver shows.
    if len(models) == torch.cuda.device_count():
        os.environ["CUDA_VISIBLE_DEVICES"] = str(least_taken(len(models), share(work, len(models))))


def least_taken(n: int, first: int, folder: Path | None = None) -> int:
    """One of ``n`` GPUs that fewest processes of this user hold, until the process ends; on ties from ``first`` on.

    Where the temporary folder has no locks it is ``first``.

    Args:
        folder: of the locks; one among this machine's temporary files when None.
    """
    folder = folder or Path(tempfile.gettempdir()) / f"mlff-distiller-gpus-{os.getuid()}"
    cards = [(first + step) % n for step in range(n)]
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for place in range(MOST):
            for card in cards:
                if _locked(folder / f"{card}.{place}"):
                    return card
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    return first


def _locked(path: Path) -> bool:
    handle = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return False
    except OSError:
        handle.close()
        raise
    _held.append(handle)
    return True


def share(work: str, n: int) -> int:
    """A number below ``n``, by a checksum of ``work``."""
    return zlib.crc32(work.encode()) % n
