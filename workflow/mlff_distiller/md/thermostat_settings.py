"""Settings of the check that Langevin dynamics gives the canonical kinetic energies."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlff_distiller.md.langevin_settings import EquilibrationSteps, Friction, LangevinSettings, SampleEvery
from mlff_distiller.utils.settings import Settings, unit


class ThermostatGates(Settings):
    """When the kinetic energies are those of the temperature."""

    temperature_error_k: Annotated[float, Field(ge=0), unit("K")] = Field(
        6.0, description="of the mean temperature, beyond twice its standard error, at most"
    )
    kinetic_energy_p: Annotated[float, Field(ge=0, le=1)] = Field(
        0.001, description="p-value of the Kolmogorov-Smirnov test, at least; right forces fall below once in 1/p runs"
    )


class ThermostatSettings(LangevinSettings):
    """Lengths and gates of the check."""

    place: ClassVar[str] = "md.nvt.settings"

    friction_per_fs: Friction = 0.02
    equilibration_steps: EquilibrationSteps = 2000
    sample_every: SampleEvery = 20
    gates: ThermostatGates = ThermostatGates()
