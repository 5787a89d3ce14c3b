"""What the teacher is told of the dynamics that a check compares with."""

from pydantic import Field

from mlff_distiller.data.teacher_settings import TeacherSettings
from mlff_distiller.md.pairs_settings import PairsSettings
from mlff_distiller.md.spectra_settings import SpectraSettings
from mlff_distiller.utils.settings import Settings


class TeacherDynamicsInput(Settings):
    """What the command ``md-teacher`` is given."""

    teacher: TeacherSettings = TeacherSettings()
    spectra: SpectraSettings = SpectraSettings()
    pairs: PairsSettings | None = Field(None, description="of a liquid, instead of ``spectra``")
