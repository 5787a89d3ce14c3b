"""Settings of the scaling stage, in a module of their own, so that checking them does not import it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlff_distiller.utils.settings import Items, Seed, Settings, UniqueItems, unit

Size = Annotated[int, Field(ge=1)]


class ScalingSettings(Settings):
    """Tasks and sizes beyond one molecule at a time."""

    place: ClassVar[str] = "benchmark.scaling.settings"

    tasks: UniqueItems[Literal["throughput", "periodic", "calculator", "md_steps", "profile"]] = Field(
        ("throughput", "periodic", "calculator", "md_steps", "profile"), description="what is measured, in this order"
    )
    batches: Items[Size] = Field((1, 4, 16, 64, 256, 1024), description="systems in one call")
    mixed: bool = Field(True, description="batches of all molecules in turn, besides those of one")
    density_g_cm3: Annotated[float, Field(gt=0), unit("g/cm3")] = Field(
        0.876, description="of the liquid; the default is benzene's at 300 K"
    )
    unit_molecules: Size = Field(40, description="molecules in the box that larger boxes repeat")
    box_atoms: Items[Size] = Field((480, 960, 1920, 3840), description="about so many atoms in a box")
    steps_per_sample: Size = Field(50, description="MD steps between two readings of the clock")
    runs: Size = Field(20, description="timed calls of a point, at most")
    max_seconds: Annotated[float, Field(gt=0), unit("s")] = Field(
        3.0, description="spent on timing a point, both sides together; a call longer than this is not made"
    )
    seed: Seed = Field(0, description="of the liquid and the displacements")
