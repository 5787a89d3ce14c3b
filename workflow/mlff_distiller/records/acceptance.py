"""Questions to the records of the acceptance suite."""

from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record


def compared(run: Run, task: str) -> list[Record]:
    """Records of a task that have results, whatever device the run was on."""
    found = [entry for entry in run.records if entry["kind"] == "acceptance" and entry["task"] == task]
    return [entry for entry in found if entry["status"] == "ok"]


def by_dependence(run: Run) -> list[Record]:
    """Records of frequencies, the one that depends most on the displacement first."""
    return sorted(compared(run, "frequencies"), key=lambda entry: -entry["change_per_cm"])
