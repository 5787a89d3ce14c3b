"""Runs in MD engines."""

from mlff_distiller.records.kinds.common import (
    Cores,
    Count,
    Femtoseconds,
    MevPerA,
    MevPerAtom,
    MevPerAtomPs,
    Ms,
    OfVariant,
    PerSecond,
)


class InEngine(OfVariant, total=False):
    """NVE of one system in the engine that `task` names, from the same state as in ASE. Without a system: none could be run."""

    engine_version: str
    """Of the engine; missing where it is not installed."""
    computed_by: str
    """What computes the forces: `bundle` (the variant), `c` (the C library of the bundle), or `torchscript`."""
    threads: int
    """Threads of what computes the forces."""
    timestep_fs: Femtoseconds
    """Length of a step; this and what follows is missing where the run failed."""
    n_steps: Count
    """Steps of the run, in the engine and in ASE."""
    step_ms: Ms
    """Time of a step in the engine, median over the windows of one run."""
    steps_per_s: PerSecond
    """Steps in a second, from that."""
    ase_step_ms: Ms
    """Time of a step in ASE, with the variant, in the same job."""
    kernel_ms: Ms
    """Time of a call of the variant alone, in the same job."""
    others_cores: Cores | None
    """Cores that other processes of the machine kept busy meanwhile, on average; null where the system does not count that."""
    force_rmse_mev_per_a: MevPerA | None
    """RMSE of the engine's forces at the start against the student in fp64; null where a force is not finite."""
    force_limit_mev_per_a: MevPerA
    """What it may be, as in the equivalence check of a variant in fp32."""
    energy_error_mev_per_atom: MevPerAtom | None
    """Error of the engine's energy at the start; null likewise."""
    energy_limit_mev_per_atom: MevPerAtom
    """What it may be."""
    equivalent: bool
    """Whether both are within their limits."""
    ase_force_max_mev_per_a: MevPerA | None
    """Largest difference of a force component at the start from that in ASE with the variant; null likewise."""
    drift_mev_per_atom_ps: MevPerAtomPs | None
    """Slope of the total energy in the engine; this and the next five are null where the run was too short."""
    drift_stderr_mev_per_atom_ps: MevPerAtomPs | None
    """Its standard error."""
    ase_drift_mev_per_atom_ps: MevPerAtomPs | None
    """The same slope in ASE."""
    ase_drift_stderr_mev_per_atom_ps: MevPerAtomPs | None
    """Its standard error."""
    beyond_ase_drift_mev_per_atom_ps: MevPerAtomPs | None
    """Slope of the total energy in the engine less that in ASE, from the same state."""
    beyond_ase_drift_stderr_mev_per_atom_ps: MevPerAtomPs | None
    """Its standard error."""
    conserves_energy: bool | None
    """Whether the engine's drift, or what it has beyond ASE's, is within the limit of the settings with two standard errors; null
    also where the run was too short to tell."""
