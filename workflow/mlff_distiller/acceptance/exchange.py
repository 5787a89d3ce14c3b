"""The file by which the teacher's cases reach the student: the two must not meet in one process (see data/teacher.py)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json, write_json

#: Of the file's form.
VERSION = 2


def write_cases(path: Path, teacher: str, settings: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> Path:
    """Write what the teacher found: its name, the settings of the suite, the cases (see :mod:`.cases`)."""
    return write_json(path, {"version": VERSION, "teacher": teacher, "settings": settings, "cases": cases})


def read_cases(path: Path) -> dict[str, Any]:
    """What :func:`write_cases` wrote: ``teacher``, ``settings`` and ``cases``.

    Raises:
        UserError: missing, damaged or of another form.
    """
    found = read_json(path)
    if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("cases"), list):
        raise UserError(f"{path}: not what the teacher found; delete it and run `snakemake acceptance` again")
    return found
