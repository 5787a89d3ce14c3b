"""What all kinds have in common, and the units."""

from typing import Annotated

from pydantic import ConfigDict, Field, with_config

# Pydantic refuses that of typing before Python 3.12.
from typing_extensions import TypedDict

from mlff_distiller.utils.settings import unit

Ms = Annotated[float, unit("ms")]
Seconds = Annotated[float, unit("s")]
Femtoseconds = Annotated[float, unit("fs")]
PerSecond = Annotated[float, unit("1/s")]
Angstrom = Annotated[float, unit("A")]
CubicAngstrom = Annotated[float, unit("A^3")]
Thz = Annotated[float, unit("THz")]
Gpa = Annotated[float, unit("GPa")]
Diffusion = Annotated[float, unit("1e-9 m^2/s")]
Degrees = Annotated[float, unit("degrees")]
Kelvin = Annotated[float, unit("K")]
EvPerA = Annotated[float, unit("eV/A")]
MevPerA = Annotated[float, unit("meV/A")]
MevPerAtom = Annotated[float, unit("meV/atom")]
MevPerAtomPs = Annotated[float, unit("meV/atom/ps")]
Momentum = Annotated[float, unit("sqrt(amu eV)")]
Joules = Annotated[float, unit("J")]
Mib = Annotated[float, unit("MiB")]
Gflop = Annotated[float, unit("GFLOP")]
GflopPerSecond = Annotated[float, unit("GFLOP/s")]
Megabytes = Annotated[float, unit("MB")]
GigabytesPerSecond = Annotated[float, unit("GB/s")]
Microseconds = Annotated[float, unit("us")]
PerCm = Annotated[float, unit("1/cm")]
KcalPerMol = Annotated[float, unit("kcal/mol")]
Percent = Annotated[float, unit("%")]
Cores = Annotated[float, unit("cores")]
Count = Annotated[int, Field(ge=0)]
#: Of one call.
Time = Annotated[Ms, Field(gt=0)]
#: Low and high end of a 95 % confidence interval; null for an end without limit.
Interval = list[float | None]
IntervalMs = list[Ms | None]

#: Numbers as JSON has them: an integer is a float too, text is neither. Fields of other versions are let through.
CONFIG = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)


@with_config(CONFIG)
class Common(TypedDict, total=False):
    """Every record has these; one that does not apply is null."""

    kind: str
    """What was done."""
    variant: str | None
    """The variant by its name in the configuration; `teacher`, `student` or `fp64` where it is one of these instead."""
    task: str | None
    """What of the kind, where there are several."""
    system: str | None
    """Name of the molecule or box; null where the record is of no system or of several."""
    n_atoms: Count | None
    """Atoms of the whole batch; null without a system."""
    n_edges: Count | None
    """Ordered pairs of atoms within the cutoff, of the whole batch; null where they were not counted."""
    batch: Count | None
    """Systems computed at once; null where nothing is computed."""
    device: str | None
    """`cpu` or `cuda`; null where it makes no difference."""
    dtype: str | None
    """Number format of the products; null where nothing is computed."""
    status: str
    """`ok`, `failed` (it should have worked), or `unavailable` (it cannot work here)."""
    reason: str
    """Why the status is not `ok`, in words; else empty, or a remark."""
    nodes: list[str]
    """What the batch system calls the nodes that it was measured on; put in when records are merged, missing without one."""


class OfVariant(Common, total=False):
    """Every record of a variant has these, too."""

    checkpoint_sha256: str | None
    """Hash of the student's checkpoint."""
    another_network: bool
    """True for a network other than the student, which has times and nothing to be equal to; else missing."""
