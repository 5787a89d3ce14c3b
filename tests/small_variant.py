"""A variant of a small student with random weights, as the stages before leave it."""

import json
from dataclasses import dataclass
from pathlib import Path

from mlff_distiller.cli import main
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.variants.artifact import VariantFiles
from tests.conftest import MOLECULES, make_student


@dataclass(frozen=True)
class SmallVariant:
    """Where it is, and the records of its equivalence check."""

    files: VariantFiles
    equivalence: Path


def compiled(folder):
    """The variant ``analytic``, compiled and checked in ``folder``."""
    card = {"data": {"atoms_by_atomic_number": {"1": 4, "6": 2, "7": 1, "8": 3}}}
    student = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    checkpoint = save_student(folder / "student.safetensors", student, card)
    variant, water = folder / "analytic" / "variant.json", str(MOLECULES / "water.extxyz")
    shared = ["--checkpoint", str(checkpoint), "--systems", water, "--variant", str(variant)]
    settings = json.dumps({"family": "analytic"})
    assert main(["compile", "--name", "analytic", "--settings", settings, *shared]) == 0
    assert main(["validate", *shared, "--output", str(folder / "equivalence.json")]) == 0
    return SmallVariant(VariantFiles(variant, checkpoint), folder / "equivalence.json")
