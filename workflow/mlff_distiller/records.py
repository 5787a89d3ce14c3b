"""The one form in which every job says what it measured; report, gates and claims read nothing else."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlff_distiller import provenance
from mlff_distiller.errors import UserError, nearest
from mlff_distiller.files import read_json, write_json

SCHEMA_VERSION = 1
STATUSES = ("ok", "failed", "unavailable")
KINDS = ("preflight", "torch_cluster", "compile", "equivalence", "benchmark", "md", "accuracy")
#: What every record carries, whatever its kind; a field that does not apply is null.
COMMON_FIELDS = {
    "kind": None,
    "variant": None,
    "task": None,
    "system": None,
    "n_atoms": None,
    "n_edges": None,
    "batch": None,
    "device": None,
    "dtype": None,
    "status": "ok",
    "reason": "",
}


def record(kind: str, **fields: Any) -> dict[str, Any]:
    """One record of ``kind`` with the common fields filled in; ``status`` is ``ok`` unless given.

    Raises:
        ValueError: unknown kind or status, or a status other than ``ok`` without a reason.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown record kind {kind!r}{nearest(kind, KINDS)}")
    made = COMMON_FIELDS | {"kind": kind} | fields
    if made["status"] not in STATUSES:
        raise ValueError(f"unknown status {made['status']!r}{nearest(made['status'], STATUSES)}")
    if made["status"] != "ok" and not made["reason"]:
        raise ValueError(f"a record that is {made['status']!r} must say why")
    return made


def write(path: str | Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write ``records`` with the provenance of this process to ``path``, atomically. NaN and infinity become null."""
    return write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "provenance": provenance.collect(),
            "records": [_finite(r) for r in records],
        },
    )


def read(path: str | Path) -> list[dict[str, Any]]:
    """The records in ``path``.

    Raises:
        UserError: the file is missing, damaged, of another form or of an unknown version.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("records"), list):
        raise UserError(f"{path}: not a records file; delete it and run the workflow again")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path}: records of form {document.get('schema_version')!r}, this version reads form {SCHEMA_VERSION}; "
            "delete the file and run the workflow again"
        )
    return document["records"]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
