"""Names and numbers for people: kernels, batches of molecules, counts in words, short ticks."""

import re

from mlff_distiller.data.molecules import BENCHMARK_MOLECULES
from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import number, title

#: Kernels whose names say nothing outside the file that they are in.
KERNELS = {"molecule": "one-launch kernel"}
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def kernel_name(name: str) -> str:
    """The name of a kernel or an operator without types, namespaces and arguments."""
    text = name.replace("(anonymous namespace)::", "").removeprefix("void ")
    text = re.split(r"::|: ", re.split(r"[<(]", text)[0])[-1].strip()
    return KERNELS.get(text, text)


def molecule_name(name: str) -> str:
    """The file name of a benchmark molecule that a dataset names by its SMILES; others as they are."""
    return next((molecule.name for molecule in BENCHMARK_MOLECULES if molecule.smiles == name), name)


def batch_title(run: Run, system: str) -> str:
    """What a batch is made of: a molecule, or all the molecules of the run."""
    if system != "mix":
        return title(system)
    return f"mix of the {count(len(run.systems))} molecules" if len(run.systems) > 1 else "mix of molecules"


def count(items: int) -> str:
    """A small whole number as a word."""
    return COUNTS[items] if items < len(COUNTS) else f"{items:,}"


def short(value: float) -> str:
    """A tick's number in few characters: 500, 1k, 20k, 1M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.10g}{letter}"
    return f"{value:.10g}"


def teacher_threads(run: Run) -> str:
    """On how many threads of the CPU the teacher was timed, in words; empty where it was not."""
    threads = sorted({entry["threads"] for entry in run.teacher() if entry.get("threads")})
    if not threads:
        return ""
    return f"{' or '.join(map(number, threads))} thread{'s' if threads != [1] else ''}"


def teacher_method(run: Run) -> str:
    """What the teacher computes, GFN2-xTB say, as the labels name it; empty where they do not."""
    found = [re.search(r"method=([\w-]+)", str(entry.get("labels"))) for entry in run.accuracy()]
    return next((match[1] for match in found if match), "")
