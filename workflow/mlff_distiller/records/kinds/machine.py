"""What the first stages found: the machine, the inputs, torch-cluster."""

from pydantic import with_config
from typing_extensions import TypedDict

from mlff_distiller.records.kinds.common import CONFIG, Common, Seconds


@with_config(CONFIG)
class Check(TypedDict):
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    value: str
    """What was found."""
    ok: bool
    """False where the workflow cannot run so."""
    advice: str
    """What to do; empty where there is nothing to do."""


class Preflight(Common, total=False):
    """What the workflow runs on. `device` is the one that the run uses."""

    checks: list[Check]
    """One for each thing that was looked at."""


class Inputs(Preflight, total=False):
    """The molecules, the checkpoint and the settings. The file is written only where all of them are right."""

    molecules: dict[str, str]
    """Hash of each molecule's elements, geometry and cell, by its name."""


class TorchCluster(Common, total=False):
    """Where torch-cluster came from. All but `mode` are null where it is unavailable."""

    mode: str
    """What the configuration allows: `auto`, `prebuilt`, `build` or `off`."""
    route: str | None
    """`already installed`, `cache`, `prebuilt` or `built from source`."""
    origin: str | None
    """How the copy in use was made: `installed`, `prebuilt` or `built`."""
    key: str | None
    """The torch, CUDA, Python and processor that it fits."""
    version: str | None
    """Of torch-cluster."""
    has_cuda: bool | None
    """Whether it was compiled for GPUs."""
    build_s: Seconds | None
    """What building it took; null where it was not built in this run."""
