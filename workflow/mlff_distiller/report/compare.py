"""Stage ``compare``: a report on several finished runs (Markdown and self-contained HTML)."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.decisions import comparison
from mlff_distiller.decisions.comparison import Change, Member
from mlff_distiller.records.vocabulary import TASKS, TEACHER
from mlff_distiller.records.wording import TASK_TITLES, interval, machine_name, number, title
from mlff_distiller.report import html
from mlff_distiller.report.figures import comparison as figure
from mlff_distiller.report.figures import style
from mlff_distiller.report.render import render
from mlff_distiller.utils.files import write_text

FIGURE = "comparison"


def add_arguments(parser: ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="results/<run> or results/published/<machine>; all others are compared with the first",
    )  # fmt: skip
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write COMPARISON.md and .html to")


def run(args: Namespace) -> int:
    """Write the comparison of the runs named on the command line."""
    for path in write(comparison.load_comparable(args.runs), args.output_dir):
        print(path)
    return 0


def write(members: Sequence[Member], output: Path) -> list[Path]:
    """Write ``COMPARISON.md``, ``COMPARISON.html`` and the figure to the folder ``output``; returns the documents' paths."""
    made = comparison.changes(members)
    drawn = figure.draw(members)
    for suffix in ("png", "svg"):
        style.save(drawn, output / f"{FIGURE}.{suffix}")
    text = render("COMPARISON.md.j2", context(members, made))
    page = html.page(
        text,
        images=lambda source: output / Path(source).name,
        footer="Made from the phase3_results.json of each run, which hold every number behind this page.",
    )
    return [write_text(output / "COMPARISON.md", text), write_text(output / "COMPARISON.html", page)]


def context(members: Sequence[Member], made: Sequence[Change]) -> dict[str, Any]:
    """The values of the template."""
    systems = comparison.shared_systems(members)
    only = {m.label: [name for name in m.run.systems if name not in systems] for m in members}
    return {
        "labels": [member.label for member in members],
        "lines": first_lines(members, made),
        "runs": [about(member) for member in members],
        "tables": {TASK_TITLES[task]: table(members, task, systems) for task in TASKS},
        "changes": made,
        "task_titles": TASK_TITLES,
        "systems": [f"{title(name)} ({members[0].run.systems[name]} atoms)" for name in systems],
        "only": {label: [title(name) for name in names] for label, names in only.items() if names},
        "left_out": {m.label: m.provenance["left_out"] for m in members if m.provenance["left_out"]},
        "problems": {m.label: m.run.problems() for m in members if m.run.problems()},
        "figure": f"{FIGURE}.png",
    }


def first_lines(members: Sequence[Member], made: Sequence[Change]) -> dict[str, str]:
    """First page: which runs are compared, what became worse, and the fastest variant of each run."""
    told = [
        f"`{c.variant}` on {TASK_TITLES[c.task].lower()} in {c.label}: {interval(c.time)} the speed in {members[0].label}"
        + (f", {interval(c.speedup)} the speed-up over eager there" if c.speedup else "")
        for c in made
        if c.verdict.startswith("regression")
    ] + comparison.lost(members)
    machines = len({tuple(member.hardware) for member in members})
    leaders = [
        f"{m.label}: "
        + (f"`{winner[0]}` at {interval(winner[1])}" if (winner := m.run.winner()) else "none faster than eager")
        for m in members
    ]
    students = next(iter(members[0].students))
    return {
        "What": f"{len(members)} runs of one student (checkpoint {students[:10]}) on {machines} "
        f"machine{'s' if machines > 1 else ''}: {', '.join(m.label for m in members)}. "
        f"All are compared with {members[0].label}.",
        "Regressions": f"{len(told)}. {'; '.join(told)}." if told else "None shown.",
        "Winner of each": "; ".join(leaders) + ".",
    }


def about(member: Member) -> dict[str, str]:
    """One run as a row of the table of runs."""
    provenance = member.provenance
    timed = [e for e in member.run.of("benchmark") if e["status"] == "ok" and e["variant"] != TEACHER]
    replicates = sorted({e["replicates"] for e in timed if e.get("replicates")})
    return {
        "label": member.label,
        "machine": "; ".join(map(machine_name, provenance["machines"])) or "unknown",
        "device": str(member.run.device),
        "torch": ", ".join(provenance["packages"].get("torch", [])) or "unknown",
        "threads": ", ".join(map(str, sorted(member.threads))) or "unknown",
        "processes": " to ".join(dict.fromkeys(map(str, (replicates[0], replicates[-1])))) if replicates else "unknown",
        "commit": ", ".join(commit[:10] for commit in provenance["commits"]) or "unknown",
        "date": (provenance.get("measured_utc") or ["unknown"])[-1][:10],
    }


def table(members: Sequence[Member], task: str, systems: Sequence[str]) -> list[dict[str, Any]]:
    """One row per variant: its speed-up over eager and its time in each run, means over the shared molecules."""
    rows = []
    for variant in dict.fromkeys(name for member in members for name in member.run.variants):
        cells, best = [], 0.0
        for member in members:
            found = comparison.overall(member, variant, task, systems)
            if found["speedup"]:
                best = max(best, found["speedup"].value)
                cells.append(f"{interval(found['speedup'])}, {number(found['time'].value)} ms")
            elif variant in member.run.variants:
                cells.append(member.run.problems().get(variant, ("no number",))[0])
            else:
                cells.append("not in this run")
        rows.append({"variant": variant, "cells": cells, "best": best})
    return sorted(rows, key=lambda row: -row["best"])
