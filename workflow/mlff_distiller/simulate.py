"""MD validation: does a variant conserve energy, keep its momentum and its bonds, and stay true to the fp64 forces?

NVE by ASE's velocity Verlet, or by the loop that stays on the device where a variant has one (md_drivers.py). A wrong
force shows here even when energies agree: the total energy drifts.
"""

import argparse
import math
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller import gpu_choice, records
from mlff_distiller.compile import first_line
from mlff_distiller.errors import UserError
from mlff_distiller.files import load_settings, write_text
from mlff_distiller.md.measures import Slope, bonds_of, drift, drift_beyond
from mlff_distiller.md.start import set_thermal_velocities
from mlff_distiller.md_settings import GOOD_DRIFT, settings_with_defaults
from mlff_distiller.systems import read_system
from mlff_distiller.variants import artifact

if TYPE_CHECKING:
    from ase import Atoms

#: NVE of a molecule, or of a periodic box of a liquid.
TASKS = ("nve", "liquid")
#: A bond is broken when it is longer than this many times its length at the start.
BROKEN = 1.5
#: A reference whose drift has more than so many times the run's own error says nothing about it.
LEAST_CERTAIN = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--equivalence", type=Path, required=True, help="records of the variant's equivalence check")
    parser.add_argument("--system", required=True, help="file of the molecule")
    parser.add_argument("--settings", default="{}", help="timestep_fs, steps, gates, ... (JSON text or a file)")
    parser.add_argument("--task", choices=TASKS, default="nve", help="under which the record is filed (default: nve)")
    parser.add_argument("--reference", type=Path, help="record of the fp64 run of this system (stage md-reference)")
    parser.add_argument("--trajectory", type=Path, required=True, help="extxyz to write")
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md`` and a trajectory (empty when the variant cannot run)."""
    settings = settings_with_defaults(load_settings(args.settings))
    atoms = read_system(args.system)
    made = artifact.read_metadata(args.variant)
    gpu_choice.take_one(f"{made['variant']} {atoms.info['name']}")
    entry = artifact.shared_fields(made) | {
        "task": args.task,
        "system": atoms.info["name"],
        "n_atoms": len(atoms),
        "ensemble": "NVE",
        "threads": args.threads,
    }
    entry |= {"timestep_fs": settings["timestep_fs"], "n_steps": settings["steps"]}
    verdict = next((e for e in records.read(args.equivalence) if e["status"] != "ok"), None)
    trajectory = ""
    if made.get("another_network"):
        reason = "another network than the student, with random weights: its MD says nothing"
        entry |= {"status": "unavailable", "reason": reason, "passed": False}
    elif verdict is not None:
        entry |= {"status": verdict["status"], "reason": verdict["reason"], "passed": False}
    else:
        try:
            measured, trajectory = simulate(args, atoms, settings)
            entry |= measured
        except Astray as error:
            # The frames up to there show where it went astray.
            trajectory = "".join(error.seen.frames)
            entry |= {"status": "failed", "reason": str(error), "passed": False}
        except Exception as error:
            traceback.print_exc()
            entry |= {"status": "failed", "reason": f"{type(error).__name__}: {first_line(error)}", "passed": False}
    write_text(args.trajectory, trajectory)
    records.write(args.output, [records.record("md", **entry)])
    return 0


def simulate(args: argparse.Namespace, atoms: "Atoms", settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Run NVE with the variant that ``args`` name and judge it; the record's fields and the trajectory as extxyz text."""
    import torch

    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.student.checkpoint import load_student

    loaded = artifact.load_variant(args)
    referee = AutogradPotential(load_student(args.checkpoint, "cpu", torch.float64, neighbors="native"))
    seen = run_nve(atoms, loaded.potential, settings, referee)
    return judge(seen, settings, read_reference(args.reference) if args.reference else None), "".join(seen.frames)


@dataclass
class Seen:
    """What an NVE run showed, one entry per sample."""

    n_bonds: int
    times_fs: list[float] = field(default_factory=list)
    #: Total energy, meV/atom.
    energies: list[float] = field(default_factory=list)
    temperatures_k: list[float] = field(default_factory=list)
    momenta: list[float] = field(default_factory=list)
    #: Differences of the forces from the referee's [N, 3] eV/A, at some samples; the frames are extxyz text.
    force_errors: list[np.ndarray] = field(default_factory=list)
    frames: list[str] = field(default_factory=list)
    broken: np.ndarray = field(init=False)
    #: Seconds that the steps themselves took, and where they were taken: ``ase`` or ``device``.
    elapsed: float = 0.0
    loop: str = "ase"

    def __post_init__(self):
        self.broken = np.zeros(self.n_bonds, dtype=bool)

    @property
    def drift(self) -> Slope:
        """Of the total energy, meV/atom/ps."""
        return drift(np.array(self.times_fs) / 1e3, np.array(self.energies))


class Astray(FloatingPointError):
    """A simulation that cannot go on; ``seen`` is what it showed until then."""

    def __init__(self, reason: str, seen: Seen):
        super().__init__(reason)
        self.seen = seen


def run_nve(atoms: "Atoms", potential: Any, settings: dict[str, Any], referee: Any = None) -> Seen:
    """Equilibrate, then run NVE by ASE's velocity Verlet, or by the loop on the device where ``potential`` has one.

    Args:
        atoms: the start; left as it is.
        potential: a :class:`~mlff_distiller.potentials.base.Potential`.
        settings: as :data:`~mlff_distiller.md_settings.DEFAULTS`.
        referee: a potential whose forces are compared with; none, and there are no force errors.

    Raises:
        Astray: the total energy or a position is no longer finite.
    """
    from mlff_distiller.calculator import StudentCalculator
    from mlff_distiller.md_drivers import driver, steps_between_looks

    start, atoms = atoms, atoms.copy()
    # The first calls of a compiled variant may still compile.
    for _ in range(3):
        potential(*_batch(atoms, potential))
    set_thermal_velocities(atoms, settings["temperature_k"], settings["seed"], settings["at_minimum"])
    looks = steps_between_looks(settings["equilibration_steps"], settings["steps"], settings["sample_every"])
    dynamics = driver(
        atoms, potential, timestep_fs=settings["timestep_fs"], steps_between_looks=looks, loop=settings["loop"]
    )
    dynamics.run(settings["equilibration_steps"])
    observe = Observer(start, settings, None if referee is None else StudentCalculator(referee))
    observe.seen.loop = dynamics.loop
    observe(0, atoms)
    for done in range(0, settings["steps"], settings["sample_every"]):
        now = min(settings["sample_every"], settings["steps"] - done)
        started = time.perf_counter()
        try:
            dynamics.run(now)
        except UserError as error:  # the calculator's, about positions
            raise Astray(str(error), observe.seen) from error
        observe.seen.elapsed += time.perf_counter() - started
        observe(done + now, atoms)
    return observe.seen


class Observer:
    """Looks at the atoms of a running simulation, whoever moves them.

    Args:
        start: whose bonds are to stay whole.
        settings: as :data:`~mlff_distiller.md_settings.DEFAULTS`.
        referee: an ASE calculator whose forces are compared with, or none.
    """

    def __init__(self, start: "Atoms", settings: dict[str, Any], referee: Any = None):
        self.first, self.second, self.lengths = bonds_of(start)
        self.settings, self.referee = settings, referee
        self.seen = Seen(len(self.lengths))

    def __call__(self, step: int, atoms: "Atoms") -> None:
        """Take down ``atoms`` (with calculator and momenta) after ``step`` steps."""
        seen = self.seen
        seen.times_fs.append(step * self.settings["timestep_fs"])
        seen.energies.append(1e3 * atoms.get_total_energy() / len(atoms))
        if not math.isfinite(seen.energies[-1]):
            raise Astray(f"the total energy is not finite after {seen.times_fs[-1]:.1f} fs", seen)
        seen.temperatures_k.append(atoms.get_temperature())
        seen.momenta.append(float(np.linalg.norm(atoms.get_momenta().sum(axis=0))))
        vectors = atoms.positions[self.second] - atoms.positions[self.first]
        if atoms.pbc.any():
            from ase.geometry import find_mic

            vectors = find_mic(vectors, atoms.cell, atoms.pbc)[0]
        seen.broken |= np.linalg.norm(vectors, axis=1) > BROKEN * self.lengths
        if self.referee is not None and step % self.settings["force_check_every"] == 0:
            seen.force_errors.append(atoms.get_forces() - self.referee.get_forces(atoms))
            seen.frames.append(_frame(atoms))


def judge(seen: Seen, settings: dict[str, Any], reference: Slope | None = None) -> dict[str, Any]:
    """The record's fields: what was measured, and each gate with its verdict.

    Args:
        seen: of the variant's run.
        settings: with ``gates``.
        reference: drift of the fp64 run from the same state, if there is one.
    """
    slope = seen.drift
    relative = np.array(seen.energies) - seen.energies[0]
    values = {
        "drift_mev_per_atom_ps": abs(slope.value),
        "momentum": max(seen.momenta),
        "force_rmse_mev_per_a": 1e3 * float(np.sqrt(np.mean(np.square(seen.force_errors)))),
        "excursion_mev_per_atom": float(np.abs(relative).max()),
        "bonds_broken": int(seen.broken.sum()),
    }
    # A slope that cannot be told from zero, given its error, is no evidence of drift in a short run.
    own = max(0.0, abs(slope.value) - 2 * slope.stderr)
    judged = values | {"drift_mev_per_atom_ps": own}
    beyond = None if reference is None else drift_beyond(slope, reference)
    if reference is not None:
        values["drift_beyond_fp64_mev_per_atom_ps"] = judged["drift_beyond_fp64_mev_per_atom_ps"] = beyond
        # What fp64 does from the same state is the time step's doing, and the short run's, in which the slow exchange
        # between vibrations looks like a drift: not the variant's. The tier keeps to the drift itself. A shorter, and so
        # much less certain, reference would excuse anything.
        if reference.stderr <= LEAST_CERTAIN * slope.stderr:
            judged["drift_mev_per_atom_ps"] = min(own, beyond)
    gates = {
        name: {
            "value": value,
            "limit": settings["gates"][name],
            "passed": bool(judged[name] <= settings["gates"][name]),
        }
        for name, value in values.items()
    }
    limits = {"good": GOOD_DRIFT, "acceptable": settings["gates"]["drift_mev_per_atom_ps"]}
    tier = next((name for name, limit in limits.items() if own <= limit), "bad")
    thin = max(1, len(seen.times_fs) // 200)
    return {
        "drift_mev_per_atom_ps": slope.value,
        "drift_stderr_mev_per_atom_ps": slope.stderr,
        "drift_tier": tier,
        "fp64_drift_mev_per_atom_ps": None if reference is None else reference.value,
        "fp64_drift_stderr_mev_per_atom_ps": None if reference is None else reference.stderr,
        "drift_like_fp64": None if reference is None else beyond == 0,
        "mean_temperature_k": float(np.mean(seen.temperatures_k)),
        "max_momentum": values["momentum"],
        "max_energy_excursion_mev_per_atom": values["excursion_mev_per_atom"],
        "force_rmse_mev_per_a": values["force_rmse_mev_per_a"],
        "bonds_broken": values["bonds_broken"],
        "steps_per_s": settings["steps"] / seen.elapsed,
        "loop": seen.loop,
        "passed": all(gate["passed"] for gate in gates.values()),
        "gates": gates,
        "energy_trace": {"time_fs": seen.times_fs[::thin], "total_mev_per_atom": relative[::thin].tolist()},
    }


def read_reference(path: Path) -> Slope | None:
    """The drift in a record of the stage ``md-reference``; None where that run failed.

    Raises:
        UserError: no such record.
    """
    found = records.read(path)[0]
    if found["status"] != "ok":
        return None
    return Slope(found["drift_mev_per_atom_ps"], found["drift_stderr_mev_per_atom_ps"])


def _batch(atoms: "Atoms", potential):
    from mlff_distiller.batch import Batch

    return Batch.from_atoms([atoms], potential.device, potential.dtype)


def _frame(atoms: "Atoms") -> str:
    """One frame with energy, forces and momenta as extxyz text."""
    import io

    from ase.io import write

    buffer = io.StringIO()
    write(buffer, atoms, format="extxyz")
    return buffer.getvalue()
