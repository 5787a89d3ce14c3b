"""Dynamics on fixed buffers; on a CPU with any potential, on a GPU as graphs."""

import copy
import gc
import weakref

import pytest
import torch

from mlff_distiller.kernels.cuda.build import unavailable
from mlff_distiller.md.device import ACCELERATION, AnyPotential, DeviceDynamics
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.base import HasProgram, Potential, Program
from mlff_distiller.potentials.graphed import CapturedCall
from mlff_distiller.systems.units import BOLTZMANN
from mlff_distiller.utils.errors import UserError

NUMBERS = torch.tensor([8, 1, 1, 6, 1, 1, 1, 1])
MASSES = torch.tensor([15.999, 1.008, 1.008, 12.011, 1.008, 1.008, 1.008, 1.008])
BATCH = torch.tensor([0] * 3 + [1] * 5)


class Springs(Potential):
    """Every atom on its own spring, eV/A^2: what dynamics should give is known."""

    cutoff, device, dtype = 5.0, torch.device("cpu"), torch.float64
    stiffness = 10.0

    def __call__(self, numbers, positions, batch, cell=None, pbc=None):
        atomic = 0.5 * self.stiffness * (positions**2).sum(dim=1)
        energies = torch.zeros([int(batch[-1]) + 1], dtype=torch.float64).index_add(0, batch, atomic)
        return energies, -self.stiffness * positions

    def energy(self, numbers, positions, batch, cell=None, pbc=None):
        return self(numbers, positions, batch, cell, pbc)[0]


class TooNarrow(AnyPotential):
    """A program whose results are wrong until it was asked whether it overflowed."""

    def launch(self):
        super().launch()
        self.forces = 2 * self.forces

    def overflowed(self):
        return True


class SpringsOnDevice(Springs):
    """Springs with a device loop, whose first program has too little room."""

    def __init__(self):
        self.programs = []

    def program(self, numbers, positions, batch, cell=None, pbc=None):
        kind = AnyPotential if self.programs else TooNarrow
        self.programs.append(kind(self, (numbers, positions, batch, cell, pbc)))
        return self.programs[-1]


def positions(seed=0):
    """Around the origin, to which the springs are tied and each system is brought."""
    drawn = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([system - system.mean(dim=0) for system in drawn.split([3, 5])])


def test_verlet_follows_the_exact_oscillation():
    start = positions()
    rate = torch.sqrt(Springs.stiffness * ACCELERATION / MASSES.double())[:, None]
    errors = []
    for timestep in (0.2, 0.1):
        dynamics = DeviceDynamics(Springs(), NUMBERS, start, BATCH, MASSES, timestep_fs=timestep, velocities=start * 0)
        *_, last = dynamics.run(round(40 / timestep))
        assert last.time_fs == pytest.approx(40.0)
        errors.append((last.positions - start * torch.cos(rate * 40.0)).abs().max().item())
    assert errors[1] < 2e-3
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.25)


def test_energy_of_a_student_is_conserved_to_second_order(student64):
    spreads = []
    for timestep in (0.2, 0.1):
        dynamics = DeviceDynamics(
            AutogradPotential(student64),
            NUMBERS,
            positions() * 1.5,
            BATCH,
            MASSES,
            timestep_fs=timestep,
            temperature_k=50.0,
        )
        total = torch.stack([frame.potential + frame.kinetic for frame in dynamics.run(round(8 / timestep))])
        spreads.append((total - total[0]).abs().max().item())
    assert spreads[0] / spreads[1] > 3.0


def test_langevin_reaches_its_temperature_and_repeats():
    def dynamics(seed):
        return DeviceDynamics(
            Springs(),
            NUMBERS.repeat(60),
            positions().repeat(60, 1),
            torch.arange(60).repeat_interleave(8),
            MASSES.repeat(60),
            timestep_fs=0.5,
            temperature_k=300.0,
            friction_per_fs=0.05,
            seed=seed,
        )

    run = dynamics(1)
    kinetic = torch.stack([frame.kinetic.mean() for frame in run.run(1000)][20:])
    assert kinetic.mean() / (8 * 1.5 * BOLTZMANN) == pytest.approx(300.0, rel=0.03)
    state = run.state()
    *_, ahead = run.run(40)
    run.restore(state)
    *_, again = run.run(40)
    assert torch.equal(ahead.positions, again.positions)
    assert ahead.step == again.step
    first, same, other = (list(dynamics(seed).run(40))[-1].positions for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_starting_velocities_have_no_net_momentum():
    dynamics = DeviceDynamics(Springs(), NUMBERS, positions(), BATCH, MASSES, timestep_fs=0.5)
    momentum = torch.zeros(2, 3, dtype=torch.float64).index_add(
        0, BATCH, dynamics.velocities * MASSES.double()[:, None]
    )
    assert momentum.abs().max() < 1e-14


def test_an_atom_that_is_lost_is_named():
    start = positions()
    start[5, 1] = float("nan")
    dynamics = DeviceDynamics(Springs(), NUMBERS, start, BATCH, MASSES, timestep_fs=0.5)
    with pytest.raises(UserError, match=r"atom 5 of system 1 .* step 20"):
        list(dynamics.run(20))


class Cliffs(Springs):
    """Springs that push: finite numbers without end."""

    stiffness = -1e3


def test_energies_that_no_physics_has_are_an_error_with_the_step():
    still = BATCH[:, None] * positions()  # the first system stays where it is
    dynamics = DeviceDynamics(Cliffs(), NUMBERS, still, BATCH, MASSES, timestep_fs=1.0, velocities=still * 0)
    with pytest.raises(
        UserError, match=r"system 1 has a potential energy of -.* eV .* no physics .* at step 20 \(20 fs\)"
    ):
        list(dynamics.run(400))
    hot = DeviceDynamics(
        Springs(), NUMBERS, positions(), BATCH, MASSES, timestep_fs=30.0, temperature_k=300.0, steps_per_replay=5
    )
    with pytest.raises(UserError, match=r"no physics gives, at step \d+ .*; a shorter time step than 30 fs may help"):
        list(hot.run(4000))


def test_dynamics_made_in_inference_mode_go_on_outside(student64):
    with torch.inference_mode():
        dynamics = DeviceDynamics(
            AutogradPotential(student64), NUMBERS, positions() * 1.5, BATCH, MASSES, timestep_fs=0.1, steps_per_replay=2
        )
        inside = list(dynamics.run(2))[-1]
    again = DeviceDynamics(
        AutogradPotential(student64), NUMBERS, positions() * 1.5, BATCH, MASSES, timestep_fs=0.1, steps_per_replay=2
    )
    assert torch.equal(list(again.run(2))[-1].positions, inside.positions)
    assert torch.equal(list(again.run(2))[-1].positions, list(dynamics.run(2))[-1].positions)


def test_a_simulation_dies_when_it_is_let_go():
    """Its graph, too: one that waited for a collection of garbage could die in the middle of a capture."""
    dynamics = DeviceDynamics(Springs(), NUMBERS, positions(), BATCH, MASSES, timestep_fs=0.5)
    ends = weakref.ref(dynamics), weakref.ref(dynamics.advance)
    gc.disable()
    try:
        del dynamics
        assert [end() for end in ends] == [None, None]
    finally:
        gc.enable()


def test_steps_that_overflowed_are_taken_again():
    frames = []
    for potential in (Springs(), SpringsOnDevice()):
        dynamics = DeviceDynamics(
            potential, NUMBERS, positions(), BATCH, MASSES, timestep_fs=0.5, friction_per_fs=0.05, seed=3
        )
        frames.append(list(dynamics.run(60))[-1])
    assert len(potential.programs) == 2
    assert all(torch.equal(one, other) for one, other in zip(*(frame[2:] for frame in frames), strict=True))


def test_who_has_a_program():
    assert isinstance(SpringsOnDevice(), HasProgram)
    assert not isinstance(Springs(), HasProgram)
    program = SpringsOnDevice().program(NUMBERS, positions(), BATCH)
    assert isinstance(program, Program)
    assert program.energies.shape == (2,)
    assert program.forces.shape == (8, 3)


@pytest.mark.parametrize("wrong", [{"timestep_fs": 0.0}, {"temperature_k": -1.0}, {"steps_per_replay": 0}])
def test_wrong_settings(wrong):
    with pytest.raises(UserError, match="must be positive"):
        DeviceDynamics(Springs(), NUMBERS, positions(), BATCH, MASSES, **({"timestep_fs": 0.5} | wrong))


def test_steps_come_in_whole_replays():
    dynamics = DeviceDynamics(Springs(), NUMBERS, positions(), BATCH, MASSES, timestep_fs=0.5, steps_per_replay=20)
    with pytest.raises(UserError, match="30 steps are not a multiple of steps_per_replay 20"):
        next(dynamics.run(30))


class CapturedAsOnAGpu(CapturedCall):
    """Calls and captures as on a GPU, where a capture calls the function several times, and a replay is one call more."""

    def __call__(self):
        if self.graph is None and self.calls_left > 0:
            self.calls_left -= 1
            self.function()
            return
        self.capture()
        self.function()

    def capture(self):
        if self.graph is None:
            for _ in range(3):
                self.function()
            self.graph = "captured"


@pytest.mark.parametrize("friction", [0.0, 0.01])
def test_a_capture_moves_nothing(friction, monkeypatch):
    """Frames are the same, whenever and however often steps are called to be captured."""

    def frames():
        dynamics = DeviceDynamics(
            SpringsOnDevice(), NUMBERS, positions(), BATCH, MASSES, timestep_fs=0.5, friction_per_fs=friction,
            steps_per_replay=10,
        )  # fmt: skip
        return list(dynamics.run(80))

    expected = frames()
    monkeypatch.setattr("mlff_distiller.md.device.CapturedCall", CapturedAsOnAGpu)
    for frame, right in zip(frames(), expected, strict=True):
        torch.testing.assert_close(frame.positions, right.positions, rtol=0, atol=1e-14)
        torch.testing.assert_close(frame.velocities, right.velocities, rtol=0, atol=1e-14)


@pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
@pytest.mark.parametrize("friction", [0.0, 0.01])
def test_graphs_take_the_same_steps(student, friction):
    """The kernels' graphs against one call of autograd a step, on the same device."""
    from mlff_distiller.potentials.cuda import CudaPotential

    moved = copy.deepcopy(student).to("cuda")
    frames = []
    for potential in (CudaPotential(moved), AutogradPotential(moved)):
        arguments = [x.to("cuda") for x in (NUMBERS, positions() * 1.5, BATCH)]
        dynamics = DeviceDynamics(
            potential,
            *arguments,
            MASSES,
            timestep_fs=0.1,
            temperature_k=50.0,
            friction_per_fs=friction,
            steps_per_replay=10,
        )
        frames.append(list(dynamics.run(50))[-1])
    torch.testing.assert_close(frames[0].positions, frames[1].positions, rtol=0, atol=1e-5)
    torch.testing.assert_close(frames[0].potential, frames[1].potential, rtol=0, atol=1e-4)
