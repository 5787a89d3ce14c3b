"""Where a student is sent to find what it does not know, and how much of that its teacher labels."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Items, Seed, Settings, unit

Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class ExploreSettings(Settings):
    """The student's own dynamics, optimisations and torsion scans, and which of their frames are labeled."""

    place: ClassVar[str] = "student.rounds.explore"

    seed: Seed = Field(0, description="of all that is drawn; each round draws anew")
    molecules: CountOrNone = Field(100, description="drawn to start from, from the dataset, by themselves")
    clusters: CountOrNone = Field(40, description="the same of clusters, solvation shells, droplets and boxes")
    held_out: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of both, and of the labels, from the split `val`: not trained on, they measure the gain"
    )
    temperatures_k: Annotated[Items[Positive], unit("K")] = Field(
        (300, 600, 1000), min_length=1, description="of Langevin dynamics; one trajectory of each start at each"
    )
    timestep_fs: Annotated[Positive, unit("fs")] = Field(0.5, description="time step")
    friction_per_fs: Annotated[Positive, unit("1/fs")] = Field(0.01, description="of the thermostat")
    steps: CountOrNone = Field(4000, description="of a trajectory; 0: no dynamics")
    look_every: Count = Field(10, description="steps between two frames that are looked at")
    relaxations: CountOrNone = Field(2, description="optimisations of each start, each from one bond pulled or pressed")
    torsions: CountOrNone = Field(1, description="rigid scans of each molecule, each about another bond")
    labels: Count = Field(2000, description="frames of a round that the teacher labels, at most")
    per_trajectory: Count = Field(6, description="those of one trajectory or scan, at most, before a divergence aside")
    apart_fs: Annotated[Annotated[float, Field(ge=0)], unit("fs")] = Field(
        50.0, description="time between two of one trajectory, at least"
    )
    before_divergence: CountOrNone = Field(
        3, description="last frames before a trajectory diverged; they are labeled first, up to half of all"
    )
    evenly: Share = Field(0.25, description="share of the labels chosen whatever error the student expects")
    batch_atoms: Count = Field(4096, description="atoms that move side by side")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the student runs")

    @model_validator(mode="after")
    def _check(self) -> "ExploreSettings":
        if self.molecules + self.clusters == 0:
            raise ValueError("molecules and clusters are both 0: there is nothing to start from")
        if self.steps % self.look_every:
            raise ValueError(f"steps {self.steps} is not a multiple of look_every {self.look_every}")
        if not (self.steps or self.relaxations or self.torsions):
            raise ValueError("steps, relaxations and torsions are all 0: the student would go nowhere")
        return self
