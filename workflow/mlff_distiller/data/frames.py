"""Every frame of a trajectory file, or the reason why there is none: ASE alone stops at a blank line and says nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.systems.read import check_declared_columns
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
            _check_xyz(path)
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


def _check_xyz(path: Path) -> None:
    """Walk through the frames by their first lines (number of atoms), and refuse whatever lies between or after them."""
    from ase.io.formats import open_with_compression

    with open_with_compression(str(path), "rt") as stream:
        check_declared_columns(path, stream)
    with open_with_compression(str(path), "rt") as stream:
        lines, frame = enumerate(stream, start=1), 0
        for where, line in lines:
            if frame and line.lstrip().startswith("VEC"):
                continue  # cell vectors of the frame before
            if not line.strip():
                after = next((n for n, text in lines if text.strip()), None)
                if after is None:
                    return
                raise UserError(
                    f"{path}: line {where} is blank, and more follows on line {after}; ASE would stop there, after "
                    f"{frame} frames: take the blank line out"
                )
            try:
                n_atoms = int(line)
            except ValueError:
                raise UserError(
                    f"{path}: line {where}, after {frame} frames, is {line.strip()[:60]!r}; expected the number of atoms "
                    "of the next frame, or the end of the file"
                ) from None
            if n_atoms < 1:
                raise UserError(f"{path}: frame {frame} (line {where}) has {n_atoms} atoms")
            _check_frame(f"{path}: frame {frame} (line {where})", n_atoms, lines)
            frame += 1


def _check_frame(where: str, n_atoms: int, lines: Iterator[tuple[int, str]]) -> None:
    """Take the comment and the atoms of one frame from ``lines``."""
    next(lines, None)
    shapes: set[tuple[int, int]] = set()
    text = ""
    for k in range(n_atoms):
        if k:
            shapes.add(_shape(text))
        _, text = next(lines, (0, ""))
        if not text.strip():
            raise UserError(
                f"{where} says {n_atoms} atoms and has {k}: cut short? Drop the frame, or write the file again"
            )
    # All lines alike but the last, which is shorter and has no end: the copy ended in the middle of a number.
    if not text.endswith("\n") and len(shapes) == 1 and _shape(text) < next(iter(shapes)):
        raise UserError(
            f"{where} ends in the middle of a number ({text.strip()[-40:]!r}): cut short? Drop the frame, or write the "
            "file again"
        )


def _shape(line: str) -> tuple[int, int]:
    """Columns of a line, and decimals of the last of them."""
    words = line.split()
    return len(words), len(words[-1].partition(".")[2])
