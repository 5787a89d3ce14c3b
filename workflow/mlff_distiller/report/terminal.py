"""Prints the summary of a run in the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.decisions import gates
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.report.first_page import first_lines
from mlff_distiller.report.tables import overview


def show(path: Path, settings: Mapping[str, Any]) -> None:
    """Print the summary of the merged results in ``path`` to the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    document = collect.read(path)
    run, console = Run(document["records"]), Console()
    console.print(f"[bold]PHASE3[/bold]  {escape(str(path))}\n")
    for name, text in first_lines(run, document["provenance"], settings).items():
        console.print(f"[bold]{name:<16}[/bold]{escape(text.replace('`', ''))}")
    words = {"passed": "yes", "failed": "no"}
    colors = {"faster": "green", "slower": "red", "failed": "red", "unavailable": "yellow", "passed": "green"}

    def colored(text: str, word: str) -> str:
        return f"[{colors[word]}]{escape(text)}[/]" if word in colors else escape(text)

    table = Table(title="\nSpeed-up over eager, geometric mean with 95 % interval", title_justify="left", box=SIMPLE)
    for column in ("variant", "energy", "energy + forces", "equal", "MD"):
        table.add_column(column, no_wrap=True)
    for row in overview(run):
        checks = ((words.get(row[check], "-"), row[check]) for check in ("equivalence", "md"))
        table.add_row(
            escape(row["variant"]),
            escape(row["energy"]),
            colored(row["verdict"] if row["energy_forces"] == "-" else row["energy_forces"], row["verdict"]),
            *(colored(*check) for check in checks),
        )
    console.print(table)
    for name, (status, reason) in run.problems().items():
        console.print(f"[bold]{escape(name)}[/bold] {colored(status, status)}: {escape(reason)}")
    for gate in gates.decide(settings.get("gates") or {}, run):
        word = gate.decision
        console.print(f"\n[bold]Gate {escape(gate.title.lower())}[/bold] {colored(word, word)}")
        for finding in gate.findings:
            asked = gates.STATEMENTS[finding.measure] + (
                "" if finding.measure == "md_passes" else f" {finding.threshold:g}×"
            )
            found = f"{finding.found}{f' ({finding.variant})' if finding.variant else ''}"
            console.print(f"  {escape(asked)}: {colored(found, finding.decision)}")
