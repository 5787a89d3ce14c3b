"""How a user's own labels are read and split."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mlff_distiller.utils.settings import Seed, Settings

Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]


class OwnDataFractions(Settings):
    """Shares of the molecules (frames, values of a key) that are held out."""

    val: Share = Field(0.05, description="for validation during the training")
    test: Share = Field(0.05, description="for the test of what was learned")


class OwnDataSettings(Settings):
    """How own data are read. A frame's own ``split`` in its info line comes before all of them."""

    place: ClassVar[str] = "student.own_data"

    energy_key: Name = Field("energy", description="of the energy in a frame's info line")
    forces_key: Name = Field("forces", description="of the forces' column")
    stress_key: Name = Field(
        "stress",
        description="of the stress of cells that are periodic along all three vectors: eV/A^3, ASE's sign, six numbers (xx, yy, "
        "zz, yz, xz, xy) or nine; frames may lack it",
    )
    virials_key: Name = Field(
        "virials",
        description="the same as virials, in eV: minus the volume times the stress; `virial` is found, too",
    )
    split_by: Name = Field(
        "molecule", description="what stays together: `molecule`, `frame`, or any key of the info line"
    )
    fractions: OwnDataFractions = OwnDataFractions()
    seed: Seed = Field(0, description="of the split")
    check_units: bool = Field(True, description="refuse labels that look like other units than eV and eV/A")
    allow: list[Literal["charge", "spin"]] = Field(
        [], description="frames that say they have a `charge` or a `spin` are taken, too: the student ignores it"
    )

    @model_validator(mode="after")
    def _check(self) -> "OwnDataSettings":
        if self.fractions.val + self.fractions.test > 1:
            raise ValueError("fractions: val and test are more than 1 together")
        return self
