"""Only a variant that passed its equivalence check is timed and simulated."""

from pathlib import Path

from mlff_distiller.records import schema


def refusal(equivalence: Path, system: str | None = None) -> dict[str, str] | None:
    """Why a variant may not be used, as ``status`` and ``reason`` of a record; None when it may.

    Args:
        equivalence: the records of its check.
        system: what it is to be used on; by default it must have passed on every system.
    """
    checked = [entry for entry in schema.read(equivalence) if system in (entry["system"], None)]
    if not checked:
        return {"status": "failed", "reason": "no equivalence record for this molecule"}
    failed = next((entry for entry in checked if entry["status"] != "ok"), None)
    if failed is None:
        return None
    # One that is unavailable is so on every system.
    place = f"{failed['system']}: " if system is None and failed["status"] == "failed" else ""
    return {"status": failed["status"], "reason": place + failed["reason"]}
