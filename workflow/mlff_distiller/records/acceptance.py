"""Questions to the records of the acceptance suite."""

from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record


def compared(run: Run, task: str) -> list[Record]:
    """Records of a task that have results, whatever device the run was on."""
    found = [entry for entry in run.records if entry["kind"] == "acceptance" and entry["task"] == task]
    return [entry for entry in found if entry["status"] == "ok"]


def by_dependence(run: Run) -> list[Record]:
    """Records of frequencies, the one whose error depends most on the displacement first."""

    def spread(entry: Record) -> float:
        _, student, teacher = changing_mode(entry)
        errors = [one - other for one, other in zip(student, teacher, strict=True)]
        return max(errors) - min(errors)

    return sorted(compared(run, "frequencies"), key=lambda entry: -spread(entry))


def changing_mode(entry: Record) -> tuple[list[float], list[float], list[float]]:
    """Of the mode whose error depends most on the displacement: displacements (A, ascending), student's and teacher's
    frequencies (1/cm) there.

    Both at the same displacement: what is anharmonic in both is no error.
    """
    curves = entry["vibrations"]
    rows = sorted(
        zip(curves["displacements_a"], curves["student_per_cm"], curves["teacher_per_cm"], strict=True),
        key=lambda row: float(row[0]),
    )

    def spread(mode: int) -> float:
        errors = [student[mode] - teacher[mode] for _, student, teacher in rows]
        return float(max(errors) - min(errors))

    most = max(range(len(rows[0][1])), key=spread)
    return [row[0] for row in rows], [row[1][most] for row in rows], [row[2][most] for row in rows]
