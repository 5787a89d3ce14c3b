"""The bundles of a run for its report: one per kind of work with an example, or the reason why there is none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.deploy.texts import example
from mlff_distiller.records import schema
from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.wording import WORK_TITLES
from mlff_distiller.utils.errors import UserError


def handed_over(files: Sequence[Path]) -> list[dict[str, Any]]:
    """One entry per kind of work, from the ``bundle.json`` of each.

    Returns:
        ``work`` (its title) and ``folder``; for a bundle ``variant``, ``speedup``, ``measured`` and ``example``, a complete
        program; else ``reason``.
    """
    made = []
    for file in files:
        work = WORK_TITLES.get(file.parent.name, file.parent.name)
        entry = {"work": work, "folder": file.parent.as_posix(), "variant": None}
        try:
            (found,) = schema.read(file)
        except (UserError, ValueError) as error:
            made.append(entry | {"reason": f"its record cannot be read: {error}"})
            continue
        if found["status"] != "ok":
            made.append(entry | {"reason": found["reason"]})
            continue
        evidence = found["evidence"]
        made.append(
            entry
            | {
                "variant": found["variant"],
                "speedup": Ratio(evidence["speedup"], *evidence["speedup_ci95"]),
                "measured": evidence["measured"],
                "example": example(found, entry["folder"]),
            }
        )
    return made
