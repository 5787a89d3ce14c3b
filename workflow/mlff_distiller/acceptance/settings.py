"""Settings of the acceptance suite: which molecules are compared, and how finely curves are sampled."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.data.teacher_settings import TeacherSettings
from mlff_distiller.utils.settings import Items, Seed, Settings, UniqueItems, unit

Number = Annotated[int, Field(ge=0)]
Length = Annotated[float, Field(gt=0), unit("A")]
Energy = Annotated[float, Field(gt=0), unit("kcal/mol")]


class SmallUnseen(Settings):
    """Molecules that are optimised, vibrated, turned and pulled apart."""

    most: Number = Field(9, description="of the test split of the molecule list, small ones first, every class in turn")
    max_atoms: Annotated[int, Field(ge=2)] = Field(9, description="largest of them")
    benchmark: UniqueItems[Literal["water", "methane", "benzene", "caffeine"]] = Field(
        ("water", "methane"),
        description="beside them: benchmark molecules; `student.sampling.coverage` may train on some",
    )
    files: UniqueItems[str] | None = Field(
        None,
        description="molecules of your own that ASE reads, by their own geometries; null: those of "
        "`student.sampling.structures.files` that are not periodic; `[]`: none",
    )
    most_atoms: Annotated[int, Field(ge=2)] = Field(
        80, description="largest of these; a larger one is named as not compared"
    )
    force_limit: Annotated[float, Field(gt=0), unit("eV/A")] = Field(
        0.002, description="an optimisation ends when no atom feels more than this"
    )
    max_steps: Annotated[int, Field(ge=1)] = Field(300, description="of an optimisation")


class Displacements(Settings):
    """Harmonic frequencies by central differences of the forces."""

    displacement: Length = Field(0.01, description="by which each coordinate is displaced for the comparison")
    others: Annotated[Items[Annotated[float, Field(gt=0)]], unit("A")] = Field(
        (0.002, 0.05), description="further displacements, to see whether the frequencies depend on it"
    )


class TorsionScans(Settings):
    """Rigid scans about single bonds of the same molecules, from the teacher's minimum."""

    per_molecule: Number = Field(2, description="most of one molecule; 0: none")
    points: Annotated[int, Field(ge=4)] = Field(24, description="angles of a turn")
    highest: Energy = Field(
        30.0,
        description="an angle counts where the teacher's energy is below this: elsewhere atoms run into each other",
    )


class ConformerRanking(Settings):
    """Conformers of flexible molecules, at the geometries that the teacher finds."""

    molecules: Number = Field(3, description="of the test split, small ones first; 0: none")
    max_atoms: Annotated[int, Field(ge=4)] = Field(14, description="largest of them")
    tried: Annotated[int, Field(ge=2)] = Field(8, description="conformers that are embedded; equal ones count once")


class DimerCurves(Settings):
    """Two rigid molecules that are drawn apart."""

    pairs: UniqueItems[
        Literal[
            "water_hydrogen_bond",
            "water_oxygens_facing",
            "methanol_hydrogen_bond",
            "ammonia_hydrogen_bond",
            "methane_face_to_face",
            "methane_corner_to_face",
            "water_on_benzene",
            "benzene_parallel",
            "benzene_t_shaped",
        ]
    ] = Field(
        (
            "water_hydrogen_bond",
            "water_oxygens_facing",
            "methanol_hydrogen_bond",
            "ammonia_hydrogen_bond",
            "methane_face_to_face",
            "benzene_parallel",
            "benzene_t_shaped",
        ),
        description="which molecules, and how they face each other",
    )
    nearest: Length = Field(2.0, description="shortest distance")
    farthest: Length = Field(8.0, description="longest distance")
    step: Length = Field(0.2, description="between points of the curve")
    highest: Energy = Field(5.0, description="the error counts where the teacher's energy is below this")


class SmoothCurves(Settings):
    """Curves along which an energy must rise from its one minimum: bonds pulled and pressed, atoms pushed together."""

    bonds_per_molecule: Number = Field(
        1, description="single bonds of each molecule, a different pair of elements each"
    )
    elements: UniqueItems[Literal["H", "C", "N", "O", "F", "P", "S", "Cl", "Br"]] = Field(
        ("H", "C", "N", "O"), description="each two of them are pushed together, in their hydrides"
    )
    step: Length = Field(0.05, description="between points of the curve")
    hole_depth: Energy = Field(1.0, description="an energy that falls by so much where it must rise is a hole")


class Crystals(Settings):
    """Crystals: energy along the volume, elastic constants, phonons."""

    files: UniqueItems[str] | None = Field(
        None,
        description="structures that ASE reads; null: those of `student.sampling.structures.files`, with labels of your own "
        "`molecules.systems`, of which those that are not periodic are passed over; `[]`: none",
    )
    most_atoms: Annotated[int, Field(ge=1)] = Field(16, description="of a cell; larger ones are left out")
    volumes: Annotated[int, Field(ge=7)] = Field(11, description="points of the curve, around the teacher's minimum")
    volume_range: Annotated[float, Field(gt=0, lt=0.4)] = Field(
        0.06, description="largest change of the volume to both sides, as a share of it"
    )
    strain: Annotated[float, Field(gt=0, lt=0.1)] = Field(0.005, description="of elastic constants, to both sides")
    supercell_width: Length = Field(10.0, description="least width of the repeated cell for phonons, between its faces")
    displacement: Length = Field(0.01, description="of each atom for phonons")
    force_limit: Annotated[float, Field(gt=0), unit("eV/A")] = Field(
        0.002, description="atoms are relaxed when none feels more than this"
    )
    max_steps: Annotated[int, Field(ge=1)] = Field(200, description="of a relaxation")


class AcceptanceSettings(Settings):
    """The student against its teacher by a chemist's measures, on small molecules (most were not trained on) and crystals."""

    place: ClassVar[str] = "acceptance"

    seed: Seed = Field(2025, description="of the first geometries")
    molecules: SmallUnseen = SmallUnseen()
    vibrations: Displacements = Displacements()
    torsions: TorsionScans = TorsionScans()
    conformers: ConformerRanking = ConformerRanking()
    dimers: DimerCurves = DimerCurves()
    smoothness: SmoothCurves = SmoothCurves()
    crystals: Crystals = Crystals()


class AcceptanceInput(Settings):
    """What the command ``acceptance-teacher`` is given."""

    acceptance: AcceptanceSettings = AcceptanceSettings()
    teacher: TeacherSettings = TeacherSettings()
    sampling: SamplingSettings | None = Field(
        None, description="by which the student's data were split; null where that is not known"
    )
