"""Stage ``report``: writes the merged records as Markdown and self-contained HTML, or prints a summary."""

import os
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.decisions import claims, gates
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import results_file
from mlff_distiller.records.vocabulary import TASKS
from mlff_distiller.records.wording import TASK_TITLES, title
from mlff_distiller.report import acceptance, captions, engines, html, method, tables
from mlff_distiller.report.figures import draw, style
from mlff_distiller.report.first_page import by_size, first_lines
from mlff_distiller.report.handover import handed_over, read_bundles
from mlff_distiller.report.names import teacher_method, teacher_threads
from mlff_distiller.report.render import render
from mlff_distiller.report.terminal import show
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import CHECKOUT, load_settings, write_json, write_text

#: File beside a report with all that it was made with besides the records: `rerender` and `report show` go by it.
SETTINGS = "settings.json"
DEFAULT_CONFIGURATION = CHECKOUT / "config" / "config.yaml"
#: The documents, each from the template of the same name.
DOCUMENTS = ("PHASE3_REPORT", "PHASE3_WEEK1")


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``report`` and of ``report show``."""
    parser.description = "Write the report of a run, or print its summary: report show results/<run>."
    parser.add_argument("action", nargs="?", choices=["show"], help="show: print the summary of a run in the terminal")
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="with show: results/<run>")
    parser.add_argument("--results", type=Path, help="phase3_results.json")
    parser.add_argument(
        "--settings",
        help="JSON text or a file: run (its name), figures, claims (their file), gates, torch (default of show: the run's own)",
    )
    parser.add_argument("--figures", type=Path, help="folder of the figures; those missing are drawn into it "
                        "(default: figures/ in the output folder)")  # fmt: skip
    parser.add_argument("--bundles", type=Path, nargs="*", default=[], help="bundle.json of each kind of work")
    parser.add_argument(
        "--output-dir", type=Path, help="folder to write PHASE3_REPORT and PHASE3_WEEK1 to, each as .md and .html"
    )


def run(arguments: Namespace) -> int:
    """Write the report, or print the summary."""
    if arguments.action == "show":
        if arguments.run is None:
            raise UserError("report show: name the run, such as `report show results/default`")
        file = results_file(arguments.run)
        show(file, load_settings(arguments.settings) if arguments.settings else settings_of(file, ("gates", "torch")))
        return 0
    if arguments.results is None or arguments.output_dir is None:
        raise UserError("report: --results and --output-dir are needed (or: report show results/<run>)")
    settings = {
        "figures": list(draw.FIGURES),
        "claims": None,
        "gates": {},
        "torch": {},
        "bundles": read_bundles(arguments.bundles),
        **load_settings(arguments.settings or "{}"),
    }
    written = write(collect.read(arguments.results), settings, arguments.output_dir, arguments.figures)
    write_json(arguments.output_dir / SETTINGS, settings)
    for path in written:
        print(path)
    return 0


def settings_of(file: Path, needed: Iterable[str]) -> dict[str, Any]:
    """The settings of the report beside the merged results in ``file``.

    What is ``needed`` and not among them, as in those of older versions, is that of the default configuration; a message says so.
    """
    path = file.parent / SETTINGS
    found = load_settings(path) if path.is_file() else {}
    if (missing := [key for key in needed if key not in found]) and DEFAULT_CONFIGURATION.is_file():
        default = load_settings(DEFAULT_CONFIGURATION)
        default["figures"] = default["report"]["figures"]
        found |= {key: default[key] for key in missing}
        print(f"{path}: says nothing of {', '.join(missing)}: as in {DEFAULT_CONFIGURATION}", file=sys.stderr)
    return found


def write(
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    output: Path,
    figure_folder: Path | None = None,
    redraw: bool = False,
) -> list[Path]:
    """Write the report of a merged document to the folder ``output``.

    Args:
        settings: ``{"run": "default", "figures": [...], "gates": {...}, "torch": {"version": "2.5.1"}, "claims": file,
            "bundles": folder -> record of the bundle of each kind of work}``, all optional.
        figure_folder: holds ``<name>.png`` and ``<name>.svg``; missing ones are drawn, also of figures that have nothing to show
            in this run. Default: ``output/figures``.
        redraw: remove the figures that are there first.

    Returns:
        The paths of the documents written.

    Raises:
        UserError: the file of claims is missing or damaged.
    """
    figure_folder = figure_folder or output / "figures"
    known_claims = claims.load(settings["claims"]) if settings.get("claims") else None
    run = Run(document["records"], ledger=known_claims)
    if redraw:
        shutil.rmtree(figure_folder, ignore_errors=True)
    for name in wanted_figures(settings):
        wanted = [figure_folder / f"{name}.{suffix}" for suffix in ("png", "svg")]
        if not all(path.is_file() for path in wanted):
            drawn = draw.draw(name, run)
            for path in wanted:
                style.save(drawn, path)
    values = context(document, settings, known_claims)
    values["bundles"] = handed_over(settings.get("bundles") or {})
    values["winner"] = next((bundle for bundle in values["bundles"] if bundle["variant"]), None)
    values["figure_path"] = Path(os.path.relpath(figure_folder, output)).as_posix()
    written = []
    for name in DOCUMENTS:
        text = render(f"{name}.md.j2", values)
        page = html.page(text, images=lambda source: figure_folder / Path(source).name)
        written += [write_text(output / f"{name}.md", text), write_text(output / f"{name}.html", page)]
    return written


def wanted_figures(settings: Mapping[str, Any]) -> list[str]:
    """Names of the figures that the settings ask for, all by default, in the order of the report; without those of old."""
    wanted = settings.get("figures", draw.FIGURES)
    return [name for name in draw.FIGURES if name in wanted]


def context(
    document: Mapping[str, Any], settings: Mapping[str, Any], known_claims: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of the templates, from the merged document."""
    run, provenance = Run(document["records"], ledger=known_claims), document["provenance"]
    # Leave out figures without data: the section "What was not measured" lists them.
    shown = [name for name in wanted_figures(settings) if captions.SENTENCES[name](run)]
    return {
        "run": run,
        "provenance": provenance,
        "timed": bool(run.timings()),
        "lines": first_lines(run, provenance, settings),
        "by_size": by_size(run, best[0]) if (best := run.winner()) else [],
        "teacher_method": teacher_method(run),
        "teacher_threads": teacher_threads(run),
        "same_code": run.same_code,
        "overview": tables.overview(run),
        "per_task": {TASK_TITLES[task]: tables.times(run, task) for task in (*TASKS, "neighbors")},
        "systems": [f"{title(system)} ({atoms})" for system, atoms in run.systems.items()],
        "problems": run.problems(),
        "preflight": [check for entry in run.of("preflight") for check in entry.get("checks") or []],
        "torch_cluster": run.of("torch_cluster"),
        "equivalence": tables.equivalence(run),
        "md": tables.md(run),
        "drift_unlike_fp64": tables.drift_unlike_fp64(run),
        "md_checks": tables.md_checks(run),
        "accuracy": tables.accuracy(run),
        "rounds": tables.rounds(run),
        "rounds_ended": run.why_rounds_ended(),
        "acceptance": acceptance.context(run),
        "teacher": tables.teacher(run),
        "figures": [
            {"name": name, "title": captions.TITLES[name], "sentence": captions.caption(name, run),
             "reading": captions.READING[name]}
            for name in shown
        ],
        "gates": gates.decide(settings.get("gates") or {}, run),
        "gate_statements": gates.STATEMENTS,
        "claims": (judged := claims.judge(known_claims, run, provenance["machines"]) if known_claims else []),
        "not_testable": claims.NOT_TESTABLE,
        "claims_judged": any(one.verdict != claims.NOT_TESTABLE for one in judged),
        "claims_source": {key: (known_claims or {}).get(key) for key in ("source", "hardware", "table_remark")},
        "week1": tables.week_1(run, known_claims),
        "week1_best": tables.week_1_best(run, known_claims, (settings.get("gates") or {}).get("week_1") or {}),
        "scaling": tables.scaling(run),
        "energy_meter": tables.energy_meter(run),
        "engines": engines.context(run),
        "memory": tables.memory(run),
        "causes": tables.causes(run),
        "folder": f"results/{settings['run']}" if settings.get("run") else "results/<run>",
        "not_measured": method.not_measured(run, provenance),
        "method": method.method(run),
    }  # fmt: skip
