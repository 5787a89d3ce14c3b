"""Settings of the check that the energy's fluctuation goes with the time step squared."""

import math
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Seed, Settings, UniqueItems, unit

Duration = Annotated[float, Field(gt=0), unit("fs")]


class TimestepGates(Settings):
    """How far the ratio of two fluctuations may lie from 4, at most."""

    ratio_error: Annotated[float, Field(ge=0)] = Field(0.25, description="of the two finest time steps")
    coarse_ratio_error: Annotated[float, Field(ge=0)] = Field(0.75, description="of the others")


class TimestepSettings(Settings):
    """Lengths and gates of the check."""

    place: ClassVar[str] = "md.timestep.settings"

    timesteps_fs: Annotated[UniqueItems[Annotated[float, Field(gt=0)]], unit("fs")] = Field(
        (1.0, 0.5, 0.25), min_length=2, description="time steps; each divides `window_fs`"
    )
    window_fs: Duration = Field(100.0, description="length of one run")
    windows: Annotated[int, Field(ge=1)] = Field(8, description="common states from which all time steps start")
    equilibration_fs: Annotated[float, Field(ge=0), unit("fs")] = Field(200.0, description="before the first")
    temperature_k: Annotated[float, Field(gt=0), unit("K")] = Field(300.0, description="of the velocities at the start")
    seed: Seed = Field(0, description="of the velocities")
    gates: TimestepGates = TimestepGates()

    @model_validator(mode="after")
    def _check(self) -> "TimestepSettings":
        for timestep in self.timesteps_fs:
            steps = self.window_fs / timestep
            if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-6):
                raise ValueError(f"timesteps_fs: {timestep:g} does not divide window_fs, {self.window_fs:g}")
        return self
