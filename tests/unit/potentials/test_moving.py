"""A system whose atoms move has the energy and forces of a new one wherever it is, and is refused where that is."""

import copy

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_distiller.kernels.cuda.build import unavailable
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.potentials.cuda import CudaPotential
from mlff_distiller.potentials.moving import MovingSystem
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError

CHECKPOINT = "resources/student/student.safetensors"


def emulated(student, emulate):
    return CudaPotential(student, libraries=emulate(student.config), products="float32")


def on_the_card(student, emulate):
    if (why := unavailable()) is not None:
        pytest.skip(why)
    return CudaPotential(student.to("cuda"))


KINDS = {
    "eager": lambda student, _: AutogradPotential(student),
    "cpp": lambda student, _: CppPotential(student),
    "cuda, emulated": emulated,
    "cuda": on_the_card,
}


@pytest.fixture(params=KINDS)
def potential(request, emulate):
    return KINDS[request.param](load_student(CHECKPOINT), emulate)


@pytest.fixture(scope="module")
def exact():
    return AutogradPotential(load_student(CHECKPOINT, dtype=torch.float64))


def water(far: float = 0.0) -> Atoms:
    return Atoms("OH2", np.array([[far, 0.0, 0.0], [far + 0.76, 0.59, 0.0], [far - 0.76, 0.59, 0.0]]))


def expected(exact, atoms):
    energies, forces = exact(*Batch.from_atoms([atoms], torch.device("cpu"), torch.float64))
    return float(energies), forces.numpy()


@pytest.mark.parametrize("periodic", [False, True])
def test_energy_and_forces_are_those_of_where_the_atoms_are(potential, exact, periodic):
    atoms = water(far=5000.0)
    if periodic:
        atoms.cell, atoms.pbc = np.diag([6.0, 6.5, 7.0]), True
    moving = MovingSystem(potential, atoms)
    random = np.random.default_rng(3)
    for step in range(4):
        if step:
            atoms.positions += random.normal(0.0, 0.03, [3, 3])
            moving.move(atoms.positions)
        energy, forces = moving.energy_and_forces()
        right_energy, right_forces = expected(exact, atoms)
        assert abs(energy - right_energy) < 2e-4
        assert np.abs(forces - right_forces).max() < 5e-4
        assert forces.dtype == np.float64
    # Results that were handed out stay.
    before = forces.copy()
    moving.move(water().positions)
    moving.energy_and_forces()
    assert np.array_equal(forces, before)


def test_what_else_is_asked_of_a_moved_system_is_of_its_new_place(potential):
    atoms = water()
    calculator = PotentialCalculator(potential)
    calculator.get_property("forces", atoms)
    atoms.positions[1] += [0.1, 0.05, 0.0]
    found = calculator.get_property("force_uncertainties", atoms)
    fresh = PotentialCalculator(potential).get_property("force_uncertainties", atoms)
    assert np.allclose(found, fresh, rtol=1e-6)
    assert np.array_equal(
        calculator.get_property("forces", atoms), copy.deepcopy(calculator).get_property("forces", atoms)
    )


def test_bad_places_are_refused_and_good_ones_answered_again(potential, exact):
    atoms = water()
    moving = MovingSystem(potential, atoms)
    moving.energy_and_forces()
    lost = atoms.positions.copy()
    lost[2, 0] = np.nan
    with pytest.raises(UserError, match="atom 2 is at"):
        moving.move(lost)
    close = atoms.positions.copy()
    close[1] = close[0] + [0.3, 0.0, 0.0]
    moving.move(close)
    with pytest.raises(UserError, match=r"atoms 0 \(O\) and 1 \(H\) are 0.300 A apart"):
        moving.energy_and_forces()
    moving.move(atoms.positions)
    assert abs(moving.energy_and_forces()[0] - expected(exact, atoms)[0]) < 2e-4


def test_a_small_molecule_is_one_launch_from_the_host(emulate):
    """But for what it does not serve."""
    potential = emulated(load_student(CHECKPOINT), emulate)
    batch = Batch.from_atoms([water()], potential.device, potential.dtype)
    assert potential.program_on_host(*batch) is not None
    many = potential.molecule.most_atoms + 1
    large = Atoms(f"C{many}", np.arange(3.0 * many).reshape(-1, 3))
    pair = Batch.from_atoms([water(), water()], potential.device, potential.dtype)
    box = water()
    box.cell, box.pbc = np.eye(3) * 6.0, True
    for other in (Batch.from_atoms([large], potential.device, potential.dtype), pair,
                  Batch.from_atoms([box], potential.device, potential.dtype)):  # fmt: skip
        assert potential.program_on_host(*other) is None


def test_more_neighbors_than_it_has_room_for_are_left_to_the_other_kernels(emulate, exact):
    potential, atoms = emulated(load_student(CHECKPOINT), emulate), water()
    moving = MovingSystem(potential, atoms)
    moving.energy_and_forces()
    assert moving._program is None  # what never moves is worth no preparations
    moving.move(atoms.positions)
    # The kernel says so where it has counted more.
    moving._program.program.most.fill_(moving._program.program.capacity + 1)
    energy, forces = moving.energy_and_forces()
    assert moving._program is None
    atoms.positions[0, 2] += 0.05
    moving.move(atoms.positions)
    right_energy, right_forces = expected(exact, atoms)
    energy, forces = moving.energy_and_forces()
    assert abs(energy - right_energy) < 2e-4
    assert np.abs(forces - right_forces).max() < 5e-4
