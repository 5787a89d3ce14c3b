"""The command line: one sub-command per stage, each in a module of its own that is imported only when asked for."""

import argparse
import importlib
import sys

from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.freed_memory import keep_freed_memory

#: Sub-command -> (module with add_arguments and run, what it does).
STAGES = {
    "pins": ("preflight.pins", "check or renew the locked pins"),
    "preflight": ("preflight.machine", "record and check the machine and its software"),
    "check-inputs": ("preflight.inputs", "look at molecules, checkpoint and settings before any work"),
    "check-teacher": ("preflight.teacher", "make the teacher and have it label a molecule, before any work"),
    "config-schema": ("preflight.config_schema", "write the configuration's schema and tables from its classes"),
    "torch-cluster": ("preflight.torch_cluster", "obtain torch-cluster: prebuilt, else built once and kept"),
    "molecules": ("data.molecules", "make the benchmark molecules again"),
    "sample": ("data.sampling", "sample configurations of molecules"),
    "label": ("data.labeling", "label configurations by the teacher"),
    "import-data": ("data.import_data", "check labels of one's own and take them in"),
    "same-teacher": ("data.same_teacher", "label some of a dataset again: is it the same teacher"),
    "merge-data": ("data.merge", "join labeled datasets of one teacher"),
    "train": ("training.train", "train the student on labels"),
    "import-schnetpack": ("student.schnetpack", "make a student of a PaiNN that was trained with SchNetPack 2"),
    "learn-domain": ("training.domain", "fit what a student knows, and the errors to expect, to its labels"),
    "explore": ("md.explore", "run a student's own dynamics and choose frames for the teacher"),
    "accuracy": ("training.accuracy", "student against teacher on held-out molecules"),
    "round-gain": ("training.gain", "a student's errors before and after a round on its own frames"),
    "rounds-enough": ("training.enough", "decide by the limits of the settings whether a round was the last"),
    "acceptance-teacher": ("acceptance.teacher", "what the teacher finds for small unseen molecules"),
    "acceptance": ("acceptance.student", "student against teacher: geometries, vibrations, torsions, dimers, holes"),
    "model-card": ("report.model_card", "write what a student is and how good"),
    "time-teacher": ("benchmark.teacher", "time the teacher on the benchmark molecules"),
    "compile": ("variants.compile", "build one variant"),
    "validate": ("variants.check_equivalence", "check one variant against the fp64 reference"),
    "benchmark": ("benchmark.single", "time one variant against eager, interleaved"),
    "scaling": ("benchmark.scaling", "time one variant on batches, boxes, through ASE and in MD"),
    "engine": ("deploy.engine_runs.measure", "run one variant in an MD engine, and hold it against ASE"),
    "simulate": ("md.simulate", "run NVE with one variant and judge it"),
    "md-reference": ("md.reference", "run NVE in fp64, for comparison"),
    "md-timestep": ("md.timestep", "check that the energy's fluctuation goes with the time step squared"),
    "md-thermostat": ("md.thermostat", "check that Langevin dynamics gives the canonical kinetic energies"),
    "md-teacher": ("md.teacher_trajectory", "run the teacher's own dynamics, for comparison"),
    "md-spectra": ("md.spectra", "compare bonds, angles and vibrations with the teacher's"),
    "md-pairs": ("md.pairs", "compare a liquid with the teacher's: pair distributions, diffusion, pressure"),
    "liquid": ("md.liquid", "make a periodic box of a liquid"),
    "records-docs": ("records.docs", "write the page of all fields of records"),
    "collect": ("records.collect", "merge all records into one table"),
    "deploy": ("deploy.deploy", "hand over the winner of each kind of work as a bundle"),
    "figure": ("report.figures.draw", "draw one figure"),
    "compare": ("report.compare", "hold several runs against one another"),
    "report": ("report.write", "render the reports, or show a run in the terminal"),
    "pdf": ("report.pdf", "print the reports"),
    "rerender": ("report.again", "write the report of a finished run anew from its records"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one stage; a :class:`UserError` is printed as one message, exit status 2."""
    argv = sys.argv[1:] if argv is None else argv
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        # A terminal or log without the letter Å shows its code instead of ending the stage.
        reconfigure(errors="backslashreplace")
    # Only the chosen stage's module is imported: `report` must not wait for torch.
    chosen = next((word for word in argv if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(prog="python -m mlff_distiller", description=__doc__)
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    if chosen is not None and chosen not in STAGES:
        parser.error(f"unknown stage {chosen!r}{nearest(chosen, STAGES)}")
    module = None
    try:
        for name, (module_name, summary) in STAGES.items():
            stage = stages.add_parser(name, help=summary, description=summary)
            if name == chosen:
                module = importlib.import_module(f"mlff_distiller.{module_name}")
                module.add_arguments(stage)
        args = parser.parse_args(argv)
        keep_freed_memory()
        return module.run(args)
    except UserError as refused:
        error = refused
    except ModuleNotFoundError as missing:
        error = _not_installed(missing)
    print(f"error: {error}", file=sys.stderr)
    return 2


def _not_installed(error: ModuleNotFoundError) -> UserError:
    """What to do about a package that this Python lacks; a module missing from our own package is a bug and is raised."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "mlff_distiller"):
        raise error
    return UserError(
        f"the package {package!r} is not installed in this Python; what the workflow needs is in the environment that"
        " `make` sets up (enter it with `. .venv/bin/activate`), in those of `snakemake --use-conda`, and, unpinned, in"
        " `pip install '.[workflow]'`"
    )
