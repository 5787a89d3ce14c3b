# Needs: the configuration. Makes: no file; the names, paths and helpers that the stages share.

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from mlff_distiller.preflight.config import check_config, drop_null_variants, system_name, system_path
from mlff_distiller.utils.errors import UserError
from mlff_distiller.records.schema import RESULTS, results_file
from mlff_distiller.records.vocabulary import BASELINE, WORK
from mlff_distiller.sources import code_of
from mlff_distiller.variants.registry import FAMILIES, needs_torch_cluster

drop_null_variants(config)
try:
    check_config(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

RUN = config["run"]
# Name -> file, of the molecules that ship and of those that the user names by path.
SYSTEMS = {
    system_name(name): system_path(name, config["molecules"]["folder"]) for name in config["molecules"]["systems"]
}
MD_SYSTEMS = [system_name(name) for name in config["md"]["systems"]]
# Null where labels are the user's own and nobody can be asked for more.
TEACHER = config["teacher"]["calculator"]
MD = config["md"]
LIQUIDS = {system_name(path): path for path in MD["liquid"]["systems"]}
REPLICATES = range(config["benchmark"]["replicates"])

# What lies beside a checkpoint that ships: how it was trained, and what its card says of the default run's sample.
SHIPPED = Path(config["student"]["checkpoint"] or "-").parent

# A stage asked for by name looks at the machine and the inputs first, too.
CHECKS = [f"results/{RUN}/preflight/{what}.json" for what in ("machine", "inputs")]


# The priority of jobs that take all cores, at least of a small machine, and have others waiting for them. Those
# of one core then run side by side; between two that take all, each would leave the other cores idle.
ALL_CORES_FIRST = 10


wildcard_constraints:
    run=RUN,
    variant="|".join(config["variants"]),
    replicate=r"\d+",


# Conda clears PYTHONPATH when it activates an environment; this runs after that. Python keeps what it compiles: some
# containers forbid it, and each of a hundred jobs would spend seconds on torch's modules.
shell.prefix('set -euo pipefail; export PYTHONPATH="$PWD/workflow" PYTHONUNBUFFERED=1; unset PYTHONDONTWRITEBYTECODE; ')


def as_json(value):
    """A piece of the configuration as a command-line argument, the same text whatever the order of its keys."""
    return json.dumps(value, sort_keys=True)


def settings(value):
    """:func:`as_json` as a parameter: a function, or Snakemake would take its braces for wildcards."""
    return lambda wildcards: as_json(value)


def family_code(stage, *families):
    """What the code of a stage means that loads variants of ``families``; see :func:`mlff_distiller.sources.code_of`."""
    return code_of(stage, *(FAMILIES[family].module.removeprefix("mlff_distiller.") for family in families))


def variant_code(stage):
    """What the code of a stage means that loads the variant of the job."""

    def code(wildcards):
        return family_code(stage, config["variants"][wildcards.variant]["family"])

    return code


def torch_cluster_of(wildcards):
    """The torch-cluster record, for the variants that cannot run without it; nothing for the others."""
    if needs_torch_cluster(config["variants"][wildcards.variant]):
        return f"results/{wildcards.run}/preflight/torch_cluster.json"
    return []


def torch_cluster_option(wildcards, input):
    return f"--torch-cluster {input.torch_cluster}" if input.torch_cluster else ""


def files_of(systems):
    """The files behind systems, by name, without the ``@index`` that may choose a frame."""
    return [SYSTEMS[name].partition("@")[0] for name in systems]


def run_length(variant):
    """Which runs of ``variant`` are made: ``short``, as of all variants, or ``long``."""
    chosen = MD["long"]["variants"]
    return "long" if chosen is None or variant in chosen else "short"


def nve_settings(length):
    return MD["settings"] | (MD["long"]["settings"] if length == "long" else {})


def md_systems(chosen):
    """Names of the systems that a section of ``md`` chooses: all of ``md.systems`` where it chooses none."""
    return MD_SYSTEMS if chosen is None else [system_name(name) for name in chosen]


def reference_of(wildcards):
    """The fp64 run that a variant's drift is compared with: as long as its own where the configuration asks for that."""
    long = run_length(wildcards.variant) == "long" and wildcards.system in md_systems(MD["long"]["references"])
    return f"results/{wildcards.run}/md/reference/{'long' if long else 'short'}/{wildcards.system}.json"


def check_records(task):
    """The records of a check: one per variant and system that its section of the configuration names."""
    section = MD[task]
    return expand(
        f"results/{{run}}/md/{{variant}}/{task}/{{system}}.json",
        run=RUN,
        variant=section["variants"],
        system=md_systems(section["systems"]),
    )


def shipped(name):
    """A file beside the checkpoint that the configuration names; nothing where there is none."""
    path = SHIPPED / name
    return str(path) if config["student"]["checkpoint"] and path.is_file() else []


def compared_results(wildcards):
    """The merged results of each run to be compared; a run of this configuration need not be there yet."""
    if len(config["compare"]["runs"]) < 2:
        raise WorkflowError(
            "compare.runs names fewer than two runs; for example `--config compare='{runs: [results/a, results/b]}'`"
        )
    own = f"results/{RUN}"
    files = []
    for path in config["compare"]["runs"]:
        try:
            files.append(f"{own}/report/{RESULTS}" if path.rstrip("/") == own else str(results_file(path)))
        except UserError as error:
            raise WorkflowError(f"compare.runs: {error}") from None
    return files


def print_outcome():
    """Where to look, when there is a report."""
    page = Path(f"results/{RUN}/report/PHASE3_REPORT.html")
    if page.is_file():
        print(f"\nReport:  {page}\n         {page.with_suffix('.md')}\nFigures: {page.parent / 'figures'}/")
