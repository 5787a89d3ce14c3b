"""The configuration as typed classes, and its files.

Must not import numpy or torch, which may be missing. The schema and the tables of config/README.md are made from these
classes, see :mod:`mlff_distiller.preflight.config_schema`.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import TypedDict

from mlff_distiller.acceptance.settings import AcceptanceSettings
from mlff_distiller.benchmark.settings import ScalingSettings
from mlff_distiller.data.labeling_settings import LabelLimits
from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.data.teacher_settings import TeacherSettings
from mlff_distiller.deploy.engine_runs.settings import EngineName, EngineRunSettings
from mlff_distiller.md.explore_settings import ExploreSettings
from mlff_distiller.md.pairs_settings import PairsSettings
from mlff_distiller.md.settings import NveChanges, NveSettings
from mlff_distiller.md.spectra_settings import SpectraSettings
from mlff_distiller.md.thermostat_settings import ThermostatSettings
from mlff_distiller.md.timestep_settings import TimestepSettings
from mlff_distiller.preflight.machine_settings import Device, TorchSettings
from mlff_distiller.preflight.torch_cluster_settings import TorchClusterSettings
from mlff_distiller.training.round_limits import RoundLimits
from mlff_distiller.training.settings import TrainingChanges, TrainingSettings
from mlff_distiller.utils.errors import UserError, one_line_each
from mlff_distiller.utils.files import split_frame
from mlff_distiller.utils.settings import Seed, Settings, UniqueItems, unit

Count = Annotated[int, Field(ge=1)]
Speedup = Annotated[float, Field(gt=0)]
Names = UniqueItems[str]
#: What several sections of ``md`` share.
Checked = Annotated[Names, Field(description="who is checked; none: no check")]
OnSystems = Annotated[Names | None, Field(description="on some of `molecules.systems`; null: on those of `md.systems`")]


def _not_published(name: str) -> str:
    if name == "published":
        raise ValueError("results/published/ holds the runs that ship; choose another name")
    return name


class Molecules(Settings):
    """What is measured on."""

    folder: str = Field(description="where molecules named by a bare name lie (`NAME.extxyz`)")
    list: str = Field(description="SMILES that the student learns from (`resources/README.md`)")
    always_trained: str = Field(
        description="SMILES that are trained on whatever the split, where `student.sampling.coverage` asks for any; with the "
        "densities of their liquids"
    )
    systems: Names = Field(
        min_length=1, description="names, or paths of files of your own (`mine.xyz`, `trajectory.xyz@-1`)"
    )


class Rounds(RoundLimits):
    """Rounds of labels on frames that the student itself visits: each explores with the student so far, has the teacher label
    what it knows least, and trains on, with the older labels and the new ones."""

    number: Annotated[int, Field(ge=0)] = Field(
        0, description="how many, at most; 0: none. A round that is done stays as it is when another is added"
    )
    explore: ExploreSettings = Field(ExploreSettings(), description="where the student goes, and what is labeled")
    training: TrainingChanges = Field(
        TrainingChanges(), description="what is different from `student.training` when it goes on"
    )

    @model_validator(mode="after")
    def _check(self) -> "Rounds":
        limits = [name for name in RoundLimits.model_fields if getattr(self, name) is not None]
        if limits and self.number < 2:
            raise ValueError(
                f"{limits[0]} ends rounds early, and number, the most of them, is {self.number}: give 2 or more"
            )
        return self


class Student(Settings):
    """The force field."""

    checkpoint: str | None = Field(description="a `.safetensors` file; null distills a student as below")
    dataset: str | None = Field(
        description="labels of your own: a trajectory of any format that ASE reads (extxyz, traj, db), or HDF5 as the "
        "workflow writes it; positions in A, total energies in eV, forces in eV/A; then nothing is sampled. With a "
        "checkpoint they only measure it"
    )
    own_data: OwnDataSettings = Field(description="how labels of your own are read and split")
    sampling: SamplingSettings = Field(description="sizes of the dataset")
    limits: LabelLimits = Field(description="which labels are left out")
    training: TrainingSettings = Field(description="`n_steps` or `max_seconds` must be given")
    rounds: Rounds = Field(description="the student's own frames, labeled and learned")


class VariantSpec(Settings):
    """How the student is run: a family and its options."""

    model_config = ConfigDict(extra="allow")

    family: str = Field(description="one of the families below; the other keys are its options")


class Equivalence(Settings):
    """The check against the student in fp64 that a variant must pass to be timed: on the molecules, and on a batch, stretched
    bonds, all elements that the student learned, and small, thin and skewed boxes made of them."""

    frames: Count = Field(description="geometries per molecule")
    amplitude: Annotated[float, Field(ge=0), unit("A")] = Field(description="by how much they are displaced at random")
    seed: Seed = Field(description="of the displacements")


class Scaling(Settings):
    """Batches, boxes of a liquid, calls through ASE, MD steps, kernel times; one job per variant."""

    variants: Names = Field(description="which variants; `[]` for none")
    molecule: str = Field(description="what batches and MD are made of")
    liquid: str = Field(description="the molecule of the boxes")
    settings: ScalingSettings = Field(description="tasks and sizes")


class Engines(Settings):
    """NVE in MD engines, on all molecules and a box, beside ASE and the variant alone; one job per engine."""

    names: UniqueItems[EngineName] | None = Field(
        description="in which; null: in all, where `make engines` has installed them into `.venv-engines`, else in none"
    )
    variant: str = Field(description="which variant; LAMMPS and metatomic run forms of their own of the same student")
    box: str | None = Field(description="file of a periodic box (`resources/README.md`); null: molecules alone")
    settings: EngineRunSettings = Field(description="lengths of the runs")


class Benchmark(Settings):
    """The timings."""

    tasks: UniqueItems[Literal["energy", "energy_forces", "neighbors"]] = Field(
        min_length=1, description="what is timed; `neighbors` not of variants that search as eager does"
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        description="most calls before counting, per molecule and task in each process; after three of them they end once "
        "a quarter of a second has passed"
    )
    runs: Annotated[int, Field(ge=2)] = Field(description="timed calls, shared out over the replicates")
    replicates: Annotated[int, Field(ge=0)] = Field(
        description="processes; the interval resamples them; 0: nothing is timed one molecule at a time"
    )
    threads: Count = Field(description="threads of PyTorch, the same for variant and baseline")
    scaling: Scaling
    engines: Engines


class LongRuns(Settings):
    """Longer NVE of some variants."""

    variants: Names | None = Field(description="variants whose runs are the long ones, on the same systems; null: all")
    references: Names | None = Field(
        description="systems whose fp64 run, to compare drifts with, is as long (others: as `md.settings`); null: all"
    )
    settings: NveChanges = Field(description="what is different from `md.settings`")


class TimestepCheck(Settings):
    """Does the energy's fluctuation go with the time step squared, in fp64; families eager, analytic, cpp."""

    variants: Checked
    systems: OnSystems
    settings: TimestepSettings = Field(description="lengths and gates")


class ThermostatCheck(Settings):
    """Langevin dynamics: are the kinetic energies Maxwell-Boltzmann's."""

    variants: Checked
    systems: OnSystems
    settings: ThermostatSettings = Field(description="lengths and gates")


class SpectraCheck(Settings):
    """Bonds, angles and vibrations against the teacher's dynamics."""

    variants: Checked
    systems: OnSystems
    settings: SpectraSettings = Field(description="lengths and gates")


class PairsCheck(Settings):
    """A liquid against the teacher's: pair distributions, self-diffusion and pressure, from Langevin dynamics of one box."""

    variants: Checked
    systems: Names = Field(description="files of periodic boxes that are equilibrated (`resources/README.md`)")
    settings: PairsSettings = Field(description="lengths and gates")


class Liquid(Settings):
    """NVE of periodic boxes."""

    variants: Checked
    systems: Names = Field(description="files of periodic boxes (`resources/README.md`)")
    settings: NveChanges = Field(description="what is different from `md.settings`")


class Md(Settings):
    """The MD validation."""

    systems: Names = Field(description="some of `molecules.systems`")
    threads: Count = Field(description="threads of each simulation")
    settings: NveSettings = Field(description="NVE of every variant: lengths and gates")
    long: LongRuns
    timestep: TimestepCheck
    nvt: ThermostatCheck
    spectra: SpectraCheck
    pairs: PairsCheck
    liquid: Liquid


class Accuracy(Settings):
    """The student against the teacher."""

    visited_frames: Annotated[int, Field(ge=0)] = Field(
        description="frames of each molecule's MD (with `eager`) that the teacher labels for it; 0: none"
    )


class Deploy(Settings):
    """The bundles."""

    engines: UniqueItems[EngineName] = Field(
        description="MD engines for which a bundle has an example (`docs/ENGINE.md`); it is run where the engine is installed"
    )


class Gate(TypedDict, total=False):
    """A decision: the measures that it asks for, and what they must reach."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    energy_speedup: Annotated[Speedup, Field(description="of the fastest variant's energies over eager's")]
    energy_forces_speedup: Annotated[Speedup, Field(description="the same of energies with forces")]
    force_speedup: Annotated[Speedup, Field(description="the same of what forces take beyond energies")]
    md_passes: Annotated[bool, Field(description="the fastest variant's MD passes")]


class Report(Settings):
    """The report."""

    figures: UniqueItems[
        Literal[
            "ladder",
            "ladder_all",
            "latency",
            "energy_forces",
            "neighbors",
            "compile",
            "throughput",
            "system_size",
            "ase_overhead",
            "kernel_times",
            "roofline",
            "warm_up",
            "pareto",
            "nve_drift",
            "md_energy",
            "md_timestep",
            "md_kinetic",
            "md_spectra",
            "md_pairs",
            "accuracy",
            "force_parity",
            "force_errors",
            "learning_curve",
            "uncertainty",
            "vibrations",
            "energy_curves",
            "crystals",
        ]
    ] = Field(description="which figures it has")


class Compare(Settings):
    """`snakemake -c4 compare`: several runs side by side, in `results/<run>/compare/`."""

    runs: Names = Field(
        description="folders of finished runs (`results/a`, `results/published/b`), the first is what the others are held "
        "against"
    )


class Config(Settings):
    """config/config.yaml with the files laid over it; config/README.md explains each key."""

    run: Annotated[
        str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100), AfterValidator(_not_published)
    ] = Field(description="name of the run; results go to `results/<run>/`")
    device: Device = Field(description="`auto` takes a CUDA device when there is one")
    torch: TorchSettings
    torch_cluster: TorchClusterSettings
    teacher: TeacherSettings
    molecules: Molecules
    student: Student
    variants: dict[Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")], VariantSpec] = Field(
        min_length=1, description="by name; `NAME: null` leaves one of the file below out"
    )
    equivalence: Equivalence
    benchmark: Benchmark
    md: Md
    accuracy: Accuracy
    acceptance: AcceptanceSettings
    deploy: Deploy
    gates: dict[str, Gate] = Field(description="decisions, by name; a gate passes when all its measures do")
    claims: str | None = Field(description="a file of claims to be judged, as `claims.yaml`; null for none")
    report: Report
    compare: Compare

    @field_validator("*")
    @classmethod
    def _note(cls, value: Any, info: ValidationInfo) -> Any:
        # Valid sections are checked further even if others are wrong.
        if info.context is not None:
            info.context[info.field_name] = value
        return value


def check_duplicate_keys(files: Iterable[str | Path]) -> None:
    """Raise a :class:`UserError` for a key that occurs twice in one mapping of a YAML file: the first would be ignored."""
    found = []
    for file in files:
        # As bytes: YAML says which of them are no text.
        with open(file, "rb") as stream:
            try:
                waiting = [("", yaml.compose(stream, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))]
            except yaml.YAMLError as error:
                raise UserError(f"{file}: not valid YAML: {error}") from None
        seen = set()
        while waiting:
            path, node = waiting.pop()
            # An alias may lead to where it stands.
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                waiting += [(f"{path}{index}.", item) for index, item in enumerate(node.value)]
            if not isinstance(node, yaml.MappingNode):
                continue
            lines: dict[str, int] = {}
            for key, value in node.value:
                name, line = f"{path}{key.value}", key.start_mark.line + 1
                if name in lines:
                    found.append(
                        f"{file}: {name} stands in line {lines[name]} and again in line {line}; keep one of them"
                    )
                lines[name] = line
                waiting.append((f"{name}.", value))
    if found:
        raise UserError(one_line_each(found))


def drop_null_variants(config: dict[str, Any]) -> None:
    """Take out of ``config`` the variants that are null: so a file laid over another leaves out some of its variants."""
    if isinstance(config.get("variants"), dict):
        config["variants"] = {name: spec for name, spec in config["variants"].items() if spec is not None}


def system_path(name: str, folder: str) -> str:
    """Where a system named in the configuration lies: ``water`` in ``folder``, a file or a path at its own place."""
    file, named = Path(split_frame(name)[0]), Path(folder) / f"{name}.extxyz"
    is_path = "/" in name or file.suffix or (file.is_file() and not named.is_file())
    return name if is_path else f"{folder}/{name}.extxyz"


def system_name(name: str) -> str:
    """The name under which the results of a system are filed: that of its file."""
    return Path(split_frame(name)[0]).stem
