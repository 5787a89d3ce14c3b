"""The equivalence check passes what is equal and fails what is not, forces included."""

import copy

import numpy as np
import pytest
import torch

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.variants.cases import MOLECULE, Case
from mlff_distiller.variants.equivalence import TOLERANCES, answers, errors_against, judge


@pytest.fixture
def case(molecules):
    return Case("benzene", MOLECULE, [[frame] for frame in rattled(molecules["benzene"], 3, 0.05, seed=1)])


def verdict(student, student64, potential, case, precision="float32"):
    potentials = AutogradPotential(student64), AutogradPotential(student), potential
    exact, plain, mine = (answers(one, case) for one in potentials)
    return judge(errors_against(exact, mine), errors_against(exact, plain), TOLERANCES[precision])


def test_the_student_itself_passes(student, student64, case):
    assert verdict(student, student64, AutogradPotential(student), case) == ""


def test_forces_that_are_one_percent_off_fail_though_energies_are_right(student, student64, case):
    class Skewed(AutogradPotential):
        def __call__(self, *args):
            energies, forces = super().__call__(*args)
            return energies, 1.01 * forces

    assert "force RMSE" in verdict(student, student64, Skewed(student), case)


def test_a_wrong_energy_fails(student, student64, case):
    other = copy.deepcopy(student)
    other.reference_energies[6] += 1e-3
    assert "energy error" in verdict(student, student64, AutogradPotential(other), case)


def test_nan_fails(student, student64, case):
    class Broken(AutogradPotential):
        def __call__(self, *args):
            energies, forces = super().__call__(*args)
            return energies, forces * float("nan")

    assert "force RMSE" in verdict(student, student64, Broken(student), case, "16bit")


def test_rattled_frames_repeat_and_begin_with_the_geometry(molecules):
    atoms = molecules["water"]
    first, second = rattled(atoms, 3, 0.1, seed=4), rattled(atoms, 3, 0.1, seed=4)
    np.testing.assert_array_equal(first[0].positions, atoms.positions)
    np.testing.assert_array_equal(first[2].positions, second[2].positions)
    assert np.abs(first[1].positions - atoms.positions).max() > 0.01


def test_in_a_batch_each_energy_counts_by_its_own_number_of_atoms(student, student64, molecules):
    case = Case("both", "both", [[molecules["water"], molecules["caffeine"]]])

    class Wrong(AutogradPotential):
        def __call__(self, *args):
            energies, forces = super().__call__(*args)
            return energies + torch.tensor([3e-3, 0.0]), forces

    exact, mine = answers(AutogradPotential(student64), case), answers(Wrong(student), case)
    # 1 meV/atom in one of two systems.
    assert errors_against(exact, mine)["energy_rmse"] == pytest.approx(1e-3 / 2**0.5, rel=0.01)


def test_tf32_allows_more_than_fp32():
    eager = {"force_rmse": 1e-6, "energy_rmse": 1e-6}
    rough = {"force_rmse": 1e-4, "energy_rmse": 1e-6}
    assert judge(rough, eager, TOLERANCES["float32"])
    assert not judge(rough, eager, TOLERANCES["tf32"])
    assert torch.finfo(torch.float32).eps < TOLERANCES["float32"].tolerance
