"""Which configurations are sampled of structures of the user's own."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Items, Settings, UniqueItems, unit

Count = Annotated[int, Field(ge=0)]
Length = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Repeats = Annotated[int, Field(ge=1)]


class StructureDynamics(Settings):
    """Langevin dynamics of the teacher (NVT)."""

    trajectories: Count = Field(4, description="of each structure; each lies in one split as a whole; 0: none")
    frames: Annotated[int, Field(ge=1)] = Field(20, description="kept of each trajectory")
    stride: Annotated[int, Field(ge=1)] = Field(10, description="steps between kept frames")
    skip: Count = Field(20, description="steps before the first kept frame's `stride`")
    timestep: Annotated[Positive, unit("fs")] = Field(2.0, description="1 where there is hydrogen")
    temperatures: Annotated[Items[Positive], unit("K")] = Field(
        (300, 600), min_length=1, description="of the trajectories, in turn"
    )


class Structures(Settings):
    """Crystals, surfaces, liquids, molecules from files of the user's own, displaced, strained, and moved by the teacher."""

    files: UniqueItems[str] = Field(
        (), description="any that ASE reads (POSCAR, cif, extxyz); `file@index` for one of several frames; `[]`: none"
    )
    supercell: Annotated[Items[Repeats], Field(min_length=3, max_length=3)] | None = Field(
        None, description="repeats along the three cell vectors; null: until each width is `least_width`"
    )
    least_width: Annotated[Positive, unit("A")] = Field(
        8.0, description="of a cell, between the faces that periodic images share"
    )
    conformers: Annotated[int, Field(ge=1)] = Field(
        1,
        description="geometries of a molecule, displaced and moved in turn: its own, and others found from the bonds that its "
        "distances show; what is periodic has its own alone",
    )
    rattled: Count = Field(
        40, description="displaced configurations of each structure, the first one as it stands in the file"
    )
    rattle: Annotated[Items[Length], unit("A")] = Field(
        (0.03, 0.08, 0.15), min_length=1, description="standard deviations of the displacements, one drawn for each"
    )
    strain: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.03, description="largest component of a random strain in periodic directions, of all but the structure itself"
    )
    vacancies: Count = Field(0, description="configurations of each structure with one atom taken out, displaced, too")
    dynamics: StructureDynamics = StructureDynamics()
    split_by: Literal["trajectory", "structure"] = Field(
        "trajectory",
        description="what `fractions` counts: trajectories and displaced configurations of every structure, or whole "
        "structures (three files or more)",
    )

    @model_validator(mode="after")
    def _check(self) -> "Structures":
        if self.files and not (self.rattled or self.vacancies or self.dynamics.trajectories):
            raise ValueError("nothing of the files: raise rattled, vacancies or dynamics.trajectories")
        if self.files and self.split_by == "structure" and len(self.files) < 3:
            raise ValueError("split_by: structure needs three files or more; with fewer, split by trajectory")
        return self
