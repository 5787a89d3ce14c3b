"""What the preflight requires."""

from typing import Annotated, Literal

from pydantic import Field

from mlff_distiller.utils.settings import Settings, unit

Device = Literal["auto", "cpu", "cuda"]


class TorchSettings(Settings):
    """The PyTorch that the results are meant for."""

    version: str = Field("2.5.1", description="version of PyTorch")
    allow_other: bool = Field(False, description="run with the version found; the report says so on its first page")


class MachineSettings(Settings):
    """What the command ``preflight`` is given."""

    device: Device = Field("auto", description="`auto` takes a CUDA device when there is one")
    torch: TorchSettings = TorchSettings()
    min_memory_gib: Annotated[float, Field(ge=0), unit("GiB")] = Field(3.0, description="memory, at least")
    min_disk_gib: Annotated[float, Field(ge=0), unit("GiB")] = Field(2.0, description="free disk for results, at least")
