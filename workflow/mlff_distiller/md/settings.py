"""Settings of NVE, in a module of their own, so that checking them imports no stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Seed, Settings, unit

#: Fewest samples of the energy for a drift and its error.
FEWEST_SAMPLES = 20
#: Drift up to which energy conservation is good, not only acceptable, meV/atom/ps.
GOOD_DRIFT = 0.01

Limit = Annotated[float, Field(ge=0)]
Steps = Annotated[int, Field(ge=1)]


class NveGates(Settings):
    """What a trajectory may show at most to pass."""

    drift_mev_per_atom_ps: Annotated[Limit, unit("meV/atom/ps")] = Field(0.1, description="drift of the total energy")
    drift_beyond_fp64_mev_per_atom_ps: Annotated[Limit, unit("meV/atom/ps")] = Field(
        0.01,
        description="by how much the drift may differ, beyond its error, from that of the fp64 run from the same state",
    )
    momentum: Annotated[Limit, unit("sqrt(amu eV)")] = Field(1e-3, description="total momentum")
    force_rmse_mev_per_a: Annotated[Limit, unit("meV/A")] = Field(0.1, description="error of the forces against fp64")
    excursion_mev_per_atom: Annotated[Limit, unit("meV/atom")] = Field(
        5.0, description="distance of the total energy from its start"
    )
    bonds_broken: Annotated[int, Field(ge=0)] = Field(
        0, description="bonds longer than 1.5 times their length at the start"
    )


class NveChanges(Settings):
    """Some settings of NVE, each right by itself: what one kind of run has different from ``md.settings``."""

    timestep_fs: Annotated[float, Field(gt=0), unit("fs")] = Field(0.5, description="time step of velocity Verlet")
    steps: Steps = Field(2000, description="of the trajectory")
    equilibration_steps: Annotated[int, Field(ge=0)] = Field(200, description="before it")
    temperature_k: Annotated[float, Field(gt=0), unit("K")] = Field(300.0, description="of the velocities at the start")
    at_minimum: bool = Field(
        True, description="the start is a minimum of the energy; false for one that is equilibrated already"
    )
    sample_every: Steps = Field(10, description="steps between two samples of the energy")
    force_check_every: Steps = Field(100, description="steps between two comparisons of the forces with fp64")
    seed: Seed = Field(0, description="of the velocities")
    loop: Literal["auto", "ase", "device"] = Field(
        "auto",
        description="who takes the steps: ASE, the device, or `auto`: the device where a variant has such a loop",
    )
    gates: NveGates = NveGates()


class NveSettings(NveChanges):
    """Settings of an NVE run: :class:`NveChanges` whose lengths give a drift."""

    place: ClassVar[str] = "md.settings"

    @model_validator(mode="after")
    def _check(self) -> "NveSettings":
        if (samples := -(-self.steps // self.sample_every) + 1) < FEWEST_SAMPLES:
            raise ValueError(
                f"{self.steps} steps, sampled every {self.sample_every}, give {samples} samples; "
                f"a drift needs {FEWEST_SAMPLES}"
            )
        return self
