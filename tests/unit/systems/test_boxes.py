"""Positions reach float32 near the origin, however far the atoms have drifted; what float32 cannot hold is refused."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.boxes import Box
from mlff_distiller.utils.errors import UserError

SKEWED = np.array([[9.0, 0, 0], [1.0, 8.0, 0], [0.5, 0.3, 10.0]])


@pytest.fixture(scope="module")
def box(molecules):
    atoms = molecules["caffeine"].copy()
    atoms.set_cell(SKEWED)
    return atoms


def moved_by(atoms, steps):
    """Every atom by its own number of lattice vectors along periodic axes."""
    moved = atoms.copy()
    moved.positions += (np.asarray(steps) * atoms.pbc) @ atoms.cell.array
    return moved


@pytest.mark.parametrize("k", [1, 1000, 100_000])
@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 0, 1)], ids=str)
def test_forces_and_stress_of_a_box_that_drifted_are_as_good_as_at_home(student, student64, box, pbc, k):
    atoms = box.copy()
    atoms.pbc = pbc
    exact, plain = StudentCalculator(AutogradPotential(student64)), StudentCalculator(AutogradPotential(student))
    forces, stress = exact.get_forces(atoms), exact.get_stress(atoms)
    error = np.abs(plain.get_forces(atoms) - forces).max()
    steps = np.random.default_rng(k).integers(-k, k + 1, (len(atoms), 3))
    for moved in (moved_by(atoms, [k, -k, k]), moved_by(atoms, steps)):
        assert np.abs(plain.get_forces(moved) - forces).max() <= 2 * error
        np.testing.assert_allclose(exact.get_forces(moved), forces, atol=1e-8)
        np.testing.assert_allclose(exact.get_stress(moved), stress, atol=1e-9)
        batch = Batch.from_atoms([atoms, moved])
        found = AutogradPotential(student)(*batch)[1][len(atoms) :]
        assert np.abs(found.double().numpy() - forces).max() <= 2 * error


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slab_far_from_its_cell_is_centered_along_the_open_axis(student, student64, box, axis):
    atoms = box.copy()
    atoms.pbc = [i != axis for i in range(3)]
    forces = StudentCalculator(AutogradPotential(student64)).get_forces(atoms)
    plain = StudentCalculator(AutogradPotential(student))
    error = np.abs(plain.get_forces(atoms) - forces).max()
    atoms.positions += 1e6 * np.cross(atoms.cell[axis - 2], atoms.cell[axis - 1]) / 80
    assert np.abs(plain.get_forces(atoms) - forces).max() <= 2 * error


def test_fragments_too_far_apart_are_refused_by_name(student, molecules):
    pair = molecules["water"] + molecules["water"]
    pair.positions[3:] += [0, 3e4, 0]
    calculator = StudentCalculator(AutogradPotential(student))
    for ask in (calculator.get_forces, lambda atoms: Batch.from_atoms([atoms])):
        with pytest.raises(UserError, match=r"atom \d is 1\.5e\+04 A from the center of its system"):
            ask(pair)
    pair.positions[3:] -= [0, 3e4, 4]
    assert np.isfinite(calculator.get_forces(pair)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
def test_no_position_at_all(student, molecules, value):
    atoms = molecules["water"].copy()
    atoms.positions[1:] = value
    with pytest.raises(UserError, match="atom 1 is"):
        StudentCalculator(AutogradPotential(student)).get_forces(atoms)


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), (1, 1, 0)),
        ([5, 5, 0], (1, 1, 1)),
        ([[5, 0, 0], [10, 0, 0], [0, 0, 5]], (1, 1, 0)),
        ([[5, 0, 0], [0, 5, 0], [5, 5, 0]], (1, 1, 1)),
        ([5, 5, 0.05], (1, 1, 1)),
        ([5, 5, 1e7], (1, 1, 1)),
        ([5, np.nan, 5], (1, 1, 1)),
        ([np.inf, 5, 5], (1, 1, 1)),
        ([5, 5, np.inf], (1, 1, 0)),
    ],
)
def test_a_cell_without_sense_is_refused_before_any_search(student, cell, pbc):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.13]], cell=cell, pbc=pbc)
    with pytest.raises(UserError, match="cell"):
        StudentCalculator(AutogradPotential(student)).get_forces(atoms)


def test_lattice_vectors_of_open_axes_may_be_missing_or_flat():
    flat = Box(np.array([[5.0, 0, 0], [10, 0, 0], [0, 0, 5]]), np.array([True, False, True]))
    assert abs(np.linalg.det(flat.cell)) == pytest.approx(25)
    given = Box(SKEWED, np.array([True, False, True]))
    np.testing.assert_array_equal(given.cell, SKEWED)


def test_a_molecule_beside_a_box_in_a_batch(student64, molecules):
    potential = AutogradPotential(student64)
    crystal, water = bulk("NaCl", "rocksalt", a=5.6), molecules["water"].copy()
    water.set_cell([[5, 0, 0], [10, 0, 0], [0, 0, 0]])  # of no meaning
    both = potential(*Batch.from_atoms([crystal, water], dtype=torch.float64))[0]
    alone = [potential(*Batch.from_atoms([atoms], dtype=torch.float64))[0] for atoms in (crystal, water)]
    torch.testing.assert_close(both, torch.cat(alone))


def test_an_empty_system_at_the_end_of_a_batch_is_counted(student64, molecules):
    batch = Batch.from_atoms([molecules["water"], Atoms()], dtype=torch.float64)
    energies = AutogradPotential(student64)(*batch)[0]
    assert energies.shape == (2,)
    assert energies[1] == 0
    with pytest.raises(UserError, match="no atoms"):
        Batch.from_atoms([])
