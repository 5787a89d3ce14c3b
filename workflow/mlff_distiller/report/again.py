"""Stage ``rerender``: writes the report of a finished run anew from its records, by the rules and in the words of today."""

import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from mlff_distiller.decisions import claims
from mlff_distiller.decisions.winners import choose, evidence
from mlff_distiller.records import collect, schema
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import results_file
from mlff_distiller.records.vocabulary import WORK
from mlff_distiller.report import pdf, write
from mlff_distiller.report.figures import draw
from mlff_distiller.utils.files import CHECKOUT, load_settings

CLAIMS = CHECKOUT / "config" / "claims.yaml"


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``rerender``."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="results/<run> or a published run")
    parser.add_argument(
        "--claims", type=Path, default=CLAIMS, help="claims of another report to be judged (default %(default)s)"
    )


def run(arguments: Namespace) -> int:
    """Rewrite figures and documents beside the records of each run; the records stay as they are."""
    known_claims = claims.load(arguments.claims)
    for folder in arguments.runs:
        for path in rerender(results_file(folder), known_claims):
            print(path)
    return 0


def rerender(results: Path, known_claims: dict[str, Any]) -> list[Path]:
    """The documents of the run whose merged records are in ``results``, written beside them.

    Figures that there are no more are left out, and those that are new are not added unless the run had the ladder. Its
    bundles are told of as the records choose them today.
    """
    folder, document = results.parent, collect.read(results)
    settings = load_settings(folder / write.SETTINGS) if (folder / write.SETTINGS).is_file() else {}
    wanted = set(settings.get("figures", draw.FIGURES))
    settings["figures"] = [
        name for name in draw.FIGURES if name in wanted or (name == "ladder_all" and "ladder" in wanted)
    ]
    shutil.rmtree(folder / "figures", ignore_errors=True)
    found = Run(document["records"])
    bundles = {f"results/{settings.get('run', '<run>')}/deploy/{work}": _bundle(found, work) for work in WORK}
    written = write.write(document, settings, known_claims, folder, bundles=bundles)
    if not found.timings():
        # Week 1 is about timings alone.
        for path in [path for path in written if path.stem == "PHASE3_WEEK1"]:
            path.with_suffix(".pdf").unlink(missing_ok=True)
            path.unlink()
            written.remove(path)
    pdf.run(Namespace(documents=[path for path in written if path.suffix == ".md"]))
    return written


def _bundle(run: Run, work: str) -> dict[str, Any]:
    """What the record of a bundle says of the variant that the records choose for ``work``."""
    choice = choose(run, work)
    if choice.variant is None:
        return schema.record("deploy", task=work, status="unavailable", reason=choice.reason)
    made = next(iter(run.of("compile", variant=choice.variant)), {})
    kept = {key: made.get(key) for key in ("family", "options", "artifact", "target", "device")}
    return schema.record(
        "deploy", task=work, variant=choice.variant, **kept, threads=None, evidence=evidence(run, choice)
    )
