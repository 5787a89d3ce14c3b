"""Optimised geometries and frequencies against toys whose answers are known."""

import numpy as np
import pytest
from ase import units
from ase.build import molecule
from ase.data import atomic_masses
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

from mlff_distiller.acceptance.minima import compare_minima, optimise, rmsd
from mlff_distiller.acceptance.vibrations import compare_frequencies, frequencies
from mlff_distiller.calculator import StudentCalculator
from tests.unit.acceptance.toys import Springs

TRIANGLE = np.array([[0.0, 0, 0], [1.5, 0, 0], [0.75, 1.3, 0]])
PAIRS = [(0, 1), (0, 2), (1, 2)]


def wavenumber(stiffness, mass):
    """sqrt(k/m) of eV/A^2 and amu in 1/cm."""
    return 1e10 * np.sqrt(stiffness * units._e / (mass * units._amu)) / (2 * np.pi * units._c * 100)


def test_a_diatomic_has_one_frequency_the_known_one():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.1]])
    found = frequencies(Springs([(0, 1)], 30.0, 1.1), [6, 8], positions, 0.005)
    reduced = 1 / (1 / atomic_masses[6] + 1 / atomic_masses[8])
    assert found == pytest.approx([wavenumber(30.0, reduced)], rel=1e-4)


def test_a_triangle_of_springs_has_its_three_known_frequencies():
    # Equal masses m: sqrt(3k/2m) twice and sqrt(3k/m).
    side = 1.4
    positions = side * np.array([[0.0, 0, 0], [1, 0, 0], [0.5, np.sqrt(3) / 2, 0]])
    found = frequencies(Springs(PAIRS, 20.0, side), [7, 7, 7], positions, 0.002)
    mass = atomic_masses[7]
    expected = [wavenumber(30.0, mass), wavenumber(30.0, mass), wavenumber(60.0, mass)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_maximum_has_an_imaginary_frequency():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.1]])
    assert frequencies(Springs([(0, 1)], -30.0, 1.1), [6, 8], positions, 0.005)[0] < -1000


def test_a_dent_shows_in_the_dependence_on_the_displacement():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.1]])
    found = {}
    for name, quartic in (("teacher", 0.0), ("student", 2000.0)):
        toy = Springs([(0, 1)], 30.0, 1.1, quartic)
        found[name] = {f"{d:g}": frequencies(toy, [6, 8], positions, d).tolist() for d in (0.01, 0.002, 0.05)}
    record = compare_frequencies([0.01, 0.002, 0.05], found["teacher"], found["student"])
    # The secant of the force: k + 4 q d^2 instead of k.
    first, last = (np.sqrt(1 + 8000 * d**2 / 30) for d in (0.002, 0.05))
    assert record["change_per_cm"] == pytest.approx((last - first) * record["changed_frequency_per_cm"], rel=1e-3)
    assert record["teacher_change_per_cm"] < 0.1
    assert record["frequency_error_per_cm"] > 0
    assert record["imaginary"] == 0


def test_the_student_that_ships_has_no_dent_at_a_symmetric_minimum():
    """At the middle of a tetrahedron some features vanish; their norm has to be smooth there."""
    methane = molecule("CH4")
    methane.calc = StudentCalculator.from_checkpoint("resources/student/student.safetensors", dtype="float64")
    BFGS(methane, logfile=None).run(fmax=1e-4, steps=200)
    found = [frequencies(methane.calc, methane.numbers, methane.positions, d) for d in (0.0005, 0.01, 0.05)]
    assert len(found[0]) == 9
    # Bends of T2 and of E; the curvature of the bond changes by some 10 1/cm within 0.05 A.
    for changed in found[1:]:
        np.testing.assert_allclose(changed, found[0], atol=15)


def test_both_find_their_minimum_and_the_difference_is_told():
    start = TRIANGLE * 1.1
    teacher, student = (optimise(Springs(PAIRS, 20.0, side), [6, 6, 6], start, 1e-4, 100) for side in (1.5, 1.53))
    assert teacher["converged"]
    record = compare_minima([6, 6, 6], PAIRS, teacher, student)
    assert record["bond_error_a"] == pytest.approx(0.03, abs=1e-4)
    # Each corner is side / sqrt(3) from the middle.
    assert record["rmsd_a"] == pytest.approx(0.03 / np.sqrt(3), abs=1e-4)
    assert record["energy_error_kcal_mol"] == pytest.approx(0, abs=1e-4)


def test_an_optimisation_without_an_end_says_so():
    assert not optimise(Springs(PAIRS, 20.0, 1.5), [6, 6, 6], TRIANGLE * 1.5, 1e-9, 2)["converged"]


def test_rmsd_knows_rotations_and_tells_mirror_images_apart():
    rng = np.random.default_rng(0)
    positions = rng.normal(size=(6, 3))
    moved = Rotation.random(rng=1).apply(positions) + np.array([1.0, 2.0, 3.0])
    assert rmsd(positions, moved) < 1e-6
    assert rmsd(positions, positions * [1, 1, -1]) > 0.1
    shifted = positions.copy()
    shifted[0] += [0.01, 0, 0]
    assert 0 < rmsd(positions, shifted) < 0.01 / np.sqrt(6) + 1e-9
