"""Errors expected against errors found, and what is told from the training; on a toy student with labels of its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff_distiller.data.dataset import from_lists
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student.domain import fit
from mlff_distiller.systems.batch import Batch
from mlff_distiller.training.accuracy import measure
from mlff_distiller.training.domain import compared, learn_domain
from mlff_distiller.training.reliability import CHANGES, area
from mlff_distiller.utils.errors import UserError
from tests.conftest import make_student


def labeled(molecules, student, noise, seed, split):
    """Rattled molecules, labeled by the student itself, wrong by ``noise`` eV/A."""
    rng = np.random.default_rng(seed)
    frames = [molecules[name].copy() for name in ("water", "methane", "benzene") for _ in range(20)]
    for frame in frames:
        frame.positions += rng.normal(0, 0.03, frame.positions.shape)
    energies, forces = AutogradPotential(student)(*Batch.from_atoms(frames))
    forces = forces.numpy() + rng.normal(0, noise, forces.shape)
    return from_lists(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        [frame.get_chemical_formula() for frame in frames],
        [split] * len(frames),
        ["given"] * len(frames),
        energies=energies.numpy() + rng.normal(0, 0.1, len(frames)),
        forces=forces.astype(np.float32),
        teacher="the student",
    )


@pytest.fixture
def student():
    return make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)


def test_the_area_under_the_curve():
    inside = np.array([0.0, 1.0, 2.0, 3.0])
    assert area(inside, inside + 10) == 1.0
    assert area(inside, inside - 10) == 0.0
    assert area(inside, inside) == pytest.approx(0.5)
    assert area(inside, np.array([1.5, 2.5])) == pytest.approx((2 + 3) / 8)


def test_errors_are_compared_in_the_order_of_the_configurations(molecules, student):
    dataset = labeled(molecules, student, 0.05, 0, "val")
    parts = list(compared(student, dataset))
    wrong = torch.cat([part.force_errors for part in parts]).numpy()
    _, forces = AutogradPotential(student)(*Batch.from_atoms([dataset.atoms(i) for i in range(len(dataset))]))
    np.testing.assert_allclose(wrong, forces.numpy() - dataset.forces, atol=2e-5)
    assert torch.cat([part.numbers for part in parts]).tolist() == dataset.numbers.tolist()


def test_what_is_unlike_the_training_is_noticed_and_errors_are_those_expected(molecules, student):
    training, held_out = (labeled(molecules, student, 0.05, seed, "train") for seed in (0, 1))
    student.domain = fit(compared(student, training), compared(student, held_out))
    found = measure(student, labeled(molecules, student, 0.05, 2, "test"))["reliability"]
    assert len(found["expected_mev_per_a"]) == len(found["found_mev_per_a"]) == 8
    np.testing.assert_allclose(found["found_mev_per_a"], 50, rtol=0.3)
    np.testing.assert_allclose(found["expected_mev_per_a"], 50, rtol=0.3)
    assert found["detection"].keys() == CHANGES.keys()
    assert all(value > 0.9 for value in found["detection"].values()), found["detection"]


def test_a_domain_needs_what_was_trained_on_and_what_was_not(molecules, student):
    dataset = labeled(molecules, student, 0.05, 0, "train")
    with pytest.raises(UserError, match="no configurations in the split 'val'"):
        learn_domain(student, dataset)
    half = np.arange(len(dataset)) % 2
    assert learn_domain(student, replace(dataset, split=half.astype(np.uint8))).limit > 0


def test_accuracy_tells_the_size_of_the_forces(molecules, student):
    dataset = labeled(molecules, student, 0.05, 0, "test")
    found = measure(student, dataset)
    assert found["force_rms_mev_per_a"] == pytest.approx(1e3 * np.sqrt((dataset.forces.astype(float) ** 2).mean()))
