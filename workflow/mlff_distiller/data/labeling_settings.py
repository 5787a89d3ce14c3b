"""Which labels are left out."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlff_distiller.data.teacher_settings import TeacherSettings
from mlff_distiller.utils.settings import Settings, unit


class LabelLimits(Settings):
    """Labels outside these are dropped; null is no limit.

    A thermal geometry at 1000 K has forces up to some 15 eV/A and 0.2 eV per atom above the minimum; beyond the limits
    atoms overlap or have dissociated, where xTB is no guide.
    """

    place: ClassVar[str] = "student.limits"

    max_force_ev_per_a: Annotated[Annotated[float, Field(gt=0)] | None, unit("eV/A")] = Field(
        20.0, description="largest force on an atom; null: no limit"
    )
    max_energy_ev_per_atom: Annotated[Annotated[float, Field(gt=0)] | None, unit("eV/atom")] = Field(
        1.5, description="above the lowest label of the same molecule; null: no limit"
    )


class LabelInput(Settings):
    """What the command ``label`` is given."""

    teacher: TeacherSettings = TeacherSettings()
    limits: LabelLimits = LabelLimits()
