"""Checks of (extended) XYZ files before ASE reads them.

ASE stops at a blank line and says nothing, and reserves memory for as many atoms and columns as a file names, be it millions.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mlff_distiller.utils.errors import UserError

#: The columns of an extended XYZ file, name:type:count and again.
_PROPERTIES = re.compile(r"\bProperties=\S+", re.IGNORECASE)
_COUNTS = re.compile(r":[A-Za-z]:(\d+)")
#: Text in quotation marks, and a key of the comment line before its value.
_QUOTED, _KEY = re.compile(r"\"[^\"]*\"|'[^']*'|\{[^}]*\}"), re.compile(r"(?:^|\s)([^\s=\"'{}]+)\s*=")


def check_xyz(path: str | Path) -> None:
    """Walk through the frames by their first lines (number of atoms), and refuse whatever lies between or after them.

    Raises:
        UserError: a file that ends within a frame, holds anything but frames, or names columns that are not there.
    """
    from ase.io.formats import open_with_compression

    try:
        _check_frames(path, open_with_compression(str(path), "rt"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error})") from None


def _check_frames(path: str | Path, opened: IO[str]) -> None:
    with opened as stream:
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
    _, comment = next(lines, (0, ""))
    keys = _KEY.findall(_QUOTED.sub('""', comment))
    if twice := next((key for index, key in enumerate(keys) if key in keys[:index]), None):
        raise UserError(
            f"{where}: {twice!r} stands twice in its comment line; ASE would take the last: keep one of them"
        )
    named = _PROPERTIES.search(comment)
    declared = sum(map(int, _COUNTS.findall(named[0]))) if named else 0
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
        if declared > len(text.split()):
            raise UserError(
                f"{where}: Properties names {declared} columns, and its atom {k} has {len(text.split())}; cut short, or a count "
                "in Properties (name:type:count) is wrong"
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
