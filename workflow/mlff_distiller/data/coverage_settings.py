"""Molecules, clusters and liquids that are always trained on: how many configurations of each kind."""

from typing import Annotated

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Items, Settings, unit

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(gt=0)]
#: Names of `molecules.always_trained`, joined by "+" for a mixture.
Liquid = Annotated[str, Field(pattern=r"^[^+\s]+(\+[^+\s]+)*$")]
Name = Annotated[str, Field(min_length=1)]


class Coverage(Settings):
    """Kinds of matter that no list of organic molecules covers; the molecules are those of `molecules.always_trained`.

    Where any of the five numbers is not 0, these molecules are trained on whatever the split, and leave `val`; none that is in
    `test` is taken. Where `splits` has no `train`, only the part that is held out is made.
    """

    molecules: Count = Field(0, description="configurations of each of these molecules")
    clusters: Count = Field(0, description="configurations of clusters of them, alike or mixed")
    solvation: Count = Field(0, description="configurations of a training molecule among molecules of a solvent")
    droplets: Count = Field(0, description="configurations of spheres cut out of a liquid, without periodic images")
    boxes: Count = Field(
        0, description="configurations of periodic boxes of a liquid; labels cost some 25 times a droplet's"
    )
    held_out: Share = Field(
        0.03, description="share of each kind that is not trained on and measures it, as the split `coverage`"
    )
    temperatures: Annotated[Items[Temperature], unit("K")] = Field(
        (300, 600, 1000), min_length=1, description="of clusters and solvation shells, one drawn for each"
    )
    dynamics: Share = Field(
        0.3, description="share of clusters and solvation shells that the teacher's dynamics moves on"
    )
    dynamics_atoms: Count = Field(36, description="largest of those")
    cluster_molecules: Annotated[int, Field(ge=2)] = Field(20, description="most molecules of a cluster")
    cluster_atoms: Annotated[int, Field(ge=6)] = Field(60, description="largest cluster or solvation shell")
    solute_atoms: Annotated[int, Field(ge=2)] = Field(16, description="largest molecule that is dissolved")
    solvents: Items[Name] = Field(
        ("water", "water", "ammonia", "methanol"),
        min_length=1,
        description="one drawn for each shell; twice: twice as often",
    )
    solvent_molecules: Annotated[Items[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] = Field(
        (3, 12), description="fewest and most around a molecule"
    )
    liquids: Items[Liquid] = Field(
        ("water", "water", "methanol", "acetonitrile", "benzene", "ammonia", "water+methanol"),
        min_length=1,
        description="of boxes and droplets, in turn; `water+methanol` is a mixture; twice: twice as often",
    )
    densities: Annotated[Items[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)] = Field(
        (0.85, 1.15), description="lowest and highest, as parts of the normal density"
    )
    liquid_temperatures: Annotated[Items[Temperature], unit("K")] = Field(
        (300, 400, 500, 600), min_length=1, description="of boxes and droplets, one drawn for each"
    )
    box_edge: Annotated[float, Field(gt=0), unit("A")] = Field(
        9.8,
        description="shortest edge of a box; a teacher without k-points has other forces in smaller ones",
    )
    droplet_atoms: Annotated[Items[Annotated[int, Field(ge=3)]], Field(min_length=2, max_length=2)] = Field(
        (40, 90), description="size of a droplet, from and to"
    )

    @model_validator(mode="after")
    def _check(self) -> "Coverage":
        for name in ("solvent_molecules", "densities", "droplet_atoms"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low} is more than {high}; the smaller comes first")
        return self

    @property
    def wanted(self) -> bool:
        """Whether any configuration is asked for."""
        return any((self.molecules, self.clusters, self.solvation, self.droplets, self.boxes))
