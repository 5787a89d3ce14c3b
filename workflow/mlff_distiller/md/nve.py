"""MD validation: does a variant conserve energy, keep its momentum and its bonds, and stay true to the fp64 forces?

NVE by ASE's velocity Verlet, or by the loop that stays on the device where a variant has one. A wrong
force shows here even when energies agree: the total energy drifts.
"""

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md.measures import BROKEN, MOST_CHANGE, Slope, bonds_of, drift, drift_beyond
from mlff_distiller.md.settings import GOOD_DRIFT, NveSettings
from mlff_distiller.md.start import moving_degrees_of_freedom, set_thermal_velocities
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.other_work import OtherWork

if TYPE_CHECKING:
    from ase import Atoms

#: Ignore the fp64 reference when its standard error exceeds this many times the run's.
MAX_REFERENCE_STDERR_RATIO = 3.0


@dataclass
class NveSamples:
    """Samples of an NVE run."""

    n_bonds: int
    times_fs: list[float] = field(default_factory=list)
    #: Total energy, meV/atom.
    energies: list[float] = field(default_factory=list)
    temperatures_k: list[float] = field(default_factory=list)
    momenta: list[float] = field(default_factory=list)
    #: Force errors against the fp64 reference [N, 3] eV/A, at some samples.
    force_errors: list[np.ndarray] = field(default_factory=list)
    #: The frames at those samples, extxyz text.
    frames: list[str] = field(default_factory=list)
    broken: np.ndarray = field(init=False)
    #: Seconds that the steps took, and which loop took them: ``ase`` or ``device``.
    elapsed: float = 0.0
    #: Cores that others kept busy meanwhile; None where the system does not count that.
    others_cores: float | None = None
    loop: str = "ase"

    def __post_init__(self):
        self.broken = np.zeros(self.n_bonds, dtype=bool)

    @property
    def drift(self) -> Slope:
        """Of the total energy, meV/atom/ps."""
        return drift(np.array(self.times_fs) / 1e3, np.array(self.energies))

    @property
    def energy_trace(self) -> dict[str, list[float]]:
        """Total energy relative to the first sample, at some 200 samples; the field of that name in a record."""
        thin = max(1, len(self.times_fs) // 200)
        relative = np.array(self.energies) - self.energies[0]
        return {"time_fs": self.times_fs[::thin], "total_mev_per_atom": relative[::thin].tolist()}


class SimulationFailed(FloatingPointError):
    """A simulation that cannot go on; ``samples`` are those until then."""

    def __init__(self, reason: str, samples: NveSamples):
        super().__init__(reason)
        self.samples = samples


def run_nve(atoms: "Atoms", potential: Any, settings: NveSettings, reference: Any = None) -> NveSamples:
    """Equilibrate, then run NVE by ASE's velocity Verlet, or by the loop on the device where ``potential`` has one.

    Args:
        atoms: the start; left as it is.
        potential: a :class:`~mlff_distiller.potentials.base.Potential`.
        settings: lengths, start, loop.
        reference: the potential with which forces are compared; without one, ``force_errors`` stays empty.

    Raises:
        SimulationFailed: the total energy or a position is no longer finite.
    """
    from mlff_distiller.md.dynamics import driver, steps_between_samples
    from mlff_distiller.potentials.ase import PotentialCalculator

    start, atoms = atoms, atoms.copy()
    # The first calls of a compiled variant may still compile.
    for _ in range(3):
        potential(*_batch(atoms, potential))
    set_thermal_velocities(atoms, settings.temperature_k, settings.seed, settings.at_minimum)
    interval = steps_between_samples(settings.equilibration_steps, settings.steps, settings.sample_every)
    dynamics = driver(
        atoms, potential, timestep_fs=settings.timestep_fs, steps_between_samples=interval, loop=settings.loop
    )
    dynamics.run(settings.equilibration_steps)
    observe = Observer(start, settings, None if reference is None else PotentialCalculator(reference))
    observe.samples.loop = dynamics.loop
    observe(0, atoms)
    others = OtherWork()
    for done in range(0, settings.steps, settings.sample_every):
        now = min(settings.sample_every, settings.steps - done)
        started = time.perf_counter()
        try:
            dynamics.run(now)
        except UserError as error:  # the calculator's, about positions
            raise SimulationFailed(str(error), observe.samples) from error
        observe.samples.elapsed += time.perf_counter() - started
        observe(done + now, atoms)
    observe.samples.others_cores = others.cores()
    return observe.samples


class Observer:
    """Samples a running simulation.

    Args:
        start: its bonds are checked in every sample.
        settings: of the run.
        reference: the ASE calculator with which forces are compared, or none.
    """

    def __init__(self, start: "Atoms", settings: NveSettings, reference: Any = None):
        self.first, self.second, self.lengths = bonds_of(start)
        self.settings, self.reference = settings, reference
        # ASE divides by 3 N.
        self.share_that_moves = moving_degrees_of_freedom(start) / (3 * len(start))
        self.samples = NveSamples(len(self.lengths))

    def __call__(self, step: int, atoms: "Atoms") -> None:
        """Add a sample of ``atoms`` (with calculator and momenta), taken after ``step`` steps."""
        samples = self.samples
        samples.times_fs.append(step * self.settings.timestep_fs)
        samples.energies.append(1e3 * atoms.get_total_energy() / len(atoms))
        if not math.isfinite(samples.energies[-1]):
            raise SimulationFailed(f"the total energy is not finite after {samples.times_fs[-1]:.1f} fs", samples)
        if abs(samples.energies[-1] - samples.energies[0]) > 1e3 * MOST_CHANGE:
            raise SimulationFailed(
                f"the total energy is {1e-3 * samples.energies[-1]:.6g} eV an atom after {samples.times_fs[-1]:.1f} fs and "
                f"began at {1e-3 * samples.energies[0]:.6g}, which no physics gives; a shorter time step may help",
                samples,
            )
        samples.temperatures_k.append(atoms.get_temperature() / self.share_that_moves)
        samples.momenta.append(float(np.linalg.norm(atoms.get_momenta().sum(axis=0))))
        vectors = atoms.positions[self.second] - atoms.positions[self.first]
        if atoms.pbc.any():
            from ase.geometry import find_mic

            vectors = find_mic(vectors, atoms.cell, atoms.pbc)[0]
        samples.broken |= np.linalg.norm(vectors, axis=1) > BROKEN * self.lengths
        if self.reference is not None and step % self.settings.force_check_every == 0:
            samples.force_errors.append(atoms.get_forces() - self.reference.get_forces(atoms))
            samples.frames.append(_frame(atoms))


def judge(samples: NveSamples, settings: NveSettings, reference: Slope | None = None) -> dict[str, Any]:
    """The record's fields: what was measured, and each gate with its verdict.

    Args:
        samples: of the variant's run.
        settings: of the run, with its gates.
        reference: drift of the fp64 run from the same state, if there is one.
    """
    slope = samples.drift
    relative = np.array(samples.energies) - samples.energies[0]
    values = {
        "drift_mev_per_atom_ps": abs(slope.value),
        "momentum": max(samples.momenta),
        "force_rmse_mev_per_a": 1e3 * float(np.sqrt(np.mean(np.square(samples.force_errors)))),
        "excursion_mev_per_atom": float(np.abs(relative).max()),
        "bonds_broken": int(samples.broken.sum()),
    }
    # A slope within two standard errors of zero is no evidence of drift.
    own = max(0.0, abs(slope.value) - 2 * slope.stderr)
    judged = values | {"drift_mev_per_atom_ps": own}
    beyond = None if reference is None else drift_beyond(slope, reference)
    if reference is not None:
        values["drift_beyond_fp64_mev_per_atom_ps"] = judged["drift_beyond_fp64_mev_per_atom_ps"] = beyond
        # A drift that the fp64 run shows too comes from the integrator or the short run (a slow exchange of energy between
        # vibrations), not from this variant, and is not counted; the tier does count it. A reference much less certain than
        # the run is ignored.
        if reference.stderr <= MAX_REFERENCE_STDERR_RATIO * slope.stderr:
            judged["drift_mev_per_atom_ps"] = min(own, beyond)
    gates = {
        name: {
            "value": value,
            "limit": getattr(settings.gates, name),
            "passed": bool(judged[name] <= getattr(settings.gates, name)),
        }
        for name, value in values.items()
    }
    limits = {"good": GOOD_DRIFT, "acceptable": settings.gates.drift_mev_per_atom_ps}
    tier = next((name for name, limit in limits.items() if own <= limit), "bad")
    return {
        "drift_mev_per_atom_ps": slope.value,
        "drift_stderr_mev_per_atom_ps": slope.stderr,
        "drift_tier": tier,
        "fp64_drift_mev_per_atom_ps": None if reference is None else reference.value,
        "fp64_drift_stderr_mev_per_atom_ps": None if reference is None else reference.stderr,
        "drift_like_fp64": None if reference is None else beyond == 0,
        "mean_temperature_k": float(np.mean(samples.temperatures_k)),
        "max_momentum": values["momentum"],
        "max_energy_excursion_mev_per_atom": values["excursion_mev_per_atom"],
        "force_rmse_mev_per_a": values["force_rmse_mev_per_a"],
        "bonds_broken": values["bonds_broken"],
        "steps_per_s": settings.steps / samples.elapsed,
        "others_cores": samples.others_cores,
        "loop": samples.loop,
        "passed": all(gate["passed"] for gate in gates.values()),
        "gates": gates,
        "energy_trace": samples.energy_trace,
    }


def _batch(atoms: "Atoms", potential):
    from mlff_distiller.systems.batch import Batch

    return Batch.from_atoms([atoms], potential.device, potential.dtype)


def _frame(atoms: "Atoms") -> str:
    """One frame with energy, forces and momenta as extxyz text."""
    import io

    from ase.io import write

    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz")
    return buffer.getvalue()
