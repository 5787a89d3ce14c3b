"""Records: the form in which every job writes what it measured. Report, gates and claims read nothing else."""

import importlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlff_distiller.utils import provenance
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.files import read_json, write_json

SCHEMA_VERSION = 1
#: The file that all records of a run are merged into.
RESULTS = "phase3_results.json"
#: One measurement, or the reason why there is none.
Record = dict[str, Any]
STATUSES = ("ok", "failed", "unavailable")
KINDS = (
    *("preflight", "torch_cluster", "compile", "equivalence", "benchmark", "profile", "md", "accuracy", "acceptance"),
    *("engine", "deploy"),
)
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

    The fields of each kind are in :mod:`mlff_distiller.records.kinds`.

    Raises:
        ValueError: unknown kind, field or status, or a status other than ``ok`` without a reason.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown record kind {kind!r}{nearest(kind, KINDS)}")
    made = COMMON_FIELDS | {"kind": kind} | fields
    if made["status"] not in STATUSES:
        raise ValueError(f"unknown status {made['status']!r}{nearest(made['status'], STATUSES)}")
    if made["status"] != "ok" and not made["reason"]:
        raise ValueError(f"a record that is {made['status']!r} must say why")
    # Imported by name, so that it does not count as a source of the stages: a new field of one kind would run all again.
    importlib.import_module("mlff_distiller.records.fields").check_fields(made)
    return made


def write(path: str | Path, records: Iterable[dict[str, Any]]) -> Path:
    """Write ``records`` with the provenance of this process to ``path``, atomically. NaN and infinity become null."""
    return write_json(
        path,
        {
            "schema_version": SCHEMA_VERSION,
            "provenance": provenance.collect(),
            "records": [finite(r) for r in records],
        },
    )


def read(path: str | Path) -> list[Record]:
    """The records in ``path``, with all common fields.

    Raises:
        UserError: the file is missing, damaged, of another form or of an unknown version, or one of its records is.
    """
    found: list[Record] = []
    for position, entry in enumerate(read_document(path)["records"]):
        if wrong := no_record(entry):
            raise UserError(f"{path}: record {position}: {wrong}; delete the file and run the workflow again")
        found.append(COMMON_FIELDS | entry)
    return found


def read_document(path: str | Path) -> dict[str, Any]:
    """The document in ``path``: provenance, and a list of what may be records.

    Raises:
        UserError: the file is missing, damaged, of another form or of an unknown version.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("records"), list) or not _has_origin(document):
        raise UserError(f"{path}: not a records file; delete it and run the workflow again")
    if document.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path}: records of form {document.get('schema_version')!r}, this version reads form {SCHEMA_VERSION}; "
            "delete the file and run the workflow again"
        )
    found: dict[str, Any] = document
    return found


def no_record(entry: Any) -> str | None:
    """Why ``entry`` is no record of a known kind and status, in words; None when it is one."""
    if not isinstance(entry, dict):
        return "not a mapping"
    if entry.get("kind") not in KINDS:
        return f"unknown kind {entry.get('kind')!r}"
    if entry.get("status") not in STATUSES:
        return f"unknown status {entry.get('status')!r}"
    if entry["status"] != "ok" and not entry.get("reason"):
        return f"{entry['status']}, and no reason why"
    return None


def _has_origin(document: dict[str, Any]) -> bool:
    """Whether the provenance, where there is one, has the form in which :mod:`provenance` writes it."""
    origin = document.get("provenance") or {}
    if not isinstance(origin, dict):
        return False
    machine, packages, git, job = (origin.get(part) or {} for part in ("machine", "packages", "git", "batch_job"))
    if not all(isinstance(part, dict) for part in (machine, packages, git, job)):
        return False
    texts = [*packages.values(), git.get("commit"), origin.get("time_utc"), job.get("system"), job.get("node")]
    return all(isinstance(text, str | None) for text in texts) and isinstance(machine.get("cores") or 0, int)


def finite(value: Any) -> Any:
    """``value`` without NaN and infinity: JSON has none, and null says the same."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


def results_file(path: str | Path) -> Path:
    """The merged results of a run, given ``results/<run>``, ``results/published/<machine>``, a report folder, or the file.

    Raises:
        UserError: no merged results there.
    """
    path = Path(path)
    tried = [path] if path.suffix == ".json" else [path / "report" / RESULTS, path / RESULTS]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: no {RESULTS} there; run `snakemake -c4 report` first, or name the file itself")
