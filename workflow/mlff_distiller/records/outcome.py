"""What a record says about a measurement: that it raised an error, that a check decided it, or that it could not."""

import traceback
from collections.abc import Mapping
from typing import Any

from mlff_distiller.utils.errors import first_line


def failure(error: BaseException) -> dict[str, str]:
    """``status`` and ``reason`` of the record; the traceback is printed, into the job's log."""
    traceback.print_exception(error)
    return {"status": "failed", "reason": f"{type(error).__name__}: {first_line(error)}"}


def of_the_run(entry: Mapping[str, Any]) -> bool:
    """Whether an equivalence record is about a molecule of the run, rather than a batch, a box or another case."""
    return bool(entry.get("case", "molecule") == "molecule")


def refuses(entry: Mapping[str, Any]) -> bool:
    """Whether an equivalence record says that the variant itself refuses such input, which is neither right nor wrong."""
    return bool(entry["status"] == "unavailable") and not of_the_run(entry)


def is_second_class(entry: Mapping[str, Any]) -> bool:
    """Whether an equivalence record is of a variant of 16 bits whose answers are numbers: it is timed, but is not the student."""
    return entry.get("precision") == "16bit" and entry.get("force_rmse_mev_per_a") is not None


#: Outcomes of an MD check. The last lets nobody win: with its standard error, the drift may lie on either side of the limit.
PASSED, FAILED, TOO_SHORT = "passed", "failed", "too short to tell"


def md_outcome(entry: Mapping[str, Any]) -> str:
    """What an MD record decides: :data:`PASSED`, :data:`FAILED` or :data:`TOO_SHORT`.

    NVE passes when the whole interval of its drift, of two standard errors, lies within the limit.
    """
    if entry["status"] != "ok" or not entry.get("passed"):
        return FAILED
    limit = ((entry.get("gates") or {}).get("drift_mev_per_atom_ps") or {}).get("limit")
    drift, error = entry.get("drift_mev_per_atom_ps"), entry.get("drift_stderr_mev_per_atom_ps")
    if limit is None or drift is None:
        return PASSED
    # A run too short for a standard error decides nothing either.
    return PASSED if error is not None and abs(drift) + 2 * error <= limit else TOO_SHORT
