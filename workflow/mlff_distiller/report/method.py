"""Text for the report: how the run measured, what it did not measure and why."""

from collections.abc import Mapping
from typing import Any

from mlff_distiller.benchmark.timing import TURN_SECONDS
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.vocabulary import SCALING_TASKS
from mlff_distiller.records.wording import title


def not_measured(run: Run, provenance: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing that this run did not measure, with the reason."""
    gaps = []
    if not str(run.device).startswith("cuda"):
        gaps.append("Nothing ran on a GPU: the source's absolute times are for a GPU and cannot be tested here.")
    for kind, what in (("equivalence", "Equivalence to the fp64 reference"), ("md", "MD"), ("accuracy", "Accuracy")):
        if not any(entry["kind"] == kind for entry in run.records):
            gaps.append(f"{what}: this run has no such records.")
    if run.systems and not any((entry["batch"] or 1) > 1 for entry in run.of("benchmark")):
        gaps.append("Batches: every timing is of one molecule at a time.")
    if run.timings() and not any(entry["kind"] == "engine" for entry in run.records):
        gaps.append(
            "MD engines: none was asked for. `make engines`, then the same run again, runs the student in all of them."
        )
    if not run.teacher():
        gaps.append("The teacher was not timed.")
    if missing := [name for name in run.variants if run.md(name) == "not run" and name not in run.problems()]:
        gaps.append(f"No MD was run with {', '.join(f'`{name}`' for name in missing)}.")
    without = sorted(set(run.systems) - {entry["system"] for entry in run.of("md")})
    if run.of("md") and without:
        gaps.append(f"No MD was run on {', '.join(title(system) for system in without)}.")
    if len(run.devices) > 1:
        gaps.append(f"This report is about {run.device}; the table of results also has {', '.join(run.devices[1:])}.")
    gaps += [f"Left out: {entry['file']}: {entry['reason']}" for entry in provenance["left_out"]]
    return gaps


def method(run: Run) -> dict[str, str]:
    """Numbers that describe the timings, as ranges if they differ between records; the cost of the first call of a turn."""
    timed = [e for e in run.timings() if e["status"] == "ok"]
    beyond = [e for task in SCALING_TASKS for e in run.of("benchmark", task=task) if e["status"] == "ok"]
    beyond += [e for e in run.teacher() if e["status"] == "ok"]

    def spread(field: str, entries: list[Record] = timed) -> str:
        values = sorted({entry[field] for entry in entries if entry.get(field) is not None})
        return "unknown" if not values else str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"

    counts = {field: spread(field) for field in ("replicates", "warmup", "runs", "threads")}
    more = {f"beyond_{field}": spread(field, beyond) if beyond else "" for field in ("replicates", "runs")}
    return counts | more | {"turn": f"{1e3 * TURN_SECONDS:g} ms", "first": first_call(run)}


def first_call(run: Run) -> str:
    """How much longer the winner takes for a call that follows one of eager; empty if no record says so."""
    winner = run.winner()
    entries = run.benchmarks(winner[0], "energy_forces").values() if winner else []
    ratios = sorted(e["first_call_ms"] / e["median_ms"] for e in entries if e.get("first_call_ms"))
    if not ratios:
        return ""
    return f"`{winner[0]}` takes {ratios[0]:.2g} to {ratios[-1]:.2g} times as long there"
