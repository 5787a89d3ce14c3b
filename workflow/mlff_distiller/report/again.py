"""Stage ``rerender``: writes the report of a finished run anew from its records, by the rules and in the words of today."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from mlff_distiller.decisions.winners import choose, evidence
from mlff_distiller.records import collect, schema
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import results_file
from mlff_distiller.records.vocabulary import WORK
from mlff_distiller.report import pdf, write


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``rerender``."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="results/<run> or a published run")


def run(arguments: Namespace) -> int:
    """Rewrite figures and documents beside the records of each run; records and settings stay as they are."""
    for folder in arguments.runs:
        for path in rerender(results_file(folder)):
            print(path)
    return 0


def rerender(results: Path) -> list[Path]:
    """The documents of the run whose merged records are in ``results``, made as the run made them and written beside them.

    Raises:
        UserError: records, settings or the run's file of claims are missing or damaged.
    """
    folder, document = results.parent, collect.read(results)
    settings = write.settings_of(results, ("figures", "claims", "gates", "torch"))
    if "bundles" not in settings:
        print(f"{folder / write.SETTINGS}: says nothing of bundles: as the records choose them today", file=sys.stderr)
        settings["bundles"] = bundles_of(Run(document["records"]), settings.get("run", "<run>"))
    written = write.write(document, settings, folder, redraw=True)
    pdf.run(Namespace(documents=[path for path in written if path.suffix == ".md"]))
    return written


def bundles_of(run: Run, name: str) -> dict[str, dict[str, Any]]:
    """Folder -> record of the bundle of each kind of work, for a run called ``name`` that published none."""
    return {f"results/{name}/deploy/{work}": _bundle(run, work) for work in WORK}


def _bundle(run: Run, work: str) -> dict[str, Any]:
    choice = choose(run, work)
    if choice.variant is None:
        return schema.record("deploy", task=work, status="unavailable", reason=choice.reason)
    timed = run.of("benchmark", variant=choice.variant, task=WORK[work], status="ok")[0]
    kept = {"device": timed["device"], "threads": timed.get("threads")}
    return schema.record("deploy", task=work, variant=choice.variant, **kept, evidence=evidence(run, choice))
