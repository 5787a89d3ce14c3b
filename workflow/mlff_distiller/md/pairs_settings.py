"""Settings of the comparison of a liquid with the teacher's."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlff_distiller.md.langevin_settings import EquilibrationSteps, Friction, LangevinSettings, SampleEvery
from mlff_distiller.utils.settings import Settings, unit


class PairsGates(Settings):
    """How far the student's liquid may be from the teacher's, at most; beyond twice the standard error, where there is one."""

    pair_difference: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="share of a pair distribution that both do not have in common, of the pair with the largest"
    )
    diffusion_error: Annotated[float, Field(ge=0)] = Field(
        0.3, description="error of the coefficient of self-diffusion, as a share of the teacher's"
    )
    pressure_error_gpa: Annotated[float, Field(ge=0), unit("GPa")] = Field(
        0.1, description="error of the mean pressure; with the compressibility of water 0.1 GPa are 4 % of the density"
    )


class PairsSettings(LangevinSettings):
    """Lengths and gates of the comparison, the same for student and teacher."""

    place: ClassVar[str] = "md.pairs.settings"

    friction_per_fs: Friction = 0.001
    equilibration_steps: EquilibrationSteps = 4000
    sample_every: SampleEvery = 20
    gates: PairsGates = PairsGates()
