"""Settings of the runs in engines, in a module of their own, so that checking them imports no stage."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlff_distiller.utils.settings import Seed, Settings, unit

#: As the records, the examples and the pages in docs/ call them.
EngineName = Literal["ipi", "lammps", "metatomic", "openmm", "torchsim"]


class EngineRunSettings(Settings):
    """Lengths of the runs in engines, the same for all of them and for ASE."""

    place: ClassVar[str] = "benchmark.engines.settings"

    timestep_fs: Annotated[float, Field(gt=0), unit("fs")] = Field(0.5, description="of NVE")
    temperature_k: Annotated[float, Field(gt=0), unit("K")] = Field(
        300.0, description="of the velocities at the start, which are the same in all engines"
    )
    amplitude: Annotated[float, Field(ge=0), unit("A")] = Field(
        0.02,
        description="by how much the start is displaced at random, so that forces are compared away from a minimum",
    )
    steps: Annotated[int, Field(ge=20)] = Field(1000, description="of each run, at most")
    max_seconds: Annotated[float, Field(gt=0), unit("s")] = Field(
        5.0, description="that a run may take; slow engines take fewer steps, and with too few there is no drift"
    )
    drift_mev_per_atom_ps: Annotated[float, Field(ge=0), unit("meV/atom/ps")] = Field(
        0.1, description="what the drift may be, or the part of it that ASE's run from the same state does not have"
    )
    seed: Seed = Field(0, description="of displacements and velocities")
