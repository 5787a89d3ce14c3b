"""Stage ``report``: writes the merged records as Markdown and self-contained HTML, or prints a summary."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
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

#: File beside a report with the settings that it was made with, so that `report show` decides the same gates.
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
        help="JSON text or a file: figures, gates, expected version of torch, name of the run (default of show: the run's own)",
    )
    parser.add_argument("--claims", type=Path, help="claims of another report to be judged (config/claims.yaml)")
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
        show(file, load_settings(arguments.settings) if arguments.settings else settings_of(file))
        return 0
    if arguments.results is None or arguments.output_dir is None:
        raise UserError("report: --results and --output-dir are needed (or: report show results/<run>)")
    known_claims = claims.load(arguments.claims) if arguments.claims else None
    written = write(
        collect.read(arguments.results),
        load_settings(arguments.settings or "{}"),
        known_claims,
        arguments.output_dir,
        arguments.figures,
        read_bundles(arguments.bundles),
    )
    for path in written:
        print(path)
    return 0


def settings_of(file: Path) -> dict[str, Any]:
    """The settings of the report beside the merged results, else those of the default configuration."""
    for path in (file.parent / SETTINGS, DEFAULT_CONFIGURATION):
        if path.is_file():
            return {key: value for key, value in load_settings(path).items() if key in ("gates", "torch")}
    return {}


def write(
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    known_claims: Mapping[str, Any] | None,
    output: Path,
    figure_folder: Path | None = None,
    bundles: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Path]:
    """Write the report of a merged document to the folder ``output``.

    Args:
        settings: ``{"run": "default", "figures": [...], "gates": {...}, "torch": {"version": "2.5.1"}}``, all optional.
        known_claims: as :func:`mlff_distiller.decisions.claims.load` returns them, or None.
        figure_folder: holds ``<name>.png`` and ``<name>.svg``; missing ones are drawn. Default: ``output/figures``.
        bundles: folder -> record of the bundle of each kind of work.

    Returns:
        The paths of the documents written.
    """
    figure_folder = figure_folder or output / "figures"
    run = Run(document["records"], ledger=known_claims)
    values = context(document, settings, known_claims)
    for figure in values["figures"]:
        wanted = [figure_folder / f"{figure['name']}.{suffix}" for suffix in ("png", "svg")]
        if not all(path.is_file() for path in wanted):
            drawn = draw.draw(figure["name"], run)
            for path in wanted:
                style.save(drawn, path)
    write_json(output / SETTINGS, dict(settings))
    values["bundles"] = handed_over(bundles or {})
    values["winner"] = next((bundle for bundle in values["bundles"] if bundle["variant"]), None)
    values["figure_path"] = Path(os.path.relpath(figure_folder, output)).as_posix()
    written = []
    for name in DOCUMENTS:
        text = render(f"{name}.md.j2", values)
        page = html.page(text, images=lambda source: figure_folder / Path(source).name)
        written += [write_text(output / f"{name}.md", text), write_text(output / f"{name}.html", page)]
    return written


def context(
    document: Mapping[str, Any], settings: Mapping[str, Any], known_claims: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The values of the templates, from the merged document."""
    run, provenance = Run(document["records"], ledger=known_claims), document["provenance"]
    # Leave out figures without data: the section "What was not measured" lists them.
    wanted = settings.get("figures", list(draw.FIGURES))
    shown = [name for name in draw.FIGURES if name in wanted and captions.SENTENCES[name](run)]
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
