"""Which ASE calculator is the teacher."""

from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from mlff_distiller.utils.settings import Settings

#: GFN2-xTB by tblite, unless the arguments say otherwise.
DEFAULT_CALCULATOR = "tblite.ase:TBLite"


class TeacherSettings(Settings):
    """What the student learns from."""

    place: ClassVar[str] = "teacher"

    calculator: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")] | None = Field(
        DEFAULT_CALCULATOR,
        examples=[DEFAULT_CALCULATOR],
        description="`module:factory` of any ASE calculator, the factory a function in a file beside the Snakefile if you "
        "like; null with labels of your own whose maker cannot be asked again",
    )
    arguments: dict[str, JsonValue] = Field({}, description="keyword arguments of the factory")
    check_forces: bool = Field(
        True,
        description="refuse a teacher whose forces are not the gradient of its energy, which finite differences show before "
        "any label; false: take it all the same",
    )
    stress: bool = Field(
        True,
        description="the labels of cells that are periodic along all three vectors have the teacher's stress, where it gives "
        "one, and finite strains must agree with it before any label (unless `check_forces` is false); false: without",
    )
    environment: str | None = Field(
        None,
        examples=["envs/sevennet.yaml"],
        description="with `--use-conda`: the environment of the jobs that ask the teacher; null: `envs/teacher.yaml`",
    )
    python: str | None = Field(
        None,
        examples=[".venv-chgnet/bin/python"],
        description="without `--use-conda`: the Python that runs these jobs, of a virtual environment with packages (another "
        "torch, say) that may differ from the student's; null: the student's",
    )


class TeacherInput(Settings):
    """What commands that ask the teacher are given."""

    teacher: TeacherSettings = TeacherSettings()
