"""What a record says about a measurement that raised an error."""

import traceback

from mlff_distiller.utils.errors import first_line


def failure(error: BaseException) -> dict[str, str]:
    """``status`` and ``reason`` of the record; the traceback is printed, into the job's log."""
    traceback.print_exception(error)
    return {"status": "failed", "reason": f"{type(error).__name__}: {first_line(error)}"}
