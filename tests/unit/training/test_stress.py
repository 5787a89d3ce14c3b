"""Stress in training and accuracy: virials by edges, the gradient through them, and that molecules are trained as before."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff_distiller.data.merge import merge
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student.painn import StudentConfig, StudentForceField
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.units import GPA
from mlff_distiller.training.accuracy import measure
from mlff_distiller.training.data import N_GHOSTS, Capacity, Configurations, fit_reference_energies
from mlff_distiller.training.evaluate import predict
from mlff_distiller.training.loss import Loss, energies_and_forces, loss_and_gradient
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.step import Stepper, Weights, compile_gradient
from mlff_distiller.training.train import Trainer
from mlff_distiller.training.weights import FlatWeights
from tests.unit.data.labeled_sets import crystal_dataset, morse_dataset

SMALL = {"n_features": 16, "n_blocks": 2, "n_radial": 8, "mlp_width": 12, "readout_width": 10}
LOSS = Loss(force_weight=1.0, force_delta=0.02, energy_delta=0.002, stress_weight=0.5, stress_delta=0.01)


def mixed():
    """Three molecules, three crystals with a stress, and one without."""
    crystals = crystal_dataset(4)
    stresses = crystals.stresses.copy()
    stresses[2] = np.nan
    return merge({"a": replace(morse_dataset(3), teacher="EMT"), "b": replace(crystals, stresses=stresses)})


def student(seed=0):
    torch.manual_seed(seed)
    return StudentForceField(StudentConfig(**SMALL)).double()


def build(dataset, dtype=torch.float64):
    return Configurations.build(dataset, fit_reference_energies(dataset, 100), 5.0, dtype=dtype)


def named(model):
    return dict(model.network.named_parameters())


def batch_of(configurations):
    n = len(configurations)
    capacity = Capacity(40 + N_GHOSTS, int(configurations.host_pair_counts.sum()) + 100, n + 3)
    return configurations.batch(torch.tensor([-1, *range(n), -1]), capacity)


def test_virials_are_those_of_the_potential_and_of_finite_strains():
    dataset, model = mixed(), student()
    configurations = build(dataset)
    batch = batch_of(configurations)
    _, _, virials = energies_and_forces(model.network, named(model), batch, virial=True)
    potential = AutogradPotential(model)
    assert batch.has_virial.tolist() == [0, *dataset.has_stress.tolist(), 0, 0]
    for i in np.flatnonzero(dataset.has_stress).tolist():
        atoms = dataset.atoms(i)
        inputs = Batch.from_atoms([atoms], dtype=torch.float64)
        stress = potential.with_stress(*inputs)[2][0]
        torch.testing.assert_close(virials[i + 1] / atoms.get_volume(), stress, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            batch.virials[i + 1], torch.tensor(dataset.stresses[i] * atoms.get_volume()), rtol=1e-12, atol=0
        )
        rng, h = np.random.default_rng(i), 1e-4
        drawn = rng.uniform(-1, 1, (3, 3))
        direction = drawn + drawn.T

        def energy(step, atoms=atoms, direction=direction):
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + step * direction), scale_atoms=True)
            return float(potential.energy(*Batch.from_atoms([strained], dtype=torch.float64)))

        slope = (energy(h) - energy(-h)) / (2 * h)
        assert float((virials[i + 1].numpy() * direction).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_padding_and_molecules_have_no_part_in_the_stress_term():
    dataset, model = mixed(), student()
    whole, crystals = batch_of(build(dataset)), batch_of(build(dataset.select(dataset.has_stress)))
    terms = [
        LOSS.terms(*energies_and_forces(model.network, named(model), b, virial=True), b) for b in (whole, crystals)
    ]
    torch.testing.assert_close(terms[0][2], terms[1][2], rtol=1e-12, atol=0)
    assert terms[0][2] > 0


def test_the_gradient_through_the_virial_agrees_with_finite_differences():
    model, batch = student(), batch_of(build(mixed()))
    layout = FlatWeights(model.network)
    flat = layout.read(model.network)

    def evaluate(vector):
        return loss_and_gradient(model.network, layout.names, layout.views(vector), batch, LOSS, 2.0)

    _, gradient = evaluate(flat)
    generator, h = torch.Generator().manual_seed(3), 1e-6
    for _ in range(4):
        direction = torch.randn(flat.shape, generator=generator, dtype=flat.dtype)
        ends = [LOSS.total(evaluate(flat + sign * h * direction)[0], 2.0) for sign in (1, -1)]
        torch.testing.assert_close(gradient @ direction, (ends[0] - ends[1]) / (2 * h), rtol=1e-6, atol=1e-8)


def test_the_compiled_gradient_equals_the_eager_one():
    torch.manual_seed(0)
    model = StudentForceField(StudentConfig(n_features=4, n_blocks=1, n_radial=4, mlp_width=4, readout_width=4))
    batch, layout = batch_of(build(mixed(), torch.float32)), FlatWeights(model.network)
    parameters = layout.views(layout.read(model.network))

    def eager(weights, given, energy_weight):
        return loss_and_gradient(model.network, layout.names, weights, given, LOSS, energy_weight)

    compiled = compile_gradient(eager, parameters, batch, "aot_eager")
    for found, expected in zip(
        compiled(parameters, batch, torch.tensor(2.0)), eager(parameters, batch, torch.tensor(2.0)), strict=True
    ):
        assert torch.linalg.vector_norm(found - expected) < 1e-5 * torch.linalg.vector_norm(expected)


def trained(tmp_path, dataset, **changes):
    given = {"n_steps": 60, "batch_atoms": 40, "learning_rate": 3e-3, "compile": False, "student": SMALL}
    trainer = Trainer(dataset, TrainingSettings.from_mapping(given | changes), tmp_path)
    return trainer, trainer.run()


def test_a_training_learns_the_stress(tmp_path):
    dataset = crystal_dataset(40)
    errors = {}
    for weight in (0.0, 5.0):
        trainer, model = trained(tmp_path, dataset, n_steps=150, stress_weight=weight)
        errors[weight] = measure(model, dataset.of_split("test"))["stress_rmse_gpa"]
        last = trainer.progress.history[-1]
        assert ("train_stress" in last) == (weight > 0)
        assert last["val_stress_mae_gpa"] > 0
    assert errors[5.0] < 0.7 * errors[0.0]


def test_the_stress_term_is_the_mean_over_the_batches_that_have_a_virial():
    dataset = mixed()
    settings = TrainingSettings.from_mapping({"compile": False, "stress_weight": 1.0, "n_steps": 9})
    network = StudentForceField(StudentConfig(**SMALL)).network
    configurations = build(dataset, torch.float32)
    n = len(dataset)
    capacity = Capacity(40 + N_GHOSTS, int(configurations.host_pair_counts.sum()) + 100, n + 1)

    def mean(batches):
        weights = Weights.start(network, settings.optimizer)
        stepper = Stepper(network, weights, configurations, capacity, settings, tf32=False, compiled=False)
        for step, chosen in enumerate(batches, 1):
            # A rate of 0: every update sees the same weights.
            stepper(np.array([*chosen, *[-1] * (n - len(chosen))]), step, 0.0, 1.0, 1.0)
        return stepper.read_sums()

    crystals, molecules = (np.flatnonzero(known).tolist() for known in (dataset.has_stress, ~dataset.has_stress))
    alone = mean([crystals])
    assert alone["stress"] > 0
    assert mean([molecules, crystals, molecules])["stress"] == pytest.approx(alone["stress"], rel=1e-5)
    assert "stress" not in mean([molecules])


def test_labels_without_stress_are_trained_on_whatever_its_weight(tmp_path):
    dataset = replace(crystal_dataset(12), stresses=None)
    weights = []
    for weight in (0.0, 10.0):
        trainer, model = trained(tmp_path, dataset, n_steps=5, stress_weight=weight)
        assert "val_stress_mae_gpa" not in trainer.progress.history[-1]
        weights.append(FlatWeights.read(model.network))
    assert torch.equal(*weights)


def test_errors_of_the_stress_are_those_of_the_calculator():
    model, dataset = student().float(), mixed()
    found = measure(model, dataset)
    assert found["n_stresses"] == 3
    known = np.flatnonzero(dataset.has_stress).tolist()
    potential = AutogradPotential(model)
    ours = [potential.with_stress(*Batch.from_atoms([dataset.atoms(i)]))[2][0].numpy() for i in known]
    wrong = (np.array(ours) - dataset.stresses[known]) / GPA
    assert found["stress_mae_gpa"] == pytest.approx(np.abs(wrong).mean(), rel=1e-3)
    assert found["stress_rmse_gpa"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-3)
    assert found["stress_rms_gpa"] == pytest.approx(np.sqrt((dataset.stresses[known] ** 2).mean()) / GPA, rel=1e-5)
    assert "n_stresses" not in measure(model, morse_dataset(4))
    assert predict(model.network, named(model), build(morse_dataset(4), torch.float32), 99).stresses is None
