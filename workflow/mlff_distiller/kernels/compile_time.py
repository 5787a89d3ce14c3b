"""Compile times of the libraries in the user's cache, so that a variant that finds one there still reports its time."""

from pathlib import Path

from mlff_distiller.utils.files import write_text

#: Added to a library's name.
SUFFIX = ".seconds"


def note_seconds(library: Path, seconds: float) -> None:
    """Note beside ``library`` how long it took to compile."""
    write_text(_note(library), f"{seconds:.3f}\n")


def copy_seconds(library: Path, folder: Path) -> None:
    """Copy the note of ``library``, if it has one, into ``folder``."""
    if _note(library).is_file():
        write_text(folder / _note(library).name, _note(library).read_text(encoding="utf-8"))


def seconds_noted(folder: Path) -> float:
    """The sum of all notes in ``folder``, seconds."""
    return sum(float(note.read_text(encoding="utf-8")) for note in folder.glob(f"*{SUFFIX}"))


def _note(library: Path) -> Path:
    return library.with_name(library.name + SUFFIX)
