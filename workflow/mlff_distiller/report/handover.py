"""The bundles of a run for its report: one per kind of work with an example, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.deploy.texts import example, gain
from mlff_distiller.records import schema
from mlff_distiller.records.wording import WORK_TITLES
from mlff_distiller.utils.errors import UserError

#: What of a bundle's record is told.
TOLD = ("task", "variant", "status", "reason", "device", "threads", "evidence")


def read_bundles(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Folder of a bundle -> what is told of its record, or the reason why it cannot be read."""
    found = {}
    for file in files:
        try:
            (entry,) = schema.read(file)
            found[file.parent.as_posix()] = {key: entry[key] for key in TOLD if key in entry}
        except (UserError, ValueError) as error:
            reason = f"its record cannot be read: {error}"
            found[file.parent.as_posix()] = {"status": "failed", "reason": reason}
    return found


def handed_over(bundles: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per kind of work, from the records of its bundles by folder, as :func:`read_bundles` returns them.

    Returns:
        ``work`` (its title) and ``folder``; for a bundle ``variant``, ``gain`` over eager in words, and ``example``, a complete
        program; else ``reason``.
    """
    made = []
    for folder, found in bundles.items():
        name = Path(folder).name
        entry = {"work": WORK_TITLES.get(name, name), "folder": folder, "variant": None}
        if found["status"] != "ok":
            made.append(entry | {"reason": found["reason"]})
            continue
        evidence = found["evidence"]
        made.append(
            entry
            | {
                "variant": found["variant"],
                "gain": gain(name, evidence),
                "example": example(found, folder),
            }
        )
    return made
