"""The equivalence check passes what is equal and fails what is not, forces included."""

import copy

import numpy as np
import pytest
import torch

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.variants.equivalence import TOLERANCES, answers, errors_against, judge


@pytest.fixture
def frames(molecules):
    return rattled(molecules["benzene"], 3, 0.05, seed=1)


def verdict(student, student64, potential, frames, precision="float32"):
    potentials = AutogradPotential(student64), AutogradPotential(student), potential
    exact, plain, mine = (answers(one, frames) for one in potentials)
    return judge(errors_against(exact, mine), errors_against(exact, plain), TOLERANCES[precision])


def test_the_student_itself_passes(student, student64, frames):
    assert verdict(student, student64, AutogradPotential(student), frames) == ""


def test_forces_that_are_one_percent_off_fail_though_energies_are_right(student, student64, frames):
    class Skewed(AutogradPotential):
        def __call__(self, *args):
            energies, forces = super().__call__(*args)
            return energies, 1.01 * forces

    assert "force RMSE" in verdict(student, student64, Skewed(student), frames)


def test_a_wrong_energy_fails(student, student64, frames):
    other = copy.deepcopy(student)
    other.reference_energies[6] += 1e-3
    assert "energy error" in verdict(student, student64, AutogradPotential(other), frames)


def test_nan_fails(student, student64, frames):
    class Broken(AutogradPotential):
        def __call__(self, *args):
            energies, forces = super().__call__(*args)
            return energies, forces * float("nan")

    assert "force RMSE" in verdict(student, student64, Broken(student), frames, "16bit")


def test_rattled_frames_repeat_and_begin_with_the_geometry(molecules):
    atoms = molecules["water"]
    first, second = rattled(atoms, 3, 0.1, seed=4), rattled(atoms, 3, 0.1, seed=4)
    np.testing.assert_array_equal(first[0].positions, atoms.positions)
    np.testing.assert_array_equal(first[2].positions, second[2].positions)
    assert np.abs(first[1].positions - atoms.positions).max() > 0.01


def test_tf32_allows_more_than_fp32():
    eager = {"force_rmse": 1e-6, "energy_rmse": 1e-6}
    rough = {"force_rmse": 1e-4, "energy_rmse": 1e-6}
    assert judge(rough, eager, TOLERANCES["float32"])
    assert not judge(rough, eager, TOLERANCES["tf32"])
    assert torch.finfo(torch.float32).eps < TOLERANCES["float32"].tolerance
