"""Which configurations are sampled for the teacher to label, and how many."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_serializer, model_serializer, model_validator

from mlff_distiller.data.coverage_settings import Coverage
from mlff_distiller.data.structure_settings import Structures
from mlff_distiller.data.teacher_settings import TeacherSettings
from mlff_distiller.utils.settings import Items, Seed, Settings, UniqueItems, unit

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]


class SplitFractions(Settings):
    """Shares of the molecules that are held out; the rest is trained on."""

    val: Share = Field(0.1, description="for validation during the training")
    test: Share = Field(0.1, description="for the test of what was learned")


class LargerMolecules(Settings):
    """A split of molecules that are larger than any trained one."""

    molecules: Count = Field(6, description="how many; 0: no such split")
    configurations: Count = Field(30, description="of all of them together")
    max_atoms: Count = Field(30, description="largest of them; more than `max_atoms` of the others")


class SmallMolecules(Settings):
    """Small molecules, whose bonds are like no others, and of which there are few."""

    max_atoms: Count = Field(9, description="up to this size")
    configurations: Count = Field(0, description="at least so many of every training molecule")


class FurtherDraws(Settings):
    """Draws of other molecules and other geometries, by one seed after the other, that are trained on alone."""

    draws: Count = Field(0, description="how many")
    molecules: Count = Field(6000, description="of each draw: those of the list, and others that are grown")
    configurations: Annotated[int, Field(ge=1)] = Field(48000, description="of each draw, before `small`")
    relax_steps: Count = Field(
        6, description="of each conformer, by the teacher: the larger part of what sampling costs"
    )


class Shares(Settings):
    """How much of a molecule's configurations each way of sampling makes; only their ratios count."""

    conformer: Weight = Field(0.05, description="relaxed conformers and frames of the relaxation")
    normal_modes: Weight = Field(0.39, description="harmonic samples on the modes of a classical force field")
    random: Weight = Field(0.05, description="Gaussian displacements")
    stretch: Weight = Field(0.09, description="bonds pulled or pressed")
    torsion: Weight = Field(0.10, description="torsions turned")
    md: Weight = Field(0.10, description="Langevin dynamics of the teacher")
    cluster: Weight = Field(0.13, description="two to four molecules at van der Waals distance")
    contact: Weight = Field(0.09, description="two molecules pressed into each other")


class SamplingSettings(Settings):
    """Sizes of the dataset; the defaults take a minute on two cores."""

    place: ClassVar[str] = "student.sampling"

    seed: Seed = Field(2025, description="of all that is drawn")
    split_seed: Seed | None = Field(
        None, description="of the split by molecule, which another `seed` then leaves as it is; null: `seed`"
    )
    molecules: Count = Field(
        150,
        description="those of the list first, evenly over its classes; grown by rule beyond those; 0: no molecules at all, "
        "whatever `larger` and `benchmark_configurations` say",
    )
    max_atoms: Annotated[int, Field(ge=3)] = Field(16, description="largest molecule of train, val and test")
    grown_max_atoms: Count = Field(30, description="largest of those that are grown, if less than `max_atoms`")
    configurations: Annotated[int, Field(ge=1)] = Field(900, description="of all `splits` together, before `small`")
    fractions: SplitFractions = SplitFractions()
    splits: UniqueItems[Literal["train", "val", "test"]] = Field(
        ("train", "val", "test"),
        min_length=1,
        description="only these are made; `[test]` measures a student that is there already, `[val, test]` leaves what is "
        "trained on to `further`",
    )
    larger: LargerMolecules = LargerMolecules()
    benchmark_configurations: Count = Field(6, description="of each benchmark molecule")
    small: SmallMolecules = SmallMolecules()
    shares: Shares = Shares()
    further: FurtherDraws = Field(
        FurtherDraws(),
        description="molecules and geometries to train on beyond those, drawn anew; the split is the same",
    )
    mode_temperatures: Annotated[Items[Temperature], unit("K")] = Field(
        (150, 300, 600, 1000, 1500), min_length=1, description="of `normal_modes`, one drawn for each"
    )
    md_temperatures: Annotated[Items[Temperature], unit("K")] = Field(
        (300, 600, 1000), min_length=1, description="of `md`, one drawn for each trajectory"
    )
    md_stride: Annotated[int, Field(ge=1), unit("fs")] = Field(15, description="between kept frames, in steps of 1 fs")
    md_molecules: Share = Field(0.3, description="share of the molecules that get a trajectory")
    relax_steps: Count = Field(10, description="of each conformer, by the teacher")
    conformers: Annotated[int, Field(ge=1)] = Field(3, description="at most; one for every eight configurations")
    cluster_partner_atoms: Count = Field(12, description="largest molecule that others are put beside")
    cluster_atoms: Count = Field(40, description="largest cluster")
    coverage: Coverage = Coverage()
    structures: Structures = Field(Structures(), description="configurations of structures of your own")

    @property
    def splits_by(self) -> int:
        """The seed of the split by molecule."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def trains(self) -> bool:
        """Whether anything that is sampled is to be trained on."""
        return "train" in self.splits or self.further.draws > 0

    def of_draw(self, number: int) -> "SamplingSettings":
        """What the draw ``number`` (from 1) of ``further`` samples, as settings of its own."""
        further = self.further
        return self.model_copy(
            update={
                "seed": self.seed + number,
                "split_seed": self.splits_by,
                "splits": ("train",),
                "molecules": further.molecules,
                "configurations": further.configurations,
                "relax_steps": further.relax_steps,
                "larger": self.larger.model_copy(update={"molecules": 0}),
                "benchmark_configurations": 0,
                "coverage": Coverage(),
                "structures": Structures(),
                "further": FurtherDraws(),
            }
        )

    @model_validator(mode="after")
    def _check(self) -> "SamplingSettings":
        if not any(self.shares.to_mapping().values()):
            raise ValueError("shares: at least one must be positive")
        if self.fractions.val + self.fractions.test >= 1:
            raise ValueError("fractions: val and test leave nothing to train on")
        if self.larger.molecules and self.larger.max_atoms <= self.max_atoms:
            raise ValueError(f"larger.max_atoms: {self.larger.max_atoms} is not more than max_atoms, {self.max_atoms}")
        if not (self.molecules or self.coverage.wanted or self.structures.files or self.further.draws):
            raise ValueError("nothing to sample: molecules is 0, and structures.files names no file")
        return self

    @field_serializer("mode_temperatures", "md_temperatures")
    def _whole(self, temperatures: tuple[float, ...]) -> list[int | float]:
        # Whole numbers without a point, as in the cards by which a sample is recognized.
        return [int(value) if value == int(value) else value for value in temperatures]

    @model_serializer(mode="wrap")
    def _without_what_is_not_wanted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Samples from before there was any are recognized by their settings, too.
        found: dict[str, Any] = handler(self)
        if not self.coverage.wanted:
            del found["coverage"]
        if not self.structures.files:
            del found["structures"]
        if self.split_seed is None:
            del found["split_seed"]
        if not self.further.draws:
            del found["further"]
        return found


class SampleInput(Settings):
    """What the command ``sample`` is given."""

    sampling: SamplingSettings = SamplingSettings()
    teacher: TeacherSettings = TeacherSettings()
