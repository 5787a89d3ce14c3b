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
    max_atomic_number: Size = Field(100, description="largest element of the embedding")
