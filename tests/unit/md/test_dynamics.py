"""The loop on the device against ASE's: the same trajectory, handed over to ase.Atoms in ASE's units."""

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_distiller.md.device import AnyPotential
from mlff_distiller.md.dynamics import driver, steps_between_samples, thermostat
from mlff_distiller.md.langevin import kinetic_energies, run_langevin
from mlff_distiller.md.langevin_settings import LangevinSettings
from mlff_distiller.md.near_origin import NearOrigin
from mlff_distiller.md.start import set_thermal_velocities
from mlff_distiller.md.thermostat import compare_with_gamma
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError


class OnDevice(AutogradPotential):
    """A potential with a device loop, on a CPU: the same calls on buffers that stay."""

    def program(self, *arguments):
        return AnyPotential(self, arguments)


def moving(molecules, potential, loop="auto", interval=5):
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

    atoms = molecules["benzene"].copy()
    atoms.positions += 7.0  # the origin must not matter
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(1))
    Stationary(atoms)
    return atoms, driver(atoms, potential, timestep_fs=0.5, steps_between_samples=interval, loop=loop)


def test_both_loops_take_the_same_steps(molecules, student64):
    potential = OnDevice(student64)
    ase_atoms, by_ase = moving(molecules, potential, loop="ase")
    atoms, on_device = moving(molecules, potential)
    assert (by_ase.loop, on_device.loop) == ("ase", "device")
    for _ in range(3):
        by_ase.run(10)
        on_device.run(10)
        assert on_device.nsteps == by_ase.nsteps
        # The constants of the two differ in the eighth digit (CODATA 2014 and 2018).
        np.testing.assert_allclose(atoms.positions, ase_atoms.positions, rtol=0, atol=1e-6)
        np.testing.assert_allclose(atoms.get_momenta(), ase_atoms.get_momenta(), rtol=0, atol=1e-5)
        assert atoms.get_total_energy() == pytest.approx(ase_atoms.get_total_energy(), abs=1e-6)
        np.testing.assert_allclose(atoms.get_forces(), ase_atoms.get_forces(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("pbc", "axis"), [([True] * 3, 0), ([True, True, False], 2), ([False] * 3, 1)])
@pytest.mark.parametrize("vectors", [10, -1000, 100000])
def test_atoms_far_from_the_origin_move_as_those_near_it(molecules, student, pbc, axis, vectors):
    """Moved by whole lattice vectors, or along an open axis, in float32: not a digit of the forces is lost.

    The walls of this student make its bonds stiff: the last digit of a position is up to 3e-5 eV/A.
    """
    water = molecules["water"].copy()
    water.center()
    box = Atoms(cell=[12.3, 6.1, 6.1], pbc=pbc)
    for shift in (0.0, 3.9, 8.1):
        one = water.copy()
        one.positions += [shift, 0.5, 0.5]
        box += one
    box.cell[1] = [0.7, 6.1, 0.2]
    set_thermal_velocities(box, 300, 0)
    found = []
    for number in (0, vectors):
        moved = box.copy()
        moved.positions += number * box.cell[axis]
        dynamics = driver(moved, OnDevice(student), timestep_fs=0.5, steps_between_samples=5)
        forces = [moved.get_forces()]
        dynamics.run(20)
        found.append((*forces, moved.get_forces(), moved.positions - number * box.cell[axis]))
    for near, far in zip(*found, strict=True):
        np.testing.assert_allclose(far, near, rtol=0, atol=1e-4)


def test_a_batch_far_from_the_origin_is_brought_near(molecules, student64):
    """Two molecules and a box, each at another place: what the potential gets is within the cell, or around the origin."""
    systems = [molecules["water"].copy(), molecules["benzene"].copy(), molecules["water"].copy()]
    systems[1].set_cell([9.0, 8.0, 7.0])
    systems[1].pbc = True
    inputs = Batch.from_atoms(systems, dtype=torch.float64)
    places = torch.tensor([[3e3, -2e3, 50.0], [900.0, -1600.0, 7.0], [0.0, 0.0, 0.0]], dtype=torch.float64)[
        inputs.batch
    ]
    moved = torch.empty_like(inputs.positions)
    NearOrigin(inputs.positions + places, inputs.batch, inputs.cell, inputs.pbc).write(inputs.positions + places, moved)
    assert moved.abs().max() < 10
    energies, forces = AutogradPotential(student64)(*inputs)
    again, their_forces = AutogradPotential(student64)(*inputs._replace(positions=moved))
    torch.testing.assert_close(again, energies, rtol=0, atol=1e-9)
    torch.testing.assert_close(their_forces, forces, rtol=0, atol=1e-9)


def test_the_thermostat_stays_on_the_device_too(molecules, student64):
    """Water at 300 K: the kinetic energy of nine free velocities, and the same trajectory from the same seed."""
    settings = LangevinSettings(friction_per_fs=0.05, seed=3, equilibration_steps=100, steps=3000, sample_every=10)
    potential = OnDevice(student64)

    def made(atoms, settings):
        dynamics = thermostat(atoms, potential, settings)
        assert dynamics.loop == "device"
        return dynamics

    runs = [run_langevin(molecules["water"].copy(), settings, made) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].positions, runs[1].positions)
    atoms = molecules["water"]
    outcome = compare_with_gamma([kinetic_energies(runs[0], atoms.get_masses())], 9, 300.0)
    assert abs(outcome["mean_temperature_k"] - 300.0) < 5 * outcome["temperature_stderr_k"]
    assert outcome["p_value"] > 1e-3


def test_the_thermostat_is_ase_s_elsewhere(molecules, student64):
    from ase.md.langevin import Langevin

    settings = LangevinSettings(friction_per_fs=0.05, seed=3, equilibration_steps=0, sample_every=10)
    assert isinstance(thermostat(molecules["water"].copy(), AutogradPotential(student64), settings), Langevin)


def test_a_loop_that_is_not_there_is_refused(molecules, student64):
    with pytest.raises(UserError, match="AutogradPotential has no loop on the device; use loop: auto or ase"):
        moving(molecules, AutogradPotential(student64), loop="device")
    with pytest.raises(UserError, match="loop cannot be 'gpu'; there are auto, ase, device"):
        moving(molecules, AutogradPotential(student64), loop="gpu")


def test_steps_between_samples_is_the_greatest_common_divisor():
    assert steps_between_samples(100, 500, 10) == 10
    assert steps_between_samples(0, 2000, 16) == 16
