"""Only a variant that passed its equivalence check is timed and simulated.

Variants of 16 bits are timed whether they passed or not, marked as not equivalent: what they are for is speed, and their error
is that of their number format. They are never simulated, and never win.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.records import schema
from mlff_distiller.records.outcome import is_second_class, of_the_run, refuses


def refusal_of_md(made: Mapping[str, Any], equivalence: Path) -> dict[str, Any] | None:
    """Why MD of a variant may not be judged, as fields of its record; None when it may.

    Args:
        made: the variant's compile record.
        equivalence: the records of its check.
    """
    refused = refusal(equivalence)
    if made.get("another_network"):
        reason = "another network than the student, with random weights: its MD says nothing"
        refused = {"status": "unavailable", "reason": reason}
    return None if refused is None else refused | {"passed": False}


def refusal_of_timing(equivalence: Path, system: str) -> dict[str, Any] | None:
    """Why a variant may not be timed on ``system``, as fields of its record; None when it may."""
    checked = schema.read(equivalence)
    if checked and all(is_second_class(entry) for entry in checked if of_the_run(entry)):
        return None
    return refusal(equivalence, system)


def refusal(equivalence: Path, system: str | None = None) -> dict[str, Any] | None:
    """Why a variant may not be used, as ``status`` and ``reason`` of a record; None when it may.

    Args:
        equivalence: the records of its check.
        system: what it is to be used on; by default it must have passed on everything that it does not refuse itself.
    """
    checked = [entry for entry in schema.read(equivalence) if system in (entry["system"], None) and not refuses(entry)]
    if not checked:
        return {"status": "failed", "reason": "no equivalence record for this molecule"}
    failed = next((entry for entry in checked if entry["status"] != "ok"), None)
    if failed is None:
        return None
    # One that is unavailable is so on every system.
    place = f"{failed['system']}: " if system is None and failed["status"] == "failed" else ""
    return {"status": failed["status"], "reason": place + failed["reason"]}
