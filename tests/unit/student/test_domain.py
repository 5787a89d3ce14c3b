"""What a student was trained on: on features of which the right answers are known, and through checkpoint and calculator."""

import math
import warnings

import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError

from mlff_distiller.calculator import OutsideTraining, StudentCalculator
from mlff_distiller.student.checkpoint import load_student, save_student
from mlff_distiller.student.domain import Labeled, fit
from mlff_distiller.student.last_layer import last_layer
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError
from tests.conftest import make_student

WIDTHS = torch.tensor([3.0, 1.0, 0.1, 0.0], dtype=torch.float64)


def drawn(n_systems, atoms_each, seed, error=lambda features: torch.zeros(len(features))):
    """Features of known widths and a 1; errors of forces drawn with the width that ``error`` says."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n_systems * atoms_each, len(WIDTHS), generator=generator, dtype=torch.float64) * WIDTHS
    features = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
    batch = torch.arange(n_systems).repeat_interleave(atoms_each)
    forces = torch.randn(len(features), 3, generator=generator, dtype=torch.float64) * error(features)[:, None]
    energies = torch.randn(n_systems, generator=generator, dtype=torch.float64) * 0.2
    return Labeled(features, torch.full([len(features)], 6), batch, n_systems, energies, forces)


def test_distance_is_one_in_the_root_mean_square_and_counts_in_widths():
    training = drawn(400, 5, seed=0)
    domain = fit([training], [drawn(400, 5, seed=1)])
    assert domain.distances(training.features, training.numbers).square().mean().sqrt() == pytest.approx(1.0, rel=0.15)
    carbon = torch.tensor([6])
    for column in range(3):
        far = torch.zeros(1, 5, dtype=torch.float64)
        far[0, column] = 10 * WIDTHS[column]
        far[0, 4] = 1.0
        # Ten widths along one of five directions.
        assert domain.distances(far, carbon) == pytest.approx(10 / math.sqrt(5), rel=0.06)
    never = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    assert domain.distances(never, carbon) > 100, "a direction in which nothing varied"
    assert domain.distances(never, torch.tensor([7])) == math.inf, "an element that was not trained on"


def test_each_element_has_a_training_of_its_own():
    """What is usual for one element is far for another, of which there are few as for one of which there are many."""
    plain, shifted = drawn(300, 5, seed=0), drawn(300, 5, seed=1)
    features = torch.cat([plain.features, shifted.features + torch.tensor([0.0, 8.0, 0.0, 0.0, 0.0])])
    numbers = torch.cat([plain.numbers, shifted.numbers + 1])
    batch = torch.arange(600).repeat_interleave(5)
    both = Labeled(features, numbers, batch, 600, torch.ones(600), torch.ones(3000, 3))
    domain = fit([both], [both])
    assert domain.elements.tolist() == [6, 7]
    own = domain.distances(features, numbers)
    swapped = domain.distances(features, 13 - numbers)
    assert own.max() < 3
    # Seen from the carbons, eight widths; the nitrogens are as far from their own 1.
    assert swapped[1500:].mean() > 3 * own.mean()


def test_expected_errors_are_those_of_held_out_data():
    parts = [fit([drawn(500, 6, 0)], [drawn(500, 6, 1)])]

    def error(features):
        return 0.03 * parts[0].distances(features, torch.full([len(features)], 6)) ** 2

    domain = fit([drawn(500, 6, 0)], [drawn(2000, 6, 2, error)])
    assert domain.force_power == pytest.approx(2.0, abs=0.15)
    assert domain.force_scale == pytest.approx(0.03, rel=0.15)
    fresh = drawn(2000, 6, 3, error)
    distances = domain.distances(fresh.features, fresh.numbers)
    expected = domain.force_errors(distances)
    assert (fresh.force_errors.square().mean(1) / expected**2).mean() == pytest.approx(1.0, abs=0.2)
    energies = domain.energy_errors(fresh.features, fresh.batch, 2000)
    assert (fresh.energy_errors / energies).square().mean() == pytest.approx(1.0, abs=0.2)
    assert float((distances > domain.limit).double().mean()) == pytest.approx(0.001, abs=0.0015)


@pytest.fixture
def with_domain(molecules):
    student = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    parts = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        frames = [molecules[name].copy() for name in ("water", "methane", "benzene") for _ in range(30)]
        for frame in frames:
            frame.positions += rng.normal(0, 0.05, frame.positions.shape)
        inputs = Batch.from_atoms(frames)
        n = len(inputs.numbers)
        errors = torch.from_numpy(rng.normal(0, 0.05, (n, 3)))
        features = last_layer(student, *inputs)
        parts.append(Labeled(features, inputs.numbers, inputs.batch, 90, torch.from_numpy(rng.normal(size=90)), errors))
    student.domain = fit(parts[:1], parts[1:])
    return student


def test_a_checkpoint_keeps_the_domain_and_one_without_is_read(tmp_path, with_domain):
    path = save_student(tmp_path / "student.safetensors", with_domain)
    domain = load_student(path).domain
    for name, tensor in with_domain.domain.tensors().items():
        assert torch.equal(domain.tensors()[name], tensor), name
    with_domain.domain = None
    assert load_student(save_student(path, with_domain)).domain is None


def test_a_domain_of_another_student_is_refused(tmp_path, with_domain):
    other = make_student(n_features=16, mlp_width=16, readout_width=12, n_blocks=2)
    other.domain = with_domain.domain
    path = save_student(tmp_path / "student.safetensors", other)
    with pytest.raises(UserError, match=r"domain\.atoms is missing, not finite or not of shape \[3, 13, 13\]"):
        load_student(path)


def test_the_calculator_gives_uncertainties_when_asked(tmp_path, with_domain, molecules):
    path = save_student(tmp_path / "student.safetensors", with_domain)
    calculator = StudentCalculator.from_checkpoint(path)
    atoms = molecules["benzene"].copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    assert "energy_uncertainty" not in calculator.results
    energy = calculator.get_property("energy_uncertainty", atoms)
    each = calculator.get_property("force_uncertainties", atoms)
    assert energy > 0
    assert each.shape == (12,)
    np.testing.assert_allclose(each, 0.05, rtol=0.3)
    np.testing.assert_array_equal(atoms.get_forces(), forces)


def test_the_calculator_warns_once_and_names_the_atom(tmp_path, with_domain, molecules):
    path = save_student(tmp_path / "student.safetensors", with_domain)
    atoms = molecules["benzene"].copy()
    atoms.calc = StudentCalculator.from_checkpoint(path, warn=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.get_forces()
    atoms.calc = StudentCalculator.from_checkpoint(path, warn=True, allow=("distances",))
    atoms.positions[3] = 0.45 * atoms.positions[3] + 0.55 * atoms.positions[2]
    # One of the two that are pushed together, or of their hydrogens.
    with pytest.warns(OutsideTraining, match=r"atom [2389] \([CH]\) has surroundings unlike any .* This is said once"):
        atoms.get_forces()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        atoms.rattle(0.01)
        atoms.get_forces()


def test_a_student_without_a_domain_says_what_to_do(tmp_path, molecules):
    path = save_student(tmp_path / "plain.safetensors", make_student(n_features=16, mlp_width=16, readout_width=8))
    with pytest.raises(UserError, match=r"warn=True: .*learn-domain"):
        StudentCalculator.from_checkpoint(path, warn=True)
    atoms = molecules["water"].copy()
    atoms.calc = StudentCalculator.from_checkpoint(path)
    with pytest.raises(PropertyNotImplementedError, match="learn-domain"):
        atoms.calc.get_property("energy_uncertainty", atoms)
    assert math.isfinite(atoms.get_potential_energy())
