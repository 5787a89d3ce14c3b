"""Where torch-cluster comes from."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from mlff_distiller.utils.settings import Settings


def _off(value: Any) -> Any:
    # YAML reads a bare off as false.
    return "off" if value is False else value


class TorchClusterSettings(Settings):
    """By which routes torch-cluster may be obtained."""

    place: ClassVar[str] = "torch_cluster"

    mode: Annotated[Literal["auto", "prebuilt", "build", "off"], BeforeValidator(_off)] = Field(
        "auto", description="`auto`: a prebuilt wheel, else a build from source, kept in the user's cache"
    )
    find_links: str | None = Field(
        None,
        description="wheels: an index address (`{torch}` and `{cuda}` are filled in) or a local folder; null: none",
    )
    build_jobs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="compiler processes of a build; null: as many as cores and memory allow"
    )
