# Needs: the configuration. Makes: no file; defines names, paths and functions that the stages share.

import json
import shlex
import sys
from pathlib import Path

from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, str(Path(workflow.basedir) / "workflow"))

from mlff_distiller.preflight.config import (
    check_duplicate_keys,
    drop_null_variants,
    system_name,
    system_path,
)
from mlff_distiller.data.teacher_settings import DEFAULT_CALCULATOR
from mlff_distiller import sources
from mlff_distiller.deploy.engines.known import ENGINES
from mlff_distiller.md.explore_settings import ExploreSettings
from mlff_distiller.preflight import slurm, teacher_python
from mlff_distiller.preflight.config_checks import check_config
from mlff_distiller.training.round_limits import RoundLimits
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.files import split_frame
from mlff_distiller.records.schema import RESULTS, read as read_records, results_file
from mlff_distiller.records.vocabulary import BASELINE, WORK
from mlff_distiller.variants.registry import FAMILIES, needs_torch_cluster

drop_null_variants(config)
try:
    check_duplicate_keys(workflow.configfiles)
    check_config(config)
except UserError as error:
    raise WorkflowError(str(error)) from None

RUN = config["run"]
# Name -> file of the molecules, those in the molecule folder and those given by path.
SYSTEMS = {
    system_name(name): system_path(name, config["molecules"]["folder"]) for name in config["molecules"]["systems"]
}
MD_SYSTEMS = [system_name(name) for name in config["md"]["systems"]]
# None if the labels are the user's own and there is no calculator for more.
TEACHER = config["teacher"]["calculator"]
TEACHER_ENVIRONMENT = str(
    Path(config["teacher"].get("environment") or Path(workflow.basedir) / "envs" / "teacher.yaml").resolve()
)
WITH_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
# Whose environment the jobs run in that ask the teacher, where conda does not choose it; null: Snakemake's.
OTHER_PYTHON = config["teacher"].get("python") if not WITH_CONDA else None
# Structures that are sampled, as the configuration names them (file, file@index), and their files; none of labels of one's own.
SAMPLING_OF = config["student"]["sampling"]
SAMPLED = [] if config["student"]["dataset"] else SAMPLING_OF.get("structures", {}).get("files", [])
# Whether a student learns from them alone.
ALONE = not (config["student"]["checkpoint"] or SAMPLING_OF.get("molecules", 1) or SAMPLING_OF.get("coverage"))
SAMPLED_FILES = [split_frame(name)[0] for name in SAMPLED]
MD = config["md"]
LIQUIDS = {system_name(path): path for path in [*MD["liquid"]["systems"], *MD["pairs"]["systems"]]}
REPLICATES = range(config["benchmark"]["replicates"])

# How often the student's own frames are labeled and learned, and where the student lies that the first round begins with.
ROUNDS = config["student"]["rounds"].get("number", 0)
FIRST = "results/{run}/rounds/0" if ROUNDS else "results/{run}/student"
ROUND_LIMITS = {
    name: value for name in RoundLimits.model_fields if (value := config["student"]["rounds"].get(name)) is not None
}

# Folder of a given checkpoint; a shipped one has records of its training and of its accuracy in a default run there.
SHIPPED = Path(config["student"]["checkpoint"] or "-").parent

# Rules take all cores of the machine by `workflow.cores`; a profile of one's own must say how many there are.
try:
    workflow.cores
except WorkflowError:
    raise WorkflowError(
        "how many cores has the machine? Say --cores N; on a cluster, where --jobs is something else, those of the smallest node, "
        "here or as `cores:` in the profile (docs/cluster.md)"
    ) from None

# Every stage that is requested by name needs these checks. Nothing waits for them by `ancient`: of a job that does, Snakemake does not
# see that its settings have changed while a check runs, too. Priorities let them go first on one machine.
CHECKS = [f"results/{RUN}/preflight/{what}.json" for what in ("machine", "inputs", *(["teacher"] if TEACHER else []))]


# Priority of jobs that use all cores of a small machine and that other jobs wait for. One-core jobs then run side by
# side afterwards; a one-core job between two of these jobs would leave the other cores idle.
ALL_CORES_FIRST = 10


# The longest time that a partition allows (`--resources runtime=...`) is that of each job; else Snakemake would let no more jobs
# run at once than have that time together.
resource_scopes:
    runtime="local",


# What jobs of their own make in shares: `--set-scatter labels=100 samples=10`.
scattergather:
    labels=1,
    samples=1,


for name in set(workflow.resource_settings.overwrite_scatter) - {"labels", "samples"}:
    raise WorkflowError(f"--set-scatter {name}: no such shares{nearest(name, ['labels', 'samples'])}")


# What a job needs, for a batch system to know; on one machine only `--resources` of the command line make it count.


def memory(mb, per_thread=0):
    """``mb`` megabytes and so many for each thread; a job that is tried again gets as much again."""
    return lambda wildcards, threads, attempt: (mb + per_thread * threads) * attempt


def minutes(n):
    """``n`` minutes; a job that is tried again gets as many again."""
    return lambda wildcards, attempt: int(n) * attempt


# A batch system must be told; `auto` would be decided on whatever node the first job gets.
ON_DEVICE = {"gpu": int(config["device"] == "cuda")}
# Megabytes with the two Snakemakes that each job brings to its node, which hold 350.
SMALL = {"mem_mb": memory(2000), "runtime": minutes(20), "gpu": 0}
# Its own limit is the memory that it judges.
MACHINE = SMALL | {"mem_mb": memory(4000)} | ON_DEVICE
BUILD = {"mem_mb": memory(500, per_thread=2000), "runtime": minutes(60)} | ON_DEVICE
# Every worker loads the teacher, a neural one with PyTorch.
WORKER = 250 if TEACHER == DEFAULT_CALCULATOR else 1500


def asks_teacher(per_mb):
    """A job that asks the teacher, and holds ``per_mb`` times what it reads; half of it where that are shares, too."""

    def megabytes(wildcards, input, threads, attempt):
        times = per_mb / 2 if input.get("shares") else per_mb
        return int(1500 + WORKER * threads + times * int(input.size_mb)) * attempt

    return {"mem_mb": megabytes, "runtime": minutes(60), "gpu": 0}


LABELS, SHARE = asks_teacher(8), asks_teacher(3)
COMPILE = {"mem_mb": memory(4000), "runtime": minutes(30)} | ON_DEVICE
MEASURED = {"mem_mb": memory(3000), "runtime": minutes(30)} | ON_DEVICE
SCALED = MEASURED | {"mem_mb": memory(4000), "runtime": minutes(60)}
MD_RUN = MEASURED | {"runtime": minutes(240)}
TEACHER_RUN = {"mem_mb": memory(1500 + 2 * WORKER), "runtime": minutes(240), "gpu": 0}


def training(given):
    """A training with the settings ``given``."""
    return {
        # The dataset is read as a whole.
        "mem_mb": lambda wildcards, input, attempt: (4000 + 20 * int(input.size_mb)) * attempt,
        # Without a limit of its own, a training ends with its steps: a day is a guess.
        "runtime": minutes((given.get("max_seconds") or 24 * 3600) / 60 + 15),
    } | ON_DEVICE


# A process for each core holds the student and its share of the systems.
EXPLORE = {"mem_mb": memory(4000, per_thread=1500), "runtime": minutes(240)} | ON_DEVICE


# Begins commands that ask the teacher for much: a run that keeps going, as on Slurm, would ask also where its check has failed.
REFUSED = "results/{wildcards.run}/preflight/teacher.refused"
UNLESS_REFUSED = (
    f"test ! -e {REFUSED} || {{{{ echo 'the teacher was refused (logs/{{wildcards.run}}/check_teacher.log);"
    " mend that, and `snakemake preflight` tries it again' >&2; exit 1; }}; "
)


wildcard_constraints:
    run=RUN,
    variant="|".join(config["variants"]),
    replicate=r"\d+",
    round=r"[1-9]\d*",
    place=r"dataset|rounds/[1-9]\d*",


# Conda clears PYTHONPATH when it activates an environment; this runs later. Some containers set
# PYTHONDONTWRITEBYTECODE; without bytecode files, every job would spend seconds compiling torch's modules.
shell.prefix('set -euo pipefail; export PYTHONPATH="$PWD/workflow" PYTHONUNBUFFERED=1; unset PYTHONDONTWRITEBYTECODE; ')


def as_json(value):
    """A section of the configuration as a command-line argument, independent of the order of its keys."""
    return json.dumps(value, sort_keys=True)


def settings(value):
    """:func:`as_json` as a function of wildcards; Snakemake would take braces in a plain string for wildcards."""
    return lambda wildcards: as_json(value)


def python_of_teacher(wildcards):
    """The Python of commands that ask the teacher. A virtual environment is found by the path of its Python, which is a link."""
    return shlex.quote(str(Path(OTHER_PYTHON).absolute())) if OTHER_PYTHON else "python"


def code_of(*modules):
    """Digests of the code of ``modules``, as a function of wildcards: a batch system's job asks for those of its own rule alone."""
    return lambda wildcards: sources.code_of(*modules)


def family_code(stage, *families):
    """Digests of the code of a stage and of the ``families`` that it loads (:func:`mlff_distiller.sources.code_of`)."""
    return sources.code_of(stage, *(FAMILIES[family].module.removeprefix("mlff_distiller.") for family in families))


def option(name, path):
    """``--name path`` as a shell reads it; nothing where there is no path."""
    return f"--{name} {shlex.quote(str(path))}" if path else ""


def variant_code(stage):
    """Digests of the code of a stage and of the family of the job's variant, as a function of wildcards."""

    def code(wildcards):
        return family_code(stage, config["variants"][wildcards.variant]["family"])

    return code


def torch_cluster_of(wildcards):
    """The torch-cluster record if the variant needs torch-cluster, else no file."""
    if needs_torch_cluster(config["variants"][wildcards.variant]):
        return f"results/{wildcards.run}/preflight/torch_cluster.json"
    return []


def torch_cluster_option(wildcards, input):
    return option("torch-cluster", input.torch_cluster)


def files_of(systems):
    """The files of systems, without the optional ``@index`` of a frame."""
    return [split_frame(SYSTEMS[name])[0] for name in systems]


def run_length(variant):
    """``long`` if ``md.long`` names ``variant`` (or no variants), else ``short``."""
    chosen = MD["long"]["variants"]
    return "long" if chosen is None or variant in chosen else "short"


def nve_settings(length):
    return MD["settings"] | (MD["long"]["settings"] if length == "long" else {})


def md_systems(chosen):
    """Names of the systems in a section of ``md``; None means all of ``md.systems``."""
    return MD_SYSTEMS if chosen is None else [system_name(name) for name in chosen]


def reference_of(wildcards):
    """The fp64 run to compare drifts with: long if the variant's run is, and ``md.long.references`` has the system."""
    long = run_length(wildcards.variant) == "long" and wildcards.system in md_systems(MD["long"]["references"])
    return f"results/{wildcards.run}/md/reference/{'long' if long else 'short'}/{wildcards.system}.json"


def check_records(task):
    """The records of an MD check: one per variant and system in its section of the configuration."""
    section = MD[task]
    return expand(
        f"results/{{run}}/md/{{variant}}/{task}/{{system}}.json",
        run=RUN,
        variant=section["variants"],
        system=md_systems(section["systems"]),
    )


def last_round():
    """The last round that is made: the first after which a limit is reached, else the most that were asked for."""
    for round in range(1, ROUNDS if ROUND_LIMITS else 0):
        (decided,) = read_records(checkpoints.decide_round.get(run=RUN, round=round).output[0])
        if decided["enough"]:
            return round
    return ROUNDS


def gains(wildcards):
    """What each round gained, and why there are no more."""
    last = last_round()
    limits = range(1, min(last, ROUNDS - 1) + 1) if ROUND_LIMITS else []
    return [
        *expand("results/{run}/rounds/{round}/gain.json", run=RUN, round=range(1, last + 1)),
        *expand("results/{run}/rounds/{round}/enough.json", run=RUN, round=limits),
    ]


def student_before(wildcards):
    """The student that a round begins with."""
    return f"results/{wildcards.run}/rounds/{int(wildcards.round) - 1}/student.safetensors"


def labels_until(wildcards):
    """All labels that a round trains on: those of before the rounds, and its own and those of the rounds before it."""
    rounds = range(1, int(wildcards.round) + 1)
    return [
        f"results/{wildcards.run}/dataset/labels.h5",
        *(f"results/{wildcards.run}/rounds/{n}/labels.h5" for n in rounds),
    ]


def cards_until(wildcards):
    """The cards of :func:`labels_until`."""
    return [str(Path(path).with_suffix(".json")) for path in labels_until(wildcards)]


def records_before(wildcards):
    """Files whose times say when a round could begin."""
    if int(wildcards.round) > 1:
        return f"results/{wildcards.run}/rounds/{int(wildcards.round) - 1}/gain.json"
    trained = [] if config["student"]["checkpoint"] else [f"{FIRST.format(run=wildcards.run)}/training.json"]
    return [f"results/{wildcards.run}/dataset/labels.json", *trained]


def shipped(name):
    """The file ``name`` beside the configured checkpoint if there is one, else no file; what rounds make of it is another."""
    path = SHIPPED / name
    return str(path) if config["student"]["checkpoint"] and not ROUNDS and path.is_file() else []


def shares_of(kind, dataset):
    """The shares that ``dataset`` is gathered from, as a function of wildcards; none where one job makes all of it.

    A dataset keeps the number of its shares, which stands beside it: it would be the same in another number,
    and must not be made again for that.
    """
    asked = len(getattr(gather, kind)("{scatteritem}"))

    def shares(wildcards):
        place = dataset.format(**dict(wildcards.items()))
        noted = Path(number_file(place))
        number = int(noted.read_text()) if noted.is_file() else asked
        if number != asked and kind in workflow.resource_settings.overwrite_scatter and place not in SAID:
            SAID.add(place)
            print(f"{place} keeps the number of its shares, {number}; for another one delete {noted}", file=sys.stderr)
        return [f"{place}.shares/{i}-of-{number}.npz" for i in range(1, number + 1)] if number > 1 else []

    return shares


# Datasets of which that has been said.
SAID = set()


def number_file(dataset):
    return f"{dataset}.n_shares"


def all_cores_unless_gathered(wildcards, input):
    return 1 if input.shares else workflow.cores


def gathered_option(wildcards, input):
    return f"--shares {len(input.shares)}" if input.shares else ""


def number_of_shares(wildcards, input):
    return len(input.shares) or 1


def compared_results(wildcards):
    """The merged results of each run in ``compare.runs``; those of this run are made if they are missing."""
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


# What is timed; on a cluster each has a node to itself.
TIMED = {"benchmark_variant", "compile_variant", "measure_engine", "measure_scaling", "time_teacher"}


def before_the_first_job():
    """Refuse a Python without what the teacher's jobs need. On one machine let Snakemake sleep between jobs; on Slurm refuse
    what would wait for ever.

    For every job that it has started Snakemake wakes up once a second from then on, to see whether its limit of jobs a second
    lets another start: after a hundred jobs that takes a quarter of a core, beside jobs whose time is measured. Without the
    limit it sleeps until a job ends. On a cluster no job is beside it, and a site may want the limit.
    """
    if OTHER_PYTHON and (problem := teacher_python.problem(OTHER_PYTHON)):
        raise WorkflowError(f"teacher.python: {problem}")
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None
        return
    if grouped := sorted(TIMED & set(workflow.group_settings.overwrite_groups)):
        raise WorkflowError(
            f"--groups {grouped[0]}: what is timed is no job of a group: one that fails would delete the times of all others in "
            "it, and several might run at once. Group what is not timed, plot_figure say"
        )
    told = workflow.executor_settings
    # Other batch systems have other settings.
    if hasattr(told, "status_command"):
        partition = slurm.partition_of(workflow.resource_settings.default_resources)
        if problems := slurm.problems(
            Path.cwd(), workflow.cores, told.status_command, config["device"], partition=partition
        ):
            raise WorkflowError("\n".join(problems))
        slurm.ask_again_without_an_answer(workflow.scheduler._executor)


def print_outcome():
    """Print the paths of the report and the figures if there is a report."""
    page = Path(f"results/{RUN}/report/PHASE3_REPORT.html")
    if page.is_file():
        print(f"\nReport:  {page}\n         {page.with_suffix('.md')}\nFigures: {page.parent / 'figures'}/")
