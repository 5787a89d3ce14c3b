"""When rounds of labels on the student's own frames end before all that were asked for are made."""

from typing import Annotated

from pydantic import Field

from mlff_distiller.utils.settings import Settings, unit

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class RoundLimits(Settings):
    """After which no further round is begun; null: no limit."""

    enough_mev_per_a: Annotated[Positive, unit("meV/A")] | None = Field(
        None,
        description="no further round once, after one, the force MAE is this low on held-out frames of the student's own moves",
    )
    max_labels: Count | None = Field(
        None,
        description="no further round that could bring all labels, those from before the rounds too, above this number; the "
        "first is always made",
    )
    max_minutes: Annotated[Positive, unit("min")] | None = Field(
        None,
        description="no further round that would end later than this after the run's first check, if it took as long as the one "
        "before it; pauses count, and the first is always made",
    )
