"""Settings of the comparison of bonds, angles and vibrations with the teacher's."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlff_distiller.md.langevin_settings import EquilibrationSteps, Friction, LangevinSettings, SampleEvery
from mlff_distiller.utils.settings import Settings, unit


class SpectraGates(Settings):
    """How far the student's distributions may lie from the teacher's, at most."""

    bond_distance_a: Annotated[float, Field(ge=0), unit("A")] = Field(
        0.01, description="Wasserstein distance of bond lengths, mean over bonds"
    )
    angle_distance_deg: Annotated[float, Field(ge=0), unit("degrees")] = Field(
        2.0, description="Wasserstein distance of bond angles, mean over angles"
    )
    spectrum_difference: Annotated[float, Field(ge=0, le=1)] = Field(
        0.35, description="share of the vibrational spectra that they do not have in common"
    )


class SpectraSettings(LangevinSettings):
    """Lengths and gates of the comparison, the same for student and teacher."""

    place: ClassVar[str] = "md.spectra.settings"

    friction_per_fs: Friction = 0.002
    equilibration_steps: EquilibrationSteps = 4000
    sample_every: SampleEvery = 4
    gates: SpectraGates = SpectraGates()
