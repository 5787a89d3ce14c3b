"""Sizes of the student's network."""

from typing import Annotated, ClassVar

from pydantic import Field

from mlff_distiller.utils.settings import Settings, unit

Size = Annotated[int, Field(ge=1)]


class StudentConfig(Settings):
    """Sizes of the student; the defaults have 427,169 parameters."""

    place: ClassVar[str] = "student.training.student"

    n_features: Size = Field(128, description="scalar and vector features of an atom")
    n_blocks: Size = Field(3, description="message and update blocks")
    #: The width of a Gaussian is the spacing of the centers.
    n_radial: Annotated[int, Field(ge=2)] = Field(20, description="Gaussians of the distance")
    cutoff: Annotated[float, Field(gt=0), unit("A")] = Field(
        5.0, description="distance up to which atoms are neighbors"
    )
    mlp_width: Size = Field(80, description="hidden width in the blocks")
    readout_width: Size = Field(96, description="hidden width of the readout")
    #: SchNetPack's 1e-8 leaves a kink 1e-4 wide, which small symmetric molecules cross often: in NVE of water at 0.5 fs the
    #: energy drifted by 0.1 meV/atom/ps. 1e-4 still bends the energy near symmetric geometries: a vibration of methane came
    #: out at 1113 to 1300 cm-1 depending on the displacement. With 1e-2 it does not depend on it.
    norm_epsilon: Annotated[float, Field(gt=0)] = Field(
        1e-2,
        description="added to the square of a vector feature's length under the root, whose slope at 0 is infinite",
    )
    max_atomic_number: Size = Field(100, description="largest element of the embedding")
