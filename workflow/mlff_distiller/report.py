"""Stage ``report``: the merged records as a document for people (Markdown, self-contained HTML, terminal)."""

import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from mlff_distiller import captions, claims, figures, gates, html_page, results, style
from mlff_distiller.captions import interval
from mlff_distiller.errors import UserError
from mlff_distiller.files import load_settings, write_text
from mlff_distiller.names import TASK_TITLES, title
from mlff_distiller.results import BASELINE, TEACHER
from mlff_distiller.summary import TASKS, Run

TEMPLATES = Path(__file__).parent / "templates"
#: Where the version of torch that the results are meant for stands in the settings, and its default.
TORCH_VERSION = "2.5.1"


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``report`` and of ``report show``."""
    parser.description = "Write the report of a run, or print its summary: report show results/<run>."
    parser.add_argument("action", nargs="?", choices=["show"], help="show: print the summary of a run in the terminal")
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="with show: results/<run>")
    parser.add_argument("--results", type=Path, help="phase3_results.json")
    parser.add_argument("--settings", default="{}", help="gates and the expected version of torch: JSON text or a file")
    parser.add_argument("--claims", type=Path, help="claims of another report to be judged (config/claims.yaml)")
    parser.add_argument("--figures", type=Path, help="folder of the figures; those missing are drawn into it "
                        "(default: figures/ in the output folder)")  # fmt: skip
    parser.add_argument(
        "--output-dir", type=Path, help="folder to write PHASE3_REPORT.md, .html and PHASE3_WEEK1.md to"
    )


def run(arguments: Namespace) -> int:
    """Write the report, or print the summary."""
    if arguments.action == "show":
        if arguments.run is None:
            raise UserError("report show: say which run, such as `report show results/default`")
        show(results.run_folder(arguments.run), load_settings(arguments.settings))
        return 0
    if arguments.results is None or arguments.output_dir is None:
        raise UserError("report: --results and --output-dir are needed (or: report show results/<run>)")
    known_claims = claims.load(arguments.claims) if arguments.claims else None
    written = write(
        results.read(arguments.results),
        load_settings(arguments.settings),
        known_claims,
        arguments.output_dir,
        arguments.figures,
    )
    for path in written:
        print(path)
    return 0


def write(
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    known_claims: Mapping[str, Any] | None,
    output: Path,
    figure_folder: Path | None = None,
) -> list[Path]:
    """Write the report of a merged document to the folder ``output``.

    Args:
        settings: ``{"gates": {...}, "torch": {"version": "2.5.1"}}``, both optional.
        known_claims: as :func:`mlff_distiller.claims.load` returns them, or None.
        figure_folder: holds ``<name>.png`` and ``<name>.svg``; missing ones are drawn. Default: ``output/figures``.

    Returns:
        The paths of the documents written.
    """
    figure_folder = figure_folder or output / "figures"
    run = Run(document["records"])
    for name in figures.FIGURES:
        wanted = [figure_folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
        if not all(path.is_file() for path in wanted):
            drawn = figures.draw(name, run)
            for path in wanted:
                style.save(drawn, path)
    values = context(document, settings, known_claims)
    values["figure_path"] = Path(os.path.relpath(figure_folder, output)).as_posix()
    text = _render("PHASE3_REPORT.md.j2", values)
    page = html_page.page(text, images=lambda source: figure_folder / Path(source).name)
    return [
        write_text(output / "PHASE3_REPORT.md", text),
        write_text(output / "PHASE3_REPORT.html", page),
        write_text(output / "PHASE3_WEEK1.md", _render("PHASE3_WEEK1.md.j2", values)),
    ]


def context(
    document: Mapping[str, Any], settings: Mapping[str, Any], known_claims: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything the templates print, worked out from the merged document."""
    run, provenance = Run(document["records"]), document["provenance"]
    return {
        "run": run,
        "provenance": provenance,
        "lines": first_lines(run, provenance, settings),
        "overview": overview(run),
        "per_task": {TASK_TITLES[task]: _times_table(run, task) for task in (*TASKS, "neighbors")},
        "systems": [f"{title(system)} ({atoms})" for system, atoms in run.systems.items()],
        "problems": run.problems(),
        "preflight": [check for entry in run.of("preflight") for check in entry.get("checks") or []],
        "torch_cluster": run.of("torch_cluster"),
        "equivalence": _equivalence_table(run),
        "md": _md_table(run),
        "accuracy": run.accuracy(),
        "teacher": _teacher_table(run),
        "figures": [
            {"name": name, "title": captions.TITLES[name], "sentence": captions.caption(name, run),
             "reading": captions.READING[name]}
            for name in figures.FIGURES
        ],
        "gates": gates.decide(settings.get("gates") or {}, run),
        "gate_statements": gates.STATEMENTS,
        "claims": claims.judge(known_claims, run, provenance["machines"]) if known_claims else [],
        "claims_source": {key: (known_claims or {}).get(key) for key in ("source", "hardware")},
        "week1": _week_1_table(run, known_claims),
        "not_measured": not_measured(run, provenance),
        "method": _method(run),
    }  # fmt: skip


def first_lines(run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """The first page: what was measured where, what won, whether it is right, and whether to trust it."""
    winner = run.winner()
    return {
        "Where": _where(run, provenance, settings),
        "What": _what(run),
        "Winner": _winner_line(run, winner),
        "Correct": _correct_line(run, winner[0] if winner else BASELINE),
        "Trust": _trust_line(run, provenance, settings, winner),
    }


def _where(run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    machines = "; ".join(map(machine_name, provenance["machines"])) or "an unknown machine"
    versions = provenance["packages"].get("torch", [])
    wanted = wanted_torch(settings)
    note = "" if versions == [wanted] else f" (not the {wanted} that results are meant for)" if versions else ""
    commit = ", ".join(commit[:10] for commit in provenance["commits"]) or "unknown"
    when = (provenance.get("measured_utc") or ["an unknown day"])[-1][:10]
    device = str(run.device or "no device").upper()
    return f"{machines}; on {device}, torch {', '.join(versions) or 'unknown'}{note}; {when}, commit {commit}."


def wanted_torch(settings: Mapping[str, Any]) -> str:
    """The version of torch that results are meant for."""
    return (settings.get("torch") or {}).get("version") or TORCH_VERSION


def machine_name(machine: Mapping[str, Any]) -> str:
    """One machine in a few words, its GPUs first."""
    gpus = machine.get("gpus") or []
    counted = [f"{gpus.count(gpu)} × {gpu}" if gpus.count(gpu) > 1 else gpu for gpu in dict.fromkeys(gpus)]
    memory = f", {machine['memory_gib']:.0f} GiB" if machine.get("memory_gib") else ""
    return ", ".join([*counted, f"{machine.get('cpu')} ({machine.get('cores')} cores{memory})"])


def _what(run: Run) -> str:
    sizes = list(run.systems.values())
    problems = [status for status, _ in run.problems().values()]
    counts = ", ".join(f"{problems.count(word)} {word}" for word in ("failed", "unavailable") if word in problems)
    molecules = f"{len(sizes)} molecules of {sizes[0]} to {sizes[-1]} atoms" if sizes else "no molecules"
    ok = sum(name not in run.problems() for name in run.variants)
    return (
        f"{len(run.variants)} variants on {molecules}, energy and energy + forces: {ok} ran and passed every check"
        + (f", {counts} (reasons below)" if counts else "")
        + "."
    )


def _winner_line(run: Run, winner: tuple[str, Any] | None) -> str:
    ranking = run.ranking("energy_forces")
    if winner is None:
        if not ranking:
            return "None: no variant has a speed-up on every molecule."
        name, ratio = ranking[0]
        why = "failed MD" if run.md(name) == "failed" else "is not shown to be faster"
        return f"None: eager stays. The best of the rest, `{name}` at {interval(ratio)} on energy + forces, {why}."
    name, ratio = winner
    singles = [r.value for r in run.speedups(name, "energy_forces").values()]
    energy = run.overall(name, "energy")
    text = (
        f"`{name}`: {interval(ratio)} the speed of eager on energy + forces "
        f"({min(singles):.2f} to {max(singles):.2f}× over the molecules)"
    )
    text += f", {interval(energy)} on the energy alone" if energy else ""
    faster = [other for other, r in ranking if r.value > ratio.value]
    return text + (
        f". Faster but not chosen: {', '.join(f'`{o}` (MD {run.md(o)})' for o in faster)}." if faster else "."
    )


def _correct_line(run: Run, variant: str) -> str:
    errors = [
        e["force_rmse_mev_per_a"]
        for e in run.of("equivalence", variant=variant)
        if e.get("force_rmse_mev_per_a") is not None
    ]
    text = f"`{variant}` against the fp64 referee: {run.equivalence(variant)}"
    text += f" (largest force error {max(errors):.2g} meV/Å)" if errors else ""
    drifts = [e["drift_mev_per_atom_ps"] for e in run.of("md", variant=variant) if e.get("drift_mev_per_atom_ps")]
    text += f"; MD: {run.md(variant)}"
    return text + (f" (largest drift {max(drifts, key=abs):.2g} meV/atom/ps)." if drifts else ".")


def _trust_line(
    run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any], winner: tuple[str, Any] | None
) -> str:
    doubts = doubts_about(run, provenance, settings, winner)
    if not doubts:
        return (
            "Yes: eager against itself shows no difference, processes were repeated, samples are quiet, checks passed."
        )
    return f"With care: {'; '.join(doubts)}."


def doubts_about(
    run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any], winner: tuple[str, Any] | None
) -> list[str]:
    """What speaks against trusting the numbers, in words; empty when nothing does."""
    doubts = []
    timed = [e for e in run.of("benchmark") if e["status"] == "ok" and e.get("replicates") and e["variant"] != TEACHER]
    if not timed:
        return ["nothing was timed"]
    control = run.overall(BASELINE, "energy_forces")
    if control is None:
        doubts.append("no control of eager against itself")
    elif control.verdict != "no difference shown":
        doubts.append(f"eager against itself shows {interval(control)}, so small differences mean nothing")
    fewest = min(entry["replicates"] for entry in timed)
    if fewest < 3:
        doubts.append(f"only {fewest} process{'es' if fewest > 1 else ''} per measurement")
    noisy = sum(bool(entry["noisy"]) for entry in timed)
    if noisy > len(timed) / 10:
        doubts.append(f"{noisy} of {len(timed)} timings are noisy (interquartile range over 10 % of the median)")
    if winner and run.md(winner[0]) != "passed":
        doubts.append("MD was not run for the winner")
    versions = provenance["packages"].get("torch", [])
    if versions and versions != [wanted_torch(settings)]:
        doubts.append(f"torch {', '.join(versions)} rather than {wanted_torch(settings)}")
    return doubts + list(provenance["warnings"])


def overview(run: Run) -> list[dict[str, Any]]:
    """One row per variant, fastest first, those without a speed-up last."""
    rows = []
    problems = run.problems()
    for name in run.variants:
        ratios = {task: run.overall(name, task) for task in TASKS}
        steps = [e["break_even_steps"] for e in run.benchmarks(name, "energy_forces").values() if e["break_even_steps"]]
        compiled = [e["compile_s"] for e in run.of("compile", variant=name) if e.get("compile_s") is not None]
        rows.append(
            {
                "variant": name,
                "dtype": next((e["dtype"] for e in run.of("benchmark", variant=name) if e["dtype"]), "-"),
                **{task: interval(ratio) if ratio else "-" for task, ratio in ratios.items()},
                "verdict": ratios["energy_forces"].verdict
                if ratios["energy_forces"]
                else problems.get(name, ("-",))[0],
                "time": run.mean_time(name, "energy_forces"),
                "equivalence": run.equivalence(name),
                "md": run.md(name),
                "compile_s": compiled[0] if compiled else None,
                "break_even": median(steps) if steps else None,
                "rank": ratios["energy_forces"].value if ratios["energy_forces"] else 0.0,
            }
        )
    return sorted(rows, key=lambda row: -row["rank"])


def _times_table(run: Run, task: str) -> list[dict[str, Any]]:
    rows = []
    for name in run.variants:
        found = run.benchmarks(name, task)
        cells = []
        for system in run.systems:
            entry = found.get(system) or {}
            if not entry.get("median_ms"):
                cells.append("-")
                continue
            noise = " ~" if entry["noisy"] else ""
            ratio = f" ({entry['speedup']:.2f}×)" if entry["speedup"] is not None and name != BASELINE else ""
            cells.append(f"{_number(entry['median_ms'])}{ratio}{noise}")
        if any(cell != "-" for cell in cells):
            rows.append({"variant": name, "cells": cells})
    return rows


def _equivalence_table(run: Run) -> list[dict[str, Any]]:
    rows = []
    for name in run.variants:
        found = [e for e in run.of("equivalence", variant=name) if e.get("force_rmse_mev_per_a") is not None]
        if found:
            worst = max(found, key=lambda e: e["force_rmse_mev_per_a"] / (e.get("tolerance_mev_per_a") or 1))
            rows.append({"variant": name, "systems": len(found), "worst": worst, "verdict": run.equivalence(name)})
    return rows


def _md_table(run: Run) -> list[dict[str, Any]]:
    rows = []
    for name in run.variants:
        found = [e for e in run.of("md", variant=name) if e["status"] != "unavailable"]
        if not found:
            continue
        worst = max(found, key=lambda e: abs(e.get("drift_mev_per_atom_ps") or 0))
        rows.append(
            {
                "variant": name,
                "passed": sum(bool(e.get("passed")) for e in found),
                "count": len(found),
                # What failed before its first step has no drift.
                "worst": {"drift_mev_per_atom_ps": None, "drift_stderr_mev_per_atom_ps": None} | worst,
                "speed": run.md_speed(name),
                "bonds_broken": sum(e.get("bonds_broken") or 0 for e in found),
                **{
                    field: max((e[field] for e in found if e.get(field) is not None), default=None)
                    for field in ("force_rmse_mev_per_a", "max_momentum")
                },
            }
        )
    return rows


def _teacher_table(run: Run) -> list[dict[str, Any]]:
    winner = run.winner()
    columns = [BASELINE, *([winner[0]] if winner else [])]
    rows = []
    for entry in sorted(run.teacher(), key=lambda e: e["n_atoms"] or 0):
        ours = {name: run.times(name, "energy_forces").get(entry["system"]) for name in columns}
        rows.append(
            {
                "system": title(entry["system"]),
                "n_atoms": entry["n_atoms"],
                "teacher_ms": entry["median_ms"],
                "students": [
                    {"name": name, "ms": time.value, "times": entry["median_ms"] / time.value} if time else None
                    for name, time in ours.items()
                ],
                "columns": columns,
            }
        )
    return rows


def _week_1_table(run: Run, known_claims: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    rows = []
    for row in (known_claims or {}).get("table") or []:
        variant = row["variant"]
        found = run.overall(variant, "energy")
        status, reason = run.problems().get(variant, ("not in this run", "not among the variants of the configuration"))
        rows.append(
            row
            | {
                "time": run.arithmetic_mean_time(variant, "energy"),
                "speedup": found,
                "verdict": found.verdict if found else status,
                "reason": "" if found else reason,
            }
        )
    return rows


def not_measured(run: Run, provenance: Mapping[str, Any]) -> list[str]:
    """What this run cannot speak about, and why."""
    gaps = []
    if not str(run.device).startswith("cuda"):
        gaps.append(
            "Nothing ran on a GPU: the source's numbers are for one, so its absolute times cannot be tested here."
        )
    for kind, what in (("equivalence", "Equivalence to the fp64 referee"), ("md", "MD"), ("accuracy", "Accuracy")):
        if not any(entry["kind"] == kind for entry in run.records):
            gaps.append(f"{what}: this run has no such records.")
    if run.systems and not any((entry["batch"] or 1) > 1 for entry in run.of("benchmark")):
        gaps.append("Batches: every timing is of one molecule at a time.")
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


def _method(run: Run) -> dict[str, str]:
    """The counts that describe how the timings were made, as ranges where they differ."""
    timed = [e for e in run.of("benchmark") if e["status"] == "ok"]

    def spread(field: str) -> str:
        values = sorted({entry[field] for entry in timed if entry.get(field) is not None})
        return "unknown" if not values else str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"

    return {field: spread(field) for field in ("replicates", "warmup", "runs", "threads")}


def show(path: Path, settings: Mapping[str, Any]) -> None:
    """Print the summary of the merged results in ``path`` to the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    document = results.read(path)
    run, console = Run(document["records"]), Console()
    console.print(f"[bold]PHASE3[/bold]  {escape(str(path))}\n")
    for name, text in first_lines(run, document["provenance"], settings).items():
        console.print(f"[bold]{name:<8}[/bold]{escape(text.replace('`', ''))}")
    words = {"passed": "yes", "failed": "no"}
    colors = {"faster": "green", "slower": "red", "failed": "red", "unavailable": "yellow", "passed": "green"}

    def colored(text: str, word: str) -> str:
        return f"[{colors[word]}]{escape(text)}[/]" if word in colors else escape(text)

    table = Table(title="\nSpeed-up over eager, geometric mean with 95 % interval", title_justify="left", box=SIMPLE)
    for column in ("variant", "energy", "energy + forces", "right", "MD"):
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
        word = "passed" if gate.passed else "failed"
        console.print(f"[bold]{escape(gate.title)}[/bold] {colored(word, word)}")


def _render(template: str, values: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; the page made from it shows raw HTML as text
    )
    environment.filters |= {"cell": _cell, "number": _number, "interval": interval}
    return environment.get_template(template).render(values)


def _cell(text: Any) -> str:
    """Text that cannot break a table or turn into markup."""
    words = " ".join(str(text).split())
    for character in "|*_<[":
        words = words.replace(character, f"\\{character}")
    return words


def _number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, trailing zeros kept (17.0, not 17); whole numbers stay whole."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0 or abs(value) < 1e-3:
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
