"""Stage ``model-card``: writes the page that describes a student: sizes, training data, accuracy, limits."""

import argparse
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.records import schema
from mlff_distiller.records.run import Run
from mlff_distiller.report import acceptance
from mlff_distiller.report.figures import draw, style
from mlff_distiller.report.figures.uncertainty import judged
from mlff_distiller.report.names import molecule_name
from mlff_distiller.report.render import render
from mlff_distiller.report.tables import accuracy as accuracy_table
from mlff_distiller.report.tables import rounds as rounds_table
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json, sha256_of, write_text

FIGURES = ("force_parity", "force_errors", "learning_curve", "uncertainty")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``model-card``."""
    parser.description = "Write the model card of a student, with figures, from its records of training and accuracy."
    parser.add_argument("--checkpoint", type=Path, required=True, help="the student (safetensors)")
    parser.add_argument("--accuracy", type=Path, nargs="+", required=True, help="accuracy records of this run")
    parser.add_argument("--recipe-accuracy", type=Path, help="accuracy records of the run that trained the student")
    parser.add_argument("--acceptance", type=Path, help="acceptance records of this run")
    parser.add_argument(
        "--rounds", type=Path, nargs="+", default=[], help="records of rounds on the student's own frames"
    )
    parser.add_argument("--training", type=Path, help="record of the training, for the learning curve")
    parser.add_argument("--dataset-card", type=Path, help="card of the training data")
    parser.add_argument(
        "--output", type=Path, required=True, help="Markdown to write; figures go to figures/ beside it"
    )


def run(args: argparse.Namespace) -> int:
    """Draw the figures and write the page."""
    found = [record for path in args.accuracy for record in schema.read(path)]
    recipe = schema.read(args.recipe_accuracy) if args.recipe_accuracy else []
    training = schema.read(args.training) if args.training else []
    chemistry = schema.read(args.acceptance) if args.acceptance else []
    rounds = [record for path in args.rounds for record in schema.read(path)]
    header = read_header(args.checkpoint)
    # Older recipe records do not name their student.
    other = {record.get("student_sha256") for record in found} - {sha256_of(args.checkpoint)}
    other |= {record.get("student_sha256") for record in recipe} - {sha256_of(args.checkpoint), None}
    if other:
        raise UserError(
            f"{args.checkpoint}: the records of accuracy are of another student; run the accuracy stage for this one"
        )
    if {record.get("checkpoint_sha256") for record in chemistry} - {sha256_of(args.checkpoint)}:
        raise UserError(
            f"{args.checkpoint}: the records of acceptance are of another student; run the acceptance stage for this one"
        )
    drawn = []
    about = Run([*(recipe or found), *training])
    for name in FIGURES:
        if (name == "learning_curve" and not training) or (name == "uncertainty" and not judged(about)):
            continue
        style.save(draw.draw(name, about), args.output.parent / "figures" / f"{name}.png")
        drawn.append(name)
    dataset = read_json(args.dataset_card) if args.dataset_card else {}
    write_text(args.output, page(args.checkpoint, header, found, recipe, dataset, drawn, chemistry, rounds))
    print(args.output)
    return 0


def page(
    checkpoint: Path,
    header: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    recipe: Sequence[Mapping[str, Any]],
    dataset: Mapping[str, Any],
    drawn: Sequence[str],
    chemistry: Sequence[Mapping[str, Any]] = (),
    rounds: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card as Markdown.

    Args:
        checkpoint: the student's file.
        header: as :func:`read_header` returns it.
        found: accuracy records of this run.
        recipe: accuracy records of the run that trained the student; may be empty.
        dataset: card of the data; may be empty.
        drawn: names of the figures in ``figures/``.
        chemistry: acceptance records of this run; may be empty.
        rounds: records of rounds of labels on the student's own frames; may be empty.
    """
    from ase.data import chemical_symbols

    from mlff_distiller.report import captions
    from mlff_distiller.training.expected import TOLERANCES

    card = header["card"]
    trained = ((card.get("data") or {}).get("by_split") or {}).get("benchmark") or {}
    by_element = (recipe or found)[0].get("by_element") or {}
    benchmark = next((record for record in (recipe or found) if record["split"] == "benchmark"), {})
    values = {
        "name": checkpoint.name,
        "sha256": sha256_of(checkpoint),
        "config": header["config"],
        "made": card.get("training") or {},
        "settings": card.get("settings") or {},
        "data": card.get("data") or {},
        "teacher": card.get("teacher"),
        "limits": card.get("limits") or [],
        "dataset": {"left_out": {}, "labels_tried": None} | dataset,
        "elements": [
            chemical_symbols[int(z)]
            for z in (card.get("data") or {}).get("atoms_by_atomic_number") or card.get("elements") or ()
        ],
        "recipe": accuracy_table(Run(recipe)),
        "found": accuracy_table(Run(found)),
        "rounds": rounds_table(Run(rounds)),
        "rounds_ended": Run(rounds).why_rounds_ended(),
        "acceptance": acceptance.context(Run(chemistry)),
        "tolerances": TOLERANCES,
        "by_element": {chemical_symbols[int(z)]: group for z, group in by_element.items()},
        # Each benchmark molecule has a different size, so errors by size are errors by molecule.
        "by_size": benchmark.get("by_size") or {},
        # Older students trained on none of them, and their cards do not say.
        "also_trained_on": [*map(molecule_name, trained.get("also_trained_on") or [])],
        "covers": any(record["split"] == "coverage" for record in [*recipe, *found]),
        "by_element_split": (recipe or found)[0]["split"],
        "figures": [(name, captions.TITLES[name], captions.READING[name]) for name in drawn],
    }
    return render("STUDENT_CARD.md.j2", values)


def read_header(path: str | Path) -> dict[str, Any]:
    """``config`` and ``card`` of a checkpoint, read without torch (safetensors: length, JSON header, weights).

    Raises:
        UserError: not a student's checkpoint.
    """
    try:
        with Path(path).open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            entries = json.loads(stream.read(length))
        metadata = entries["__metadata__"]
        return {"config": json.loads(metadata["config"]), "card": json.loads(metadata.get("card", "{}"))}
    except (OSError, struct.error, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a student's checkpoint ({type(error).__name__}: {error})") from None
