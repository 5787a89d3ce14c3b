"""What every Langevin run is told."""

from typing import Annotated

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Seed, Settings, unit

#: Fewest samples for a distribution and its error.
FEWEST_SAMPLES = 20

Friction = Annotated[float, Field(gt=0, description="of the thermostat"), unit("1/fs")]
EquilibrationSteps = Annotated[int, Field(ge=0, description="before the trajectory")]
SampleEvery = Annotated[int, Field(ge=1, description="steps between two samples")]


class LangevinSettings(Settings):
    """Time step, thermostat and lengths."""

    timestep_fs: Annotated[float, Field(gt=0), unit("fs")] = Field(0.5, description="time step")
    friction_per_fs: Friction
    temperature_k: Annotated[float, Field(gt=0), unit("K")] = Field(300.0, description="of the thermostat")
    equilibration_steps: EquilibrationSteps
    steps: Annotated[int, Field(ge=1)] = Field(20000, description="of the trajectory")
    sample_every: SampleEvery
    seed: Seed = Field(0, description="of velocities and noise")

    @model_validator(mode="after")
    def _check_length(self) -> "LangevinSettings":
        if (samples := self.steps // self.sample_every) < FEWEST_SAMPLES:
            raise ValueError(
                f"{self.steps} steps, sampled every {self.sample_every}, give {samples} samples; "
                f"{FEWEST_SAMPLES} are needed"
            )
        return self
