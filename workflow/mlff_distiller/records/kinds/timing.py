"""Times: of one molecule, of batches and large systems, and what they consist of."""

from pydantic import with_config
from typing_extensions import TypedDict

from mlff_distiller.records.kinds.common import (
    CONFIG,
    Cores,
    Count,
    Femtoseconds,
    Gflop,
    GflopPerSecond,
    GigabytesPerSecond,
    Interval,
    IntervalMs,
    Joules,
    Megabytes,
    MevPerA,
    Mib,
    Microseconds,
    Ms,
    OfVariant,
    Percent,
    PerSecond,
    Seconds,
    Time,
)


class Timing(OfVariant, total=False):
    """Times of a variant and, taken in turn with them, of the baseline, in one process. Missing where it failed."""

    replicate: Count
    """Number of this process among those that repeat the measurement."""
    threads: int
    """Threads of PyTorch."""
    runs: Count
    """Timed turns."""
    samples_ms: list[Time]
    """Time of one call, each turn's mean over its calls."""
    baseline_samples_ms: list[Time] | None
    """The same of the baseline; missing where it does not fit or takes too long, null for the teacher."""
    others_cores: Cores | None
    """Cores that other processes of the machine (also of a container's host) kept busy meanwhile, on average; merged, the most
    beside any replicate. Null where the system does not count it, missing in older records."""


class Benchmark(Timing, total=False):
    """One molecule at a time: `energy`, `energy_forces`, or `neighbors` (the neighbor search alone)."""

    warmup: Count
    """Rounds before the timed ones."""
    first_call_ms: Ms | None
    """Median time of a turn's first call, which finds the other's data in the caches; missing for the teacher."""
    baseline_first_call_ms: Ms | None
    """The same of the baseline."""
    n_operations: float | None
    """PyTorch operations of one call; missing where no profile was taken: on a CPU for all but the smallest molecule."""
    n_launches: float | None
    """Launches of kernels and graphs by one call; this and the next two are missing on a CPU."""
    n_kernels: float | None
    """Kernels and copies that one call runs."""
    gpu_busy_percent: Percent | None
    """Share of the call's time in which the GPU runs something."""
    teacher: str
    """Name of the teacher; missing where the student was timed."""


class Calculator(Timing, total=False):
    """Energy and forces of one molecule through ASE. What is of the bare call is missing in records from before it was timed
    beside the one through ASE."""

    bare_samples_ms: list[Time]
    """Time of the potential's own call, without ASE, in turn with the others; replaced by what follows when merged."""
    bare_median_ms: Ms
    """Median of the bare call's samples."""
    bare_median_ci95_ms: IntervalMs
    """Its 95 % interval."""
    ase_ratio: float
    """Time through ASE over that of the bare call."""
    ase_ratio_ci95: Interval
    """Its 95 % interval."""


class Throughput(Timing, total=False):
    """Energy and forces of batches of molecules."""

    gflop: Gflop
    """Multiplications and additions of one evaluation, by formula; missing where no point was reached."""
    mbyte: Megabytes
    """The least that one evaluation must move to and from memory, by formula; missing likewise."""
    peak_memory_mib: Mib | None
    """Memory that a call takes beyond what was held before; missing where none succeeded, null where the system does not say."""
    baseline_peak_memory_mib: Mib | None
    """The same of the baseline."""
    baseline_reason: str
    """Why the baseline has no time; missing where it has one."""


class Periodic(Throughput, total=False):
    """Energy and forces of periodic boxes; the errors are missing where no call succeeded and for another network."""

    force_rmse_mev_per_a: MevPerA | None
    """RMSE of the forces against the student in fp64; null where a force is not finite."""
    force_max_mev_per_a: MevPerA | None
    """Largest error of a force component; null likewise."""
    eager_force_rmse_mev_per_a: MevPerA | None
    """RMSE of the plain student in fp32, on the unit that the box is made of."""
    positions_force_rmse_mev_per_a: MevPerA | None
    """What float32 positions cost the unit that is furthest from the origin, by the student in fp64."""


class MdSteps(Timing, total=False):
    """Steps of a simulation; the samples are times of one step."""

    timestep_fs: Femtoseconds
    """Length of a step."""
    loop: str
    """Where the steps are taken: `ase` or `device`; missing where the simulation cannot be set up."""
    joule_per_step: Joules | None
    """Electrical energy of a step, of the whole board or CPU; null where it cannot be read, missing where no step was timed."""
    baseline_joule_per_step: Joules
    """The same of the baseline; missing where it cannot be read."""
    energy_meter: str
    """What counted the energy: NVML or RAPL; missing likewise."""
    energy_reason: str
    """Why there is no energy; missing where there is."""


@with_config(CONFIG)
class Summary(TypedDict, total=False):
    """What `collect` makes of the replicates of a benchmark, in place of their samples. Null where none succeeded."""

    replicates: Count
    """Processes whose samples are in it."""
    n_samples: Count | None
    """Samples of all of them."""
    median_ms: Ms | None
    """Median of all samples."""
    median_ci95_ms: IntervalMs | None
    """Its 95 % interval, from the spread within and between the processes."""
    mean_ms: Ms | None
    """Mean of all samples."""
    std_ms: Ms | None
    """Their standard deviation."""
    p95_ms: Ms | None
    """Their 95th percentile."""
    p99_ms: Ms | None
    """Their 99th percentile."""
    baseline_median_ms: Ms | None
    """Median of the baseline's samples; null where it has none."""
    baseline_median_ci95_ms: IntervalMs | None
    """Its 95 % interval; null likewise."""
    speedup: float | None
    """Baseline's time over the variant's; null without a baseline, and for a variant that is not equivalent."""
    speedup_ci95: Interval | None
    """Its 95 % interval; null likewise."""
    equivalent: bool | None
    """Whether the variant is equivalent on every system; null for the teacher and for another network."""
    noisy: bool | None
    """Whether the samples of one process scatter more than a quiet machine's."""
    alone: bool | None
    """Whether others kept at most a tenth of a core busy beside every replicate, or worked for less than the kernel's ticks can
    tell; null where that is not known."""
    verdict: str | None
    """What the interval of the speed-up says: `faster`, `slower` or `no difference shown`; null without a speed-up."""
    atoms_per_s: PerSecond | None
    """Atoms computed in a second; null for the neighbor search and where the status is not `ok`."""
    steps_per_s: PerSecond | None
    """Calls, as many as steps of a simulation, in a second; null likewise."""
    force_ratio: float | None
    """Time of energy and forces over that of the energy alone in the same processes; null for other tasks than `energy_forces`,
    and where the energy was not timed; missing in older records."""
    force_ratio_ci95: Interval | None
    """Its 95 % interval; null likewise."""
    compile_s: Seconds | None
    """Of the compile record; null for other tasks than `energy_forces`, and without a speed-up."""
    break_even_steps: Count | None
    """Calls after which compiling has paid for itself; null where the variant is not faster."""


@with_config(CONFIG)
class KernelTime(TypedDict):
    """One entry of a profile."""

    name: str
    """Of the kernel or operator."""
    calls: float
    """In one call of the potential."""
    us: Microseconds
    """Time of all of these."""


@with_config(CONFIG)
class CallProfile(TypedDict, total=False):
    """What one call consists of."""

    unit: str
    """What was counted: `kernel` on a GPU, `operator` on a CPU."""
    wall_ms: Ms
    """Time of the call without the profiler."""
    kernels: list[KernelTime]
    """Those that take longest, and the rest as one."""
    n_kernels: float
    """Kernels or operators of one call."""
    n_operations: float
    """PyTorch operations that no other operation called."""
    n_launches: float
    """Launches of kernels and graphs; this and the next two are missing on a CPU."""
    gpu_busy_ms: Ms
    """Time in which the GPU runs something."""
    gpu_busy_percent: Percent
    """Its share of the call's time."""


@with_config(CONFIG)
class Ceilings(TypedDict, total=False):
    """What the device sustains."""

    copy_gb_per_s: GigabytesPerSecond
    """A copy, both directions counted."""
    float32_gflop_per_s: GflopPerSecond
    """A matrix product in float32."""
    tf32_gflop_per_s: GflopPerSecond
    """A matrix product in TF32; missing on a CPU."""


class Profile(OfVariant, CallProfile, total=False):
    """Where the time of energy and forces of one molecule goes. Missing where it failed."""

    threads: int
    """Threads of PyTorch."""
    replicate: Count
    """Always 0."""
    baseline: CallProfile
    """The same of the baseline."""
    ceilings: Ceilings
    """What the device sustains, for the roofline."""
