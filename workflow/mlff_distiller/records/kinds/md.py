"""Molecular dynamics, one class for each of its tasks."""

from pydantic import with_config
from typing_extensions import TypedDict

from mlff_distiller.records.kinds.common import (
    CONFIG,
    Angstrom,
    Common,
    Cores,
    Count,
    Degrees,
    Diffusion,
    Femtoseconds,
    Gpa,
    Kelvin,
    MevPerA,
    MevPerAtom,
    MevPerAtomPs,
    Momentum,
    OfVariant,
    PerCm,
    PerSecond,
)


@with_config(CONFIG)
class Gate(TypedDict, total=False):
    """One limit, and whether it was kept."""

    value: float | None
    """What was measured, in the unit of the measure; null where it is not finite."""
    limit: float
    """The limit, from the configuration."""
    passed: bool
    """Whether it was kept, once the error of the value and the fp64 reference are allowed for."""


@with_config(CONFIG)
class EnergyTrace(TypedDict, total=False):
    """Total energy along a run."""

    time_fs: list[Femtoseconds]
    """Of each sample."""
    total_mev_per_atom: list[MevPerAtom]
    """Total energy less that of the first sample."""


@with_config(CONFIG)
class KineticHistogram(TypedDict, total=False):
    """Distribution of the kinetic energy."""

    edges_kt: list[float]
    """Edges of the bins, in units of kT."""
    density: list[float]
    """Density in each bin, per kT."""


@with_config(CONFIG)
class Histogram(TypedDict, total=False):
    """A distribution; empty where there is nothing to count."""

    edges: list[float]
    """Edges of the bins, A or degrees."""
    density: list[float]
    """Density in each bin, per A or degree."""


@with_config(CONFIG)
class Spectrum(TypedDict, total=False):
    """Vibrations."""

    wavenumbers: list[PerCm]
    """From 0, evenly spaced."""
    density: list[float]
    """Of area 1."""


@with_config(CONFIG)
class Distributions(TypedDict, total=False):
    """What one trajectory shows."""

    bond_lengths: Histogram
    """Of all bonds."""
    angles: Histogram
    """Of all angles between bonds."""
    spectrum: Spectrum
    """Power spectrum of the mass-weighted velocities."""


@with_config(CONFIG)
class Distances(TypedDict, total=False):
    """How far two trajectories are from each other; the first two are null in a molecule without bonds or angles."""

    bond_distance_a: Angstrom | None
    """Wasserstein distance between the distributions of a bond's length, mean over all bonds."""
    angle_distance_deg: Degrees | None
    """The same of the angles."""
    spectrum_difference: float
    """One less the area that both vibrational spectra have in common."""


class Dynamics(OfVariant, total=False):
    """Every simulation of a variant has these."""

    threads: int
    """Threads of PyTorch."""
    ensemble: str
    """`NVE` or `NVT`."""
    passed: bool
    """Whether all gates were passed; false where the status is not `ok`."""
    gates: dict[str, Gate]
    """The limits by name; missing where nothing was simulated."""


class Nve(Dynamics, total=False):
    """NVE of a molecule (`nve`) or of a box of a liquid (`liquid`). Measured fields are missing where it failed."""

    timestep_fs: Femtoseconds
    """Length of a step."""
    n_steps: Count
    """Steps after equilibration."""
    drift_mev_per_atom_ps: MevPerAtomPs | None
    """Slope of the total energy."""
    drift_stderr_mev_per_atom_ps: MevPerAtomPs | None
    """Its standard error."""
    drift_tier: str
    """What it is worth: `good`, `acceptable` or `bad`."""
    fp64_drift_mev_per_atom_ps: MevPerAtomPs | None
    """Slope of the fp64 run from the same state; this and the next two are null where there is none."""
    fp64_drift_stderr_mev_per_atom_ps: MevPerAtomPs | None
    """Its standard error."""
    drift_like_fp64: bool | None
    """Whether both slopes are the same within their errors."""
    mean_temperature_k: Kelvin | None
    """Mean over the samples."""
    max_momentum: Momentum | None
    """Largest total momentum of a sample."""
    max_energy_excursion_mev_per_atom: MevPerAtom | None
    """Largest difference of the total energy from that of the first sample."""
    force_rmse_mev_per_a: MevPerA | None
    """RMSE of the forces along the run against the student in fp64."""
    bonds_broken: Count
    """Bonds that were ever longer than 1.5 times their length at the start."""
    steps_per_s: PerSecond
    """Steps in a second, the samples' own time not counted."""
    others_cores: Cores | None
    """Cores that other processes of the machine, such as simulations beside this one, kept busy meanwhile, on average; null
    where the system does not count it, missing in older records."""
    loop: str
    """Where the steps are taken: `ase` or `device`."""
    energy_trace: EnergyTrace
    """Total energy along the run."""
    fp64_energy_trace: EnergyTrace
    """The same of the fp64 run; missing where there is none, and in older records."""


class Reference(Common, total=False):
    """The fp64 run that drifts are compared with; an input of `nve`, and no part of the merged results."""

    family: str
    """What computed it: `eager` or `cpp`."""
    timestep_fs: Femtoseconds
    """Length of a step."""
    n_steps: Count
    """Steps after equilibration."""
    drift_mev_per_atom_ps: MevPerAtomPs | None
    """Slope of the total energy; missing where the run failed."""
    drift_stderr_mev_per_atom_ps: MevPerAtomPs | None
    """Its standard error; missing likewise."""
    energy_trace: EnergyTrace
    """Total energy along the run; missing likewise."""


class Timestep(Dynamics, total=False):
    """How the energy's fluctuation goes with the time step, in fp64. Measured fields are missing where it failed."""

    timesteps_fs: list[Femtoseconds]
    """The time steps, falling."""
    fluctuation_mev_per_atom: list[MevPerAtom | None]
    """Of the total energy at each, root of the mean variance."""
    ratios: list[float | None]
    """Each fluctuation over the next, scaled to a halving of the time step: 4 for velocity Verlet."""


class Thermostat(Dynamics, total=False):
    """Whether Langevin dynamics gives the canonical kinetic energies. Measured fields are missing where it failed."""

    timestep_fs: Femtoseconds
    """Length of a step."""
    n_steps: Count
    """Steps after equilibration."""
    temperature_k: Kelvin
    """Of the thermostat."""
    mean_temperature_k: Kelvin | None
    """Of all samples."""
    temperature_stderr_k: Kelvin | None
    """Its standard error."""
    p_value: float | None
    """Of the Kolmogorov-Smirnov test against the gamma distribution."""
    seeds: list[int]
    """Of the trajectories: a second one follows where the first has p below 0.05, and both are judged together."""
    first_p_value: float
    """Of the first trajectory alone, where there are two; else missing."""
    independent_samples: Count
    """Samples left when they are thinned until independent."""
    degrees_of_freedom: Count
    """Three for each atom."""
    nvt_steps_per_s: PerSecond
    """Steps in a second."""
    kinetic_histogram: KineticHistogram
    """Distribution of the kinetic energy of all samples."""


class Spectra(Dynamics, Distances, total=False):
    """Student against teacher in Langevin dynamics. Measured fields are missing where it failed."""

    timestep_fs: Femtoseconds
    """Length of a step."""
    n_steps: Count
    """Steps after equilibration."""
    temperature_k: Kelvin
    """Of the thermostat."""
    floor: Distances
    """The same distances between the halves of the teacher's trajectory: smaller ones say nothing."""
    distributions: dict[str, Distributions]
    """Of `student` and `teacher`."""


class Pairs(Dynamics, total=False):
    """A liquid of student and teacher in Langevin dynamics at one density. Measured fields are missing where it failed, those of
    the pressure also where the teacher has no stress."""

    timestep_fs: Femtoseconds
    """Length of a step."""
    n_steps: Count
    """Steps after equilibration."""
    temperature_k: Kelvin
    """Of the thermostat."""
    pair_difference: float
    """Share of a pair distribution that both do not have in common, of the pair with the largest."""
    worst_pair: str
    """That pair of elements."""
    floor: float
    """The same between the halves of the teacher's trajectory: a smaller one says nothing."""
    pair_distributions: dict[str, dict[str, list[float]]]
    """Of `student` and `teacher`: g(r) of each two elements, without pairs of one molecule, from 0 to half the least width of the
    cell."""
    bin_a: Angstrom
    """Width of its bins."""
    diffusion_e9_m2_s: Diffusion
    """Coefficient of self-diffusion of the molecules; the thermostat's friction and the size of the box lower it."""
    diffusion_stderr_e9_m2_s: Diffusion
    """Its standard error."""
    teacher_diffusion_e9_m2_s: Diffusion
    """The teacher's in the same box with the same thermostat."""
    teacher_diffusion_stderr_e9_m2_s: Diffusion
    """Its standard error."""
    pressure_gpa: Gpa
    """Mean pressure."""
    pressure_stderr_gpa: Gpa
    """Its standard error."""
    teacher_pressure_gpa: Gpa
    """The teacher's."""
    teacher_pressure_stderr_gpa: Gpa
    """Its standard error."""
    nvt_steps_per_s: PerSecond
    """Steps in a second."""
    teacher_steps_per_s: PerSecond
    """The teacher's steps in a second, in a job of its own; other work of the machine may be beside either."""
