"""What a record says about a measurement that raised an error."""

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
