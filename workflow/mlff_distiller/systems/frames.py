"""Every frame of a trajectory file, or the reason why there is none: ASE alone stops at a blank line and says nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.systems.xyz import check_xyz
from mlff_distiller.utils.errors import UserError, first_line

if TYPE_CHECKING:
    from ase import Atoms


def read_every_frame(path: str | Path) -> "list[Atoms]":
    """All frames of ``path``, in any format that ASE reads.

    Raises:
        UserError: missing, unreadable or empty file; an (ext)xyz file that ends within a frame, or that holds anything
            but frames.
    """
    from ase.io import iread
    from ase.io.formats import filetype

    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: a folder; name the file in it")
    if not path.is_file():
        raise UserError(f"{path}: ASE cannot read it: no such file")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: no frames in it, the file is empty")
    frames: list[Atoms] = []
    try:
        # A name may hold an "@", after which ASE expects an index.
        kind = filetype(str(path))
        if kind in ("xyz", "extxyz"):
            check_xyz(path)
        for frame in iread(str(path), index=":", format=kind, do_not_split_by_at_sign=True):
            frames.append(frame)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path}: ASE cannot read it, after {len(frames)} frames ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not frames:
        raise UserError(f"{path}: no frames in it")
    return frames
