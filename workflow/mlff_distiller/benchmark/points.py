"""The points of each task: what is computed, and the fields of its record."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.benchmark import boxes, energy
from mlff_distiller.benchmark.memory import PeakMemory, free_bytes, is_out_of_memory
from mlff_distiller.benchmark.settings import ScalingSettings
from mlff_distiller.benchmark.timing import interleaved
from mlff_distiller.potentials.base import Potential
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.utils.errors import first_line
from mlff_distiller.utils.other_work import OtherWork
from mlff_distiller.variants.artifact import LoadedVariant
from mlff_distiller.variants.equivalence import TOLERANCES, judge
from mlff_distiller.variants.plain_student import fp64_reference

if TYPE_CHECKING:
    from ase import Atoms

#: Geometries that the timed calls cycle through, so that no call can reuse the previous result.
N_FRAMES = 3
FEWEST_RUNS = 3
#: Largest share of the free memory that a call may be expected to take.
SAFE = 0.8
#: The cost of a call below these does not predict that of larger ones.
NOTICEABLE_SECONDS, NOTICEABLE_BYTES = 0.02, 64 * 2**20
TIMESTEP_FS = 0.5
TEMPERATURE_K = 300.0


class TooLarge(Exception):
    """A point that is not measured because it would take too long or not fit; larger ones would not either."""


@dataclass
class Side:
    """A potential, and how its cost grows with the number of atoms."""

    potential: Potential
    seconds: float = 0.0  # of the last call
    seconds_per_atom: float = 0.0  # 0 as long as a call costs little whatever its size
    bytes_per_atom: float = 0.0
    stopped: str = ""  # why larger systems are not tried any more

    def expect(self, n_atoms: int, settings: ScalingSettings) -> None:
        """Raise :class:`TooLarge` when ``n_atoms`` would, judging by smaller systems, take too long or too much memory."""
        if self.stopped:
            raise TooLarge(self.stopped)
        limit = settings.max_seconds
        if (seconds := self.seconds_per_atom * n_atoms) > limit:
            self.stopped = (
                f"a call on {n_atoms:,} atoms would take some {seconds:.0f} s, longer than max_seconds {limit:g}"
            )
            raise TooLarge(self.stopped)
        free = free_bytes(self.potential.device)
        if free is not None and (needed := self.bytes_per_atom * n_atoms) > SAFE * free:
            fits = int(SAFE * free / self.bytes_per_atom)
            self.stopped = (
                f"{n_atoms:,} atoms would take some {needed / 2**30:.1f} GiB of the {free / 2**30:.1f} GiB that are free; "
                f"some {fits:,} atoms fit: split the batch or choose a smaller system"
            )
            raise TooLarge(self.stopped)

    def ran_out(self, n_atoms: int) -> str:
        """Note that ``n_atoms`` did not fit; the reason for the record."""
        free = free_bytes(self.potential.device)
        told = f"out of memory with {n_atoms:,} atoms"
        if free is not None and self.bytes_per_atom:
            told += f"; some {int(SAFE * free / self.bytes_per_atom):,} atoms fit: split the batch or choose a smaller system"
        self.stopped = told
        return told


@dataclass
class Bench:
    """Everything that the points of one variant are made of."""

    loaded: LoadedVariant
    eager: Potential
    checkpoint: Path
    settings: ScalingSettings
    systems: "dict[str, Atoms]"
    molecule: "Atoms"
    liquid: "Atoms"
    another_network: bool = False
    sides: dict[str, Side] = field(default_factory=dict)

    def points(self, task: str) -> Iterator[dict[str, Any]]:
        """The fields of one record after another."""
        self.sides = {"variant": Side(self.loaded.potential), "eager": Side(self.eager)}
        return getattr(self, f"_{task}")()

    @property
    def device(self) -> torch.device:
        return self.loaded.potential.device

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    # Batches and boxes

    def _throughput(self) -> Iterator[dict[str, Any]]:
        kinds = {self.molecule.info["name"]: [self.molecule]}
        if self.settings.mixed and len(self.systems) > 1:
            kinds["mix"] = list(self.systems.values())
        for name, molecules in kinds.items():
            self.sides = {"variant": Side(self.loaded.potential), "eager": Side(self.eager)}
            edges = [self._edges(one) for one in molecules]
            for size in sorted(self.settings.batches):
                if name == "mix" and size < len(molecules):
                    continue
                members = [molecules[k % len(molecules)] for k in range(size)]
                fields = {"system": name, "batch": size, "n_atoms": sum(map(len, members))}
                each = [size // len(molecules) + (k < size % len(molecules)) for k in range(len(molecules))]
                fields["n_edges"] = sum(e * n for e, n in zip(edges, each, strict=True))
                yield fields | self._point(fields, [self._noisy(members, seed) for seed in range(N_FRAMES)])

    def _noisy(self, members: "list[Atoms]", seed: int) -> "list[Atoms]":
        # The first frame is the geometry itself: take the second.
        return [rattled(one, 2, 0.03, seed * len(members) + k)[1] for k, one in enumerate(members)]

    def _periodic(self) -> Iterator[dict[str, Any]]:
        settings = self.settings
        unit = liquid_box(
            self.liquid, settings.unit_molecules, settings.density_g_cm3, seed=settings.seed, min_distance=2.0
        )
        frames = rattled(unit, N_FRAMES, 0.02, settings.seed)
        reference = None if self.another_network else Reference(self.checkpoint, self.eager, frames[0])
        edges, done = self._edges(unit), set()
        for wanted in sorted(settings.box_atoms):
            times = boxes.repetitions(len(unit), wanted)
            if times in done:
                continue
            done.add(times)
            copies = math.prod(times)
            n_atoms = copies * len(unit)
            fields = {"system": f"{self.liquid.info['name']}_box_{n_atoms}", "batch": 1, "n_atoms": n_atoms}
            fields["n_edges"] = copies * edges
            check = (
                None if reference is None else partial(reference.judge, times=times, precision=self.loaded.precision)
            )
            yield fields | self._point(fields, [[frame.repeat(times)] for frame in frames], check)

    def _edges(self, atoms: "Atoms") -> int:
        from mlff_distiller.neighbors.search import radius_graph

        batch = Batch.from_atoms([atoms], dtype=torch.float64)
        return radius_graph(batch.positions, self.eager.cutoff, batch.batch, batch.cell, batch.pbc)[0].shape[0]

    def _point(
        self,
        fields: dict[str, Any],
        frames: "list[list[Atoms]]",
        check: Callable[[tuple[Tensor, Tensor]], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Time energy + forces of one batch for both sides; the fields that this adds to its record."""
        from mlff_distiller.benchmark.roofline import energy_forces_cost

        student = self.eager.student
        parameters = sum(p.numel() for p in student.network.parameters())
        cost = energy_forces_cost(student.config, parameters, fields["n_atoms"], fields["n_edges"])
        made: dict[str, Any] = {"gflop": cost.flop / 1e9, "mbyte": cost.bytes / 1e6}
        calls = {}
        for name, side in self.sides.items():
            try:
                side.expect(fields["n_atoms"], self.settings)
                side.potential.release()
                call, found, peak = self._prepare(side, frames, fields["n_atoms"])
                if name == "variant":
                    made |= {"peak_memory_mib": peak}
                    if check is not None:
                        made |= check(found)
                else:
                    made |= {"baseline_peak_memory_mib": peak}
                calls[name] = call
            except Exception as error:
                outcome = self._why(error, side, fields["n_atoms"])
                if name == "variant":
                    return made | outcome
                made["baseline_reason"] = outcome["reason"]
        try:
            return made | self._timed(calls, seconds=sum(self.sides[name].seconds for name in calls))
        except Exception as error:
            return made | self._why(error, self.sides["variant"], fields["n_atoms"])

    def _prepare(self, side: Side, frames: "list[list[Atoms]]", n_atoms: int) -> tuple[Callable, Any, float | None]:
        """The call of a side, what it gives for the first frame, and the memory (MiB) that it took."""
        potential = side.potential
        with PeakMemory(self.device) as memory:
            inputs = [Batch.from_atoms(frame, self.device, potential.dtype) for frame in frames]
            # The same molecules at other positions: one set of numbers, batch and cell, as in a simulation.
            inputs = [inputs[0]._replace(positions=one.positions) for one in inputs]

            def call(index: int) -> object:
                return potential(*inputs[index % len(inputs)])

            found = call(0)
            self._wait()
        start = time.perf_counter()
        call(1)
        self._wait()
        side.seconds = seconds = time.perf_counter() - start
        side.seconds_per_atom = seconds / n_atoms if seconds > NOTICEABLE_SECONDS else 0.0
        if memory.bytes is None:
            return call, found, None
        side.bytes_per_atom = memory.bytes / n_atoms if memory.bytes > NOTICEABLE_BYTES else 0.0
        return call, found, memory.bytes / 2**20

    def _why(self, error: Exception, side: Side, n_atoms: int) -> dict[str, str]:
        """Status and reason of a point that could not be measured."""
        if isinstance(error, TooLarge | NotImplementedError):
            return {"status": "unavailable", "reason": str(error)}
        if is_out_of_memory(error):
            side.potential.release()
            return {"status": "unavailable", "reason": side.ran_out(n_atoms)}
        return failure(error)

    def _timed(
        self, calls: dict[str, Callable], units: dict[str, int] | None = None, seconds: float | None = None
    ) -> dict[str, Any]:
        """Samples (ms per unit) of one or both sides and of a bare call, interleaved, as many as fit into ``max_seconds``.

        ``units`` says how many a call of each side makes, ``seconds`` how long one round of calls takes, if known.
        """
        units = units or {}
        # The first round may compile. A new input every time: a calculator returns its last result for the same atoms.
        for index in () if seconds is not None else (-2, -1):
            start = time.perf_counter()
            for call in calls.values():
                call(index)
            self._wait()
            seconds = time.perf_counter() - start
        runs = max(FEWEST_RUNS, min(self.settings.runs, int(self.settings.max_seconds / max(seconds, 1e-6))))
        others = OtherWork()
        times, _ = interleaved(list(calls.values()), runs, synchronize=self._wait)
        others_cores = others.cores()
        turns = dict(zip(calls, times, strict=True))
        made = {
            "runs": runs,
            "samples_ms": [value / units.get("variant", 1) for value in turns["variant"].samples],
            "others_cores": others_cores,
        }
        if "eager" in turns:
            made["baseline_samples_ms"] = [value / units.get("eager", 1) for value in turns["eager"].samples]
        if "bare" in turns:
            made["bare_samples_ms"] = turns["bare"].samples
        return made

    # One molecule, through ASE

    def _calculator(self) -> Iterator[dict[str, Any]]:
        for name, atoms in self.systems.items():
            fields = {"system": name, "batch": 1, "n_atoms": len(atoms)}
            try:
                calls = {key: self._ase_call(atoms, side.potential) for key, side in self.sides.items()}
                calls["bare"] = self._bare_call(atoms)
                fields |= self._timed(calls)
            except Exception as error:
                fields |= self._why(error, self.sides["variant"], len(atoms))
            yield fields

    @staticmethod
    def _ase_call(atoms: "Atoms", potential: Potential) -> Callable[[int], object]:
        from mlff_distiller.potentials.ase import PotentialCalculator

        moved = atoms.copy()
        moved.calc = PotentialCalculator(potential)
        frames = [frame.positions for frame in _frames(atoms)]

        def call(index: int) -> object:
            moved.positions = frames[index % len(frames)]
            return moved.get_potential_energy(), moved.get_forces()

        return call

    def _bare_call(self, atoms: "Atoms") -> Callable[[int], object]:
        """The variant's call that the one through ASE contains, on the same geometries, its inputs already on the device."""
        potential = self.loaded.potential
        inputs = Batch.from_atoms([atoms], self.device, potential.dtype)
        moved = [
            inputs._replace(positions=Batch.from_atoms([frame], self.device, potential.dtype).positions)
            for frame in _frames(atoms)
        ]

        def call(index: int) -> object:
            return potential(*moved[index % len(moved)])

        return call

    def _md_steps(self) -> Iterator[dict[str, Any]]:
        from mlff_distiller.md.dynamics import driver

        steps = self.settings.steps_per_sample
        for atoms in [self.molecule]:
            fields = {"system": atoms.info["name"], "batch": 1, "n_atoms": len(atoms), "timestep_fs": TIMESTEP_FS}
            try:
                calls = {}
                for key, side in self.sides.items():
                    moving = driver(
                        _warm(atoms),
                        side.potential,
                        timestep_fs=TIMESTEP_FS,
                        # eager is far slower: fewer steps are enough
                        steps_between_samples=steps if key == "variant" else FEWEST_RUNS,
                    )
                    calls[key] = _Steps(moving, steps if key == "variant" else FEWEST_RUNS)
                    if key == "variant":
                        fields["loop"] = moving.loop
                fields |= self._timed(calls, {key: call.steps for key, call in calls.items()})
                fields |= self._energy(calls)
            except Exception as error:
                fields |= self._why(error, self.sides["variant"], len(atoms))
            yield fields

    def _energy(self, calls: "dict[str, _Steps]") -> dict[str, Any]:
        """Electrical energy of a step of each side, or why it was not measured."""
        joules = {}
        try:
            for key, steps in calls.items():
                used, meter = energy.per_call(steps, self.device, self._wait)
                joules[key] = used / steps.steps
        except Exception as error:
            return {"joule_per_step": None, "energy_reason": first_line(error)}
        return {
            "joule_per_step": joules["variant"],
            "baseline_joule_per_step": joules["eager"],
            "energy_meter": meter,
        }

    # Where the time goes

    def _profile(self) -> Iterator[dict[str, Any]]:
        from mlff_distiller.benchmark.profiling import profile_call
        from mlff_distiller.benchmark.roofline import ceilings

        atoms = self.molecule
        fields = {"system": atoms.info["name"], "batch": 1, "n_atoms": len(atoms), "n_edges": self._edges(atoms)}
        try:
            self.loaded.potential.release()
            inputs = Batch.from_atoms([atoms], self.device, self.loaded.potential.dtype)
            call = lambda: self.loaded.potential(*inputs)  # noqa: E731
            for _ in range(5):
                call()
                self.eager(*inputs)
            fields |= profile_call(call, self.device)
            # The baseline's, for comparison.
            fields["baseline"] = profile_call(lambda: self.eager(*inputs), self.device)
            fields["ceilings"] = ceilings(self.device)
        except Exception as error:
            fields |= self._why(error, self.sides["variant"], len(atoms))
        yield fields


class _Steps:
    """Some steps of a simulation as one timed call; it goes on from where it was."""

    def __init__(self, moving: Any, steps: int):
        self.moving, self.steps = moving, steps

    def __call__(self, index: int) -> None:
        self.moving.run(self.steps)


def _frames(atoms: "Atoms") -> "list[Atoms]":
    """Geometries of one molecule that calls take in turn."""
    return rattled(atoms, N_FRAMES, 0.01, seed=0)


def _warm(atoms: "Atoms") -> "Atoms":
    """A copy with velocities of :data:`TEMPERATURE_K`, at rest as a whole."""
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

    atoms = atoms.copy()
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE_K, rng=np.random.default_rng(0))
    Stationary(atoms)
    return atoms


class Reference:
    """The fp64 student's energy and forces of the unit box, and how far eager in float32 is from them there."""

    def __init__(self, checkpoint: Path, eager: Potential, unit: "Atoms"):
        self.exact, self.unit = fp64_reference(checkpoint, neighbors="auto"), unit
        energy, forces = self.exact(*Batch.from_atoms([unit], "cpu", torch.float64))
        self.energy, self.forces = float(energy[0]) / len(unit), forces.numpy()
        self.eager = self.errors(eager(*Batch.from_atoms([unit], eager.device, eager.dtype)))

    def errors(self, found: tuple[Tensor, Tensor]) -> dict[str, float]:
        """Errors of a repeated box, as :func:`mlff_distiller.variants.equivalence.errors_against` names them."""
        energy, forces = found[0].double().cpu().numpy(), found[1].double().cpu().numpy()
        deviations = boxes.force_errors(forces, self.forces)
        return {
            "force_rmse": float(np.sqrt(np.mean(deviations**2))),
            "force_max": float(np.abs(deviations).max()),
            "energy_rmse": abs(float(energy[0]) / len(forces) - self.energy),
        }

    def judge(self, found: tuple[Tensor, Tensor], times: tuple[int, int, int], precision: str) -> dict[str, Any]:
        """Fields of the record of a box of ``times`` units: the errors, and status and reason when they are too large.

        Beside eager's error counts what positions lose in float32, which no potential can make good.
        """
        errors = self.errors(found)
        held = boxes.in_float32(self.unit, times)
        lost = self.errors(self.exact(*Batch.from_atoms([held], "cpu", torch.float64)))
        plain = {key: math.hypot(self.eager[key], lost[key]) for key in ("force_rmse", "energy_rmse")}
        made: dict[str, Any] = {
            "force_rmse_mev_per_a": 1e3 * errors["force_rmse"],
            "force_max_mev_per_a": 1e3 * errors["force_max"],
            "eager_force_rmse_mev_per_a": 1e3 * self.eager["force_rmse"],
            "positions_force_rmse_mev_per_a": 1e3 * lost["force_rmse"],
        }
        if reason := judge(errors, plain, TOLERANCES[precision]):
            made |= {"status": "failed", "reason": reason}
        return made
