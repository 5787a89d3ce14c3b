"""What becomes of a variant apart from its times and its dynamics: built, proven, handed over."""

from typing import Any

from mlff_distiller.records.kinds.common import Count, MevPerA, MevPerAtom, Ms, OfVariant, Seconds


class Compile(OfVariant, total=False):
    """A variant that was built. What only a build can tell is missing where there was none."""

    family: str
    """How the student is run; see the configuration."""
    options: dict[str, Any]
    """The family and its options, as configured."""
    compile_s: Seconds | None
    """Building, loading and the first calls together; 0 for a family that keeps no artifact."""
    artifact: str | None
    """File or folder beside this record; null for a family that keeps none."""
    artifact_sha256: str | None
    """Its hash; null without one."""
    torch: str
    """Version of torch that it was built by, and that alone loads it."""
    target: dict[str, str]
    """What it was built for: torch, Python, device, architecture, and a fingerprint of the instruction sets."""
    gives_stress: bool
    """Whether it computes stresses; missing in records from before it was asked."""
    first_calls_ms: dict[str, list[Ms]]
    """Times of the first calls, by molecule, one by one."""
    n_graphs: Count
    """Graphs that `torch.compile` compiled; this and the next two are missing where it compiled none."""
    n_graph_breaks: Count
    """Places where Python had to take over from `torch.compile`."""
    n_recompiles: Count
    """Further graphs for code that had been compiled before."""


class Equivalence(OfVariant, total=False):
    """A variant against the student in fp64, on rattled geometries of a molecule or of another case."""

    case: str
    """`molecule` for one of the run; else the same as `system`: a batch, stretched bonds, boxes, ... `unavailable` there: the
    variant refuses such input itself. Missing in records from before there were other cases."""
    equivalent: bool | None
    """Whether the errors stay within the tolerance; null for another network than the student."""
    force_rmse_mev_per_a: MevPerA | None
    """RMSE of the force components; missing where nothing was computed, null where a force is not finite."""
    force_max_mev_per_a: MevPerA | None
    """Largest error of a force component; missing and null as the RMSE."""
    energy_error_mev_per_atom: MevPerAtom | None
    """RMSE of the energy; missing and null as that of the forces."""
    eager_force_rmse_mev_per_a: MevPerA | None
    """RMSE of the plain student in fp32, which the tolerance starts from; missing where nothing was computed."""
    eager_energy_error_mev_per_atom: MevPerAtom | None
    """RMSE of its energy; missing as that of the forces."""
    precision: str
    """`float32`, `tf32` or `16bit`, which sets the tolerance; missing where nothing was computed and in older records."""
    tolerance_mev_per_a: MevPerA
    """Tolerance of the precision that the variant is held to; missing where nothing was computed."""
    force_limit_mev_per_a: MevPerA
    """What the RMSE of the force may be: a multiple of eager's and a tenth of the tolerance; missing as the tolerance."""
    energy_limit_mev_per_atom: MevPerAtom
    """What the RMSE of the energy may be; missing as the tolerance."""
    virial_error_mev_per_atom: MevPerAtom | None
    """RMSE of the components of stress times volume, per atom; missing where there is no stress: of molecules, of variants that
    give none, and in records from before it was compared; null as that of the forces."""
    eager_virial_error_mev_per_atom: MevPerAtom | None
    """The same of the plain student in fp32; missing likewise."""
    virial_limit_mev_per_atom: MevPerAtom
    """What it may be; missing likewise."""


class Deploy(OfVariant, total=False):
    """The winner of one kind of work (`task`) as a bundle. Without a winner there are only the common fields."""

    family: str
    """As in the compile record; so are the next three."""
    options: dict[str, Any]
    """The family and its options."""
    artifact: str | None
    """File or folder in the bundle; null for a family that keeps none."""
    target: dict[str, str]
    """What it was built for."""
    gives_stress: bool
    """Whether it computes stresses; missing in older records."""
    threads: int | None
    """Threads of PyTorch in the timings; null where none were set."""
    evidence: dict[str, Any]
    """Speed, equivalence and MD of the variant in the run that chose it."""
    bundle_version: Count
    """Form of the bundle."""
    files: dict[str, str]
    """Hash of every file of the bundle that is loaded."""
    engines: dict[str, dict[str, str]]
    """Engines for which there is an example: its `status` (`unavailable` where the engine is not installed) and `reason`."""
