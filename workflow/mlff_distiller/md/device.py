"""Molecular dynamics that stays on the device: many steps per CUDA graph replay, one molecule or many replicas at once.

NVE by velocity Verlet (Swope et al. 1982); NVT by Langevin dynamics in the BAOAB splitting (Leimkuhler and Matthews 2013).
Positions and velocities are float64, whatever the potential computes in: adding a step of 1e-3 A to a coordinate in
float32 would lose digits at every step, and far from the origin those of the distances. Units: A, eV, fs, amu; velocities
in A/fs.
"""

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mlff_distiller.md.measures import MOST_CHANGE
from mlff_distiller.md.near_origin import NearOrigin
from mlff_distiller.potentials.base import HasProgram, Potential, Program
from mlff_distiller.potentials.graphed import CapturedCall
from mlff_distiller.systems.units import BOLTZMANN
from mlff_distiller.utils.errors import UserError

#: eV in amu A^2 / fs^2 (CODATA 2018).
ACCELERATION = 9.648533212331e-3


class Frame(NamedTuple):
    """The state after some steps; copies, on the device."""

    step: int
    time_fs: float
    positions: Tensor  # [N, 3] A, float64
    velocities: Tensor  # [N, 3] A/fs, float64
    potential: Tensor  # [B] eV
    kinetic: Tensor  # [B] eV
    forces: Tensor  # [N, 3] eV/A


@dataclass
class State:
    """All that is needed to continue with exactly the same steps."""

    step: int
    positions: Tensor
    velocities: Tensor
    generator: Tensor = field(repr=False)  # of the random numbers


class AnyPotential:
    """Any potential as a :class:`~mlff_distiller.potentials.base.Program`; there is nothing to capture."""

    def __init__(self, potential: Potential, arguments: tuple):
        numbers, positions, *self.rest = arguments
        self.potential, self.numbers = potential, numbers
        self.positions = positions.clone()
        self.launch()

    def launch(self) -> None:
        """Energies and forces at ``positions``."""
        self.energies, self.forces = self.potential(self.numbers, self.positions, *self.rest)

    def overflowed(self) -> bool:
        """Never: the potential searches neighbors at every call."""
        return False


class DeviceDynamics:
    """A simulation.

    Args:
        potential: of any kind; one that :class:`~mlff_distiller.potentials.base.HasProgram` runs ``steps_per_replay``
            steps as one CUDA graph.
        numbers, positions, batch, cell, pbc: as for the potential.
        masses: [N] amu.
        timestep_fs: one step.
        temperature_k: of the starting velocities, and of the thermostat; one for all systems, or one for each.
        friction_per_fs: 0 for NVE; otherwise the Langevin thermostat's.
        seed: of velocities and noise; the same seed gives the same trajectory on the same device.
        steps_per_replay: steps between two frames.
        velocities: [N, 3] A/fs to start with, instead of random ones.

    Raises:
        UserError: an invalid time step, temperature or friction, or an error of the potential.
    """

    @torch.inference_mode(False)  # the buffers outlive the caller's mode
    def __init__(
        self,
        potential: Potential,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        masses: Tensor,
        *,
        timestep_fs: float,
        temperature_k: float | Sequence[float] = 300.0,
        friction_per_fs: float = 0.0,
        seed: int = 0,
        steps_per_replay: int = 20,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        velocities: Tensor | None = None,
    ):
        coldest = temperature_k if isinstance(temperature_k, int | float) else min(temperature_k)
        if not timestep_fs > 0 or not coldest >= 0 or not friction_per_fs >= 0 or steps_per_replay < 1:
            raise UserError(
                f"dynamics: timestep_fs {timestep_fs} and steps_per_replay {steps_per_replay} must be positive, "
                f"temperature_k {coldest} and friction_per_fs {friction_per_fs} not negative"
            )
        device = positions.device
        self.potential, self.batch = potential, batch
        self.timestep, self.friction, self.replay = timestep_fs, friction_per_fs, steps_per_replay
        self.n_systems = cell.shape[0] if cell is not None else int(batch[-1]) + 1
        self.n_atoms = torch.bincount(batch, minlength=self.n_systems).clamp(min=1)
        self.masses = masses.to(device, torch.float64)[:, None]
        temperatures = torch.as_tensor(temperature_k, dtype=torch.float64, device=device).expand(self.n_systems)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.positions = positions.detach().to(torch.float64).clone()
        self.near_origin = NearOrigin(self.positions, batch, cell, pbc)
        moved = torch.empty_like(self.positions, dtype=potential.dtype)
        self.near_origin.write(self.positions, moved)
        self.arguments = (numbers, moved, batch, cell, pbc)
        if velocities is None:
            velocities = self._thermal(temperatures)
        self.velocities = velocities.to(device, torch.float64).clone()
        self.noise = torch.zeros([steps_per_replay, *self.positions.shape], dtype=torch.float64, device=device)
        self.thermal = torch.sqrt(BOLTZMANN * temperatures[batch][:, None] * ACCELERATION / self.masses)
        self.step = 0
        self._prepare()
        start = self.frame()
        self.start = start.potential, start.kinetic

    def _thermal(self, temperatures: Tensor) -> Tensor:
        """Maxwell-Boltzmann velocities, each system's center of mass at rest."""
        shape = self.positions.shape
        normal = torch.randn(shape, generator=self.generator, dtype=torch.float64, device=self.positions.device)
        velocities = normal * torch.sqrt(BOLTZMANN * temperatures[self.batch][:, None] * ACCELERATION / self.masses)
        total = self._per_system(self.masses * velocities) / self._per_system(self.masses)
        return velocities - total[self.batch]

    def _per_system(self, values: Tensor) -> Tensor:
        zeros = torch.zeros([self.n_systems, values.shape[1]], dtype=values.dtype, device=values.device)
        return zeros.index_add(0, self.batch, values)

    @torch.inference_mode(False)
    def _prepare(self) -> None:
        """Get the potential's buffers and the forces at the start."""
        captured = isinstance(self.potential, HasProgram)
        self.program: Program = (
            self.potential.program(*self.arguments) if captured else AnyPotential(self.potential, self.arguments)
        )
        device = self.positions.device if captured else torch.device("cpu")  # nothing to capture otherwise
        # A weak reference: with the method itself, the graph would live until garbage collection.
        steps = weakref.WeakMethod(self._steps)
        self.advance = CapturedCall(lambda: steps()(), device)
        # Capturing calls the steps several times, which moves the atoms: undo that.
        before = self.positions.clone(), self.velocities.clone()
        self._evaluate()
        if captured:
            self.noise.zero_()
            self.advance.capture()
            self.positions.copy_(before[0])
            self.velocities.copy_(before[1])
            self._evaluate()

    def _evaluate(self) -> None:
        self.near_origin.write(self.positions, self.program.positions)
        self.program.launch()

    def _kick(self, part: float) -> None:
        scale = part * self.timestep * ACCELERATION
        self.velocities.addcdiv_(self.program.forces.to(torch.float64), self.masses, value=scale)

    def _steps(self) -> None:
        if self.friction == 0.0:
            self._kick(0.5)
            for step in range(self.replay):
                self.positions.add_(self.velocities, alpha=self.timestep)
                self._evaluate()
                # The second half kick of this step and the first of the next one in one.
                self._kick(1.0 if step < self.replay - 1 else 0.5)
            return
        keep = math.exp(-self.friction * self.timestep)
        spread = (1.0 - keep * keep) ** 0.5
        for step in range(self.replay):
            self._kick(0.5)
            self.positions.add_(self.velocities, alpha=0.5 * self.timestep)
            self.velocities.mul_(keep).addcmul_(self.noise[step], self.thermal, value=spread)
            self.positions.add_(self.velocities, alpha=0.5 * self.timestep)
            self._evaluate()
            self._kick(0.5)

    def run(self, n_steps: int, judged: bool = True) -> Iterator[Frame]:
        """Frames every ``steps_per_replay`` steps, ``n_steps`` steps in all, the starting point first.

        Args:
            n_steps: a multiple of ``steps_per_replay``.
            judged: raise for systems that diverge; without it the caller judges the frames.

        Raises:
            UserError: ``n_steps`` is no such multiple; where ``judged``, a coordinate is not finite, or an energy has
                changed by more than :data:`MOST_CHANGE`; names the atom or system and the step.
        """
        if n_steps % self.replay:
            raise UserError(f"dynamics: {n_steps} steps are not a multiple of steps_per_replay {self.replay}")
        yield self.frame()
        for _ in range(n_steps // self.replay):
            before = self.state()
            if self.friction > 0.0:
                self.noise.normal_(generator=self.generator)
            self.advance()
            while self.program.overflowed():
                # An atom had more neighbors than there was room for: repeat the steps with more room.
                noise = self.noise.clone()
                self.positions.copy_(before.positions)
                self.velocities.copy_(before.velocities)
                self._prepare()
                self.noise.copy_(noise)
                self.advance()
            self.step += self.replay
            frame = self.frame()
            if judged:
                self._check(frame)
            yield frame

    def frame(self) -> Frame:
        """The current state."""
        kinetic = 0.5 / ACCELERATION * self._per_system((self.masses * self.velocities**2).sum(1, keepdim=True))[:, 0]
        return Frame(
            self.step,
            self.step * self.timestep,
            self.positions.clone(),
            self.velocities.clone(),
            self.program.energies.clone(),
            kinetic,
            self.program.forces.clone(),
        )

    def state(self) -> State:
        """What :meth:`restore` needs to continue from here."""
        return State(self.step, self.positions.clone(), self.velocities.clone(), self.generator.get_state())

    def restore(self, state: State) -> None:
        """Continue from ``state``; the steps after it are the same, bit for bit, as they were the first time."""
        self.step = state.step
        self.positions.copy_(state.positions)
        self.velocities.copy_(state.velocities)
        self.generator.set_state(state.generator)
        self._evaluate()

    def _check(self, frame: Frame) -> None:
        lost = ~(frame.positions.isfinite().all(dim=1) & frame.forces.isfinite().all(dim=1))
        change = torch.maximum((frame.potential - self.start[0]).abs(), (frame.kinetic - self.start[1]).abs())
        # Not ">": an energy may be NaN.
        absurd = ~(change <= MOST_CHANGE * self.n_atoms)
        # A single transfer for both, since each waits for the device.
        if not bool(torch.cat([lost, absurd]).any()):
            return
        advice = f"at step {frame.step} ({frame.time_fs:g} fs); a shorter time step than {self.timestep:g} fs may help"
        if bool(lost.any()):
            atom = int(torch.nonzero(lost)[0, 0])
            raise UserError(
                f"dynamics: atom {atom} of system {int(self.batch[atom])} has a position or force that is not a number "
                f"{advice}"
            )
        system = int(torch.nonzero(absurd)[0, 0])
        raise UserError(
            f"dynamics: system {system} has a potential energy of {float(frame.potential[system]):.6g} eV and a kinetic one of "
            f"{float(frame.kinetic[system]):.6g} eV (they began at {float(self.start[0][system]):.6g} and "
            f"{float(self.start[1][system]):.6g}), which no physics gives, {advice}"
        )
