"""Training: batches, the gradient through the forces, the update, the schedule, resuming after an interruption."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mlff_distiller import cli
from mlff_distiller.data.dataset import content_hash, write_dataset
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.records import schema
from mlff_distiller.student import wall
from mlff_distiller.student.checkpoint import load_student, read_card, save_student
from mlff_distiller.student.painn import StudentConfig, StudentForceField
from mlff_distiller.training import schedule
from mlff_distiller.training.data import (
    N_GHOSTS,
    Capacity,
    Configurations,
    composition_energies,
    fit_reference_energies,
    pack,
    plan_capacity,
)
from mlff_distiller.training.evaluate import errors, predict
from mlff_distiller.training.loss import Loss, energies_and_forces, loss_and_gradient
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.step import Stepper, Weights, compile_gradient
from mlff_distiller.training.train import PAUSED, Trainer, pause_after
from mlff_distiller.training.weights import FlatWeights
from mlff_distiller.utils.errors import UserError
from tests.unit.data.labeled_sets import ATOM_ENERGIES, in_boxes, morse_dataset

SMALL = {"n_features": 16, "n_blocks": 2, "n_radial": 8, "mlp_width": 12, "readout_width": 10}
LOSS = Loss(force_weight=1.0, force_delta=0.02, energy_delta=0.002)
WORKFLOW = Path(__file__).parents[3] / "workflow"


def small_student(seed: int = 0) -> StudentForceField:
    torch.manual_seed(seed)
    return StudentForceField(StudentConfig(**SMALL)).double()


def build(dataset, cutoff: float = 5.0, dtype: torch.dtype = torch.float64) -> Configurations:
    return Configurations.build(dataset, np.zeros(101), cutoff, dtype=dtype)


def settings(**changes) -> TrainingSettings:
    few = {"n_steps": 20, "batch_atoms": 40, "learning_rate": 3e-3, "compile": False, "student": SMALL}
    return TrainingSettings.from_mapping(few | changes)


def named(student: StudentForceField) -> dict[str, torch.Tensor]:
    return dict(student.network.named_parameters())


@pytest.mark.parametrize("box", [None, 7.0, 3.5])
def test_padded_batch_gives_the_energies_and_forces_of_the_student(box):
    dataset = morse_dataset(9)
    if box is not None:
        dataset = in_boxes(dataset, box)
    student, configurations = small_student(), build(dataset)
    ids = torch.tensor([4, -1, 0, 7, -1])
    capacity = Capacity(60 + N_GHOSTS, int(configurations.host_pair_counts.max()) * 3 + 100, 6)
    batch = configurations.batch(ids, capacity)
    energies, forces, _ = energies_and_forces(student.network, named(student), batch)
    potential, first = AutogradPotential(student), 0
    for row, index in enumerate(ids.tolist()):
        if index < 0:
            assert energies[row] == 0
            assert batch.inverse_sizes[row] == 0
            continue
        one = dataset.select(np.array([index]))
        cell = None if box is None else torch.from_numpy(one.cells)
        pbc = None if box is None else torch.from_numpy(one.pbc)
        numbers = torch.from_numpy(one.numbers.astype(np.int64))
        positions = torch.from_numpy(one.positions.astype(np.float64))
        energy, force = potential(numbers, positions, torch.zeros_like(numbers), cell, pbc)
        torch.testing.assert_close(energies[row], energy[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(forces[first : first + len(numbers)], force, rtol=1e-11, atol=1e-12)
        first += len(numbers)
    assert (forces[first:] == 0).all()
    assert batch.atom_weights.sum() == first


def plain_loss(student, dataset) -> torch.Tensor:
    """The loss computed independently, molecule by molecule with the student itself."""
    force_terms, energy_terms = [], []
    for i in range(len(dataset)):
        one = dataset.select(np.array([i]))
        numbers = torch.from_numpy(one.numbers.astype(np.int64))
        positions = torch.from_numpy(one.positions.astype(np.float64)).requires_grad_(True)
        energy = student(numbers, positions, torch.zeros_like(numbers))
        forces = -torch.autograd.grad(energy.sum(), positions, create_graph=True)[0]
        wrong = (forces - torch.from_numpy(one.forces.astype(np.float64))).norm(dim=1)
        force_terms.append(torch.sqrt(wrong**2 + 0.02**2) - 0.02)
        per_atom = (energy[0] - one.energies[0]) / len(numbers)
        energy_terms.append(torch.sqrt(per_atom**2 + 0.002**2) - 0.002)
    return torch.cat(force_terms).mean() + 2.0 * torch.stack(energy_terms).mean()


def test_gradient_of_a_padded_batch_is_that_of_the_plain_loss():
    dataset = morse_dataset(7)
    student, configurations = small_student(), build(dataset)
    layout = FlatWeights(student.network)
    batch = configurations.batch(torch.tensor([0, 1, 2, 3, -1, 4, 5, 6, -1]), Capacity(70 + N_GHOSTS, 300, 10))
    parameters = layout.views(layout.read(student.network))
    terms, gradient = loss_and_gradient(student.network, layout.names, parameters, batch, LOSS, 2.0)
    expected = plain_loss(student, dataset)
    torch.testing.assert_close(LOSS.total(terms, 2.0), expected.detach(), rtol=1e-12, atol=0)
    grads = torch.autograd.grad(expected, list(student.network.parameters()))
    torch.testing.assert_close(gradient, torch.cat([g.reshape(-1) for g in grads]), rtol=1e-10, atol=1e-13)


def test_gradient_agrees_with_finite_differences():
    student, configurations = small_student(), build(morse_dataset(4))
    layout = FlatWeights(student.network)
    flat = layout.read(student.network)
    batch = configurations.batch(torch.arange(4), Capacity(30 + N_GHOSTS, 100, 5))

    def evaluate(vector):
        return loss_and_gradient(student.network, layout.names, layout.views(vector), batch, LOSS, 2.0)

    _, gradient = evaluate(flat)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        direction = torch.randn(flat.shape, generator=generator, dtype=flat.dtype)
        step = 1e-5
        slope = (
            LOSS.total(evaluate(flat + step * direction)[0], 2.0)
            - LOSS.total(evaluate(flat - step * direction)[0], 2.0)
        ) / (2 * step)
        torch.testing.assert_close(gradient @ direction, slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, pytest.mark.timeout(1500)])]
)
def test_compiled_gradient_equals_the_eager_one(backend):
    torch.manual_seed(0)
    student = StudentForceField(StudentConfig(n_features=4, n_blocks=1, n_radial=4, mlp_width=4, readout_width=4))
    configurations = build(morse_dataset(12), dtype=torch.float32)
    layout = FlatWeights(student.network)
    capacity = Capacity(30 + N_GHOSTS, 120, 7)
    first = configurations.batch(torch.tensor([0, 1, 2, 3, 4, -1]), capacity)
    other = configurations.batch(torch.tensor([6, -1, 8, 9, -1, 11]), capacity)

    def eager(parameters, batch, energy_weight):
        return loss_and_gradient(student.network, layout.names, parameters, batch, LOSS, energy_weight)

    parameters = layout.views(layout.read(student.network))
    compiled = compile_gradient(eager, parameters, first, backend)
    # Not the batch and weights that it was traced with: no value of the example may be a constant of the graph.
    changed = [parameter * 1.1 for parameter in parameters]
    for weights, batch, energy_weight in ((parameters, first, torch.tensor(1.0)), (changed, other, torch.tensor(7.0))):
        terms, gradient = compiled(weights, batch, energy_weight)
        terms_eager, gradient_eager = eager(weights, batch, energy_weight)
        torch.testing.assert_close(terms, terms_eager, rtol=1e-5, atol=1e-6)
        assert torch.linalg.vector_norm(gradient - gradient_eager) < 1e-5 * torch.linalg.vector_norm(gradient_eager)


@pytest.mark.parametrize("batch_atoms", [1, 20, 64, 10_000])
def test_batches_hold_every_configuration_once_and_fit(batch_atoms):
    configurations = build(morse_dataset(50))
    capacity = plan_capacity(configurations, batch_atoms)
    order = np.random.default_rng(1).permutation(50)
    table = pack(order, configurations, capacity)
    used = table[table >= 0]
    assert table.shape[1] == capacity.n_molecules - 1
    assert list(used) == list(order[: len(used)])
    left_out = configurations.host_atom_counts[order[len(used) :]].sum()
    assert left_out < max(batch_atoms, 5) / 2
    for row in table:
        ids = row[row >= 0]
        assert configurations.host_atom_counts[ids].sum() <= capacity.n_atoms - N_GHOSTS
        assert configurations.host_pair_counts[ids].sum() <= capacity.n_pairs


def test_pairs_are_those_of_the_neighbor_search_whatever_the_chunks(monkeypatch):
    dataset = in_boxes(morse_dataset(20), 4.0)
    whole = build(dataset)
    monkeypatch.setattr("mlff_distiller.training.data.TESTED_AT_ONCE", 40)
    pieces = build(dataset)
    torch.testing.assert_close(tuple(whole.pairs), tuple(pieces.pairs), rtol=0, atol=1e-12)
    torch.testing.assert_close(whole.pair_starts, pieces.pair_starts)


def test_reference_energies_are_recovered_from_compositions():
    dataset = morse_dataset(30)
    references = np.zeros(101)
    references[list(ATOM_ENERGIES)] = list(ATOM_ENERGIES.values())
    pure = type(dataset)(**(dataset.__dict__ | {"energies": composition_energies(dataset, references)}))
    fitted = fit_reference_energies(pure, 100)
    np.testing.assert_allclose(fitted, references, atol=1e-8)
    with pytest.raises(UserError, match="atomic number 8"):
        fit_reference_energies(dataset, 7)


def test_updates_are_those_of_adamw():
    """The flat update compared with torch's AdamW on the same gradients."""
    configurations = build(morse_dataset(12), dtype=torch.float32)
    torch.manual_seed(0)
    student = StudentForceField(StudentConfig(**SMALL))
    chosen = settings(clip_norm=1e9, weight_decay=0.1, optimizer="adamw")
    capacity = plan_capacity(configurations, 40)
    weights = Weights.start(student.network)
    stepper = Stepper(student.network, weights, configurations, capacity, chosen, tf32=False, compiled=False)
    reference = weights.current.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([reference], lr=1.0, weight_decay=0.1)
    table = pack(np.arange(12), configurations, capacity)
    average = reference.detach().clone()
    for step in range(1, 6):
        rate, ids = 1e-3 * step, table[step % len(table)]
        batch = configurations.batch(torch.from_numpy(ids), capacity)
        layout = stepper.layout
        _, reference.grad = loss_and_gradient(
            student.network, layout.names, layout.views(reference.detach()), batch, Loss.of(chosen), 5.0
        )
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        average.lerp_(reference.detach(), 0.3)
        stepper(ids, step, rate, 0.3, 5.0)
    torch.testing.assert_close(weights.current, reference.detach(), rtol=2e-5, atol=2e-6)
    torch.testing.assert_close(weights.average, average, rtol=2e-5, atol=2e-6)
    assert stepper.read_sums()["force"] > 0


def test_clipping_bounds_the_gradient():
    configurations = build(morse_dataset(12), dtype=torch.float32)
    student = StudentForceField(StudentConfig(**SMALL))
    weights = Weights.start(student.network)
    capacity = plan_capacity(configurations, 40)
    chosen = settings(clip_norm=1e-3, optimizer="adamw")
    stepper = Stepper(student.network, weights, configurations, capacity, chosen, tf32=False, compiled=False)
    stepper(pack(np.arange(12), configurations, capacity)[0], 1, 1e-3, 0.1, 2.0)
    assert stepper.read_sums()["gradient_norm"] > 1e-3
    assert torch.linalg.vector_norm(weights.first_moment) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_learning_rate_rises_then_falls_to_its_end():
    chosen = settings(n_steps=1000, warmup_steps=50, final_learning_rate=1e-6)
    rates = [schedule.learning_rate(chosen, schedule.progress(chosen, step, 0.0), step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(3e-3 / 50, rel=1e-2)
    assert rates[49] == pytest.approx(3e-3, rel=1e-2)
    assert rates[-1] == pytest.approx(1e-6)
    assert all(a < b for a, b in pairwise(rates[:50]))
    assert all(a > b for a, b in pairwise(rates[50:]))
    # A compilation that took a tenth of the time budget does not change the warm-up.
    late = settings(n_steps=None, max_seconds=100.0, warmup_steps=50)
    assert schedule.learning_rate(late, 0.1, 1) == pytest.approx(3e-3 / 50, rel=0.05)
    by_time = settings(n_steps=None, max_seconds=100.0)
    assert schedule.progress(by_time, 12345, 50.0) == 0.5
    both = settings(n_steps=1000, max_seconds=100.0)
    assert schedule.progress(both, 900, 50.0) == 0.9


def test_the_last_share_is_in_full_precision_with_its_own_weight_of_energies(tmp_path):
    chosen = settings(n_steps=20, last_share=0.25, last_energy_weight=9.0)
    assert [schedule.energy_weight(chosen, step / 20) for step in (0, 14, 15, 19)] == [2.0, 2.0, 9.0, 9.0]
    assert schedule.energy_weight(settings(last_share=0.25), 0.9) == 2.0
    assert not schedule.in_last_share(settings(last_share=0.0), 0.999)
    trainer = Trainer(morse_dataset(40), chosen, tmp_path)
    seen = []
    while not trainer.is_finished():
        before = trainer.stepper.sums[4].item()
        trainer.step()
        seen.append((trainer.stepper.tf32, trainer.stepper.controls[4].item()))
        # The means of an epoch go on over the change.
        assert trainer.stepper.sums[4].item() in (before + 1, 0)
    assert seen == [(True, 2.0)] * 15 + [(False, 9.0)] * 5


def test_walls_begin_where_the_training_ends(tmp_path):
    """The shortest but ten distances of each pair of elements, found by going over all pairs of all molecules."""
    dataset = morse_dataset(60)
    dataset = replace(dataset, positions=0.6 * dataset.positions)
    training = dataset.of_split("train")
    trainer = Trainer(dataset, settings(n_steps=1), tmp_path)
    ends = trainer.student.network.wall[:, 0].reshape(101, 101)
    bonds = wall.bond_lengths(100)
    pairs = {}
    for atoms in map(training.atoms, range(len(training))):
        for i, j in combinations(range(len(atoms)), 2):
            pairs.setdefault(tuple(sorted(atoms.numbers[[i, j]].tolist())), []).append(atoms.get_distance(i, j))
    assert len(pairs) > 3
    for (a, b), distances in pairs.items():
        near = sorted(d for d in distances if d < 5.0)
        expected = min(near[10], 0.8 * float(bonds[a, b])) if len(near) > 10 else 0.68 * float(bonds[a, b])
        assert float(ends[a, b]) == float(ends[b, a]) == pytest.approx(expected, rel=1e-6), (a, b)
    assert float(ends[92, 92]) == pytest.approx(0.68 * float(bonds[92, 92]), rel=1e-6)
    assert any(float(ends[pair]) < 0.79 * float(bonds[pair]) for pair in pairs), "no pair's own distances decide"


def test_a_student_with_walls_keeps_those_that_begin_nearer(tmp_path):
    start = small_student().float()
    ends = wall.bond_lengths(100)
    ends[6, 6] = 0.3
    start.network.wall.copy_(wall.pair_table(ends))
    save_student(tmp_path / "start.safetensors", start)
    chosen = settings(start_from=str(tmp_path / "start.safetensors"), student={}, n_steps=1)
    trainer = Trainer(morse_dataset(60), chosen, tmp_path / "state")
    found = trainer.student.network.wall[:, 0].reshape(101, 101)
    assert float(found[6, 6]) == pytest.approx(0.3)
    assert float(found[1, 1]) <= 0.8 * 0.62 + 1e-6


def test_starting_from_a_student_may_change_the_smoothing_of_its_norm(tmp_path):
    save_student(tmp_path / "start.safetensors", small_student().float())
    chosen = settings(start_from=str(tmp_path / "start.safetensors"), student={"norm_epsilon": 0.5}, n_steps=1)
    trainer = Trainer(morse_dataset(60), chosen, tmp_path / "state")
    assert trainer.student.config.norm_epsilon == trainer.student.network.updates[0].epsilon == 0.5
    torch.testing.assert_close(trainer.student.network.filters.weight, small_student().float().network.filters.weight)


def test_training_learns_and_keeps_the_best_weights(tmp_path):
    dataset = morse_dataset(120)
    trainer = Trainer(dataset, settings(n_steps=300, batch_atoms=80), tmp_path)
    before = errors(
        trainer.validation, predict(trainer.student.network, named(trainer.student), trainer.validation, 99)
    )
    student = trainer.run()
    curve = trainer.progress.history
    assert trainer.progress.best_error == min(entry["val_force_mae_mev_per_a"] for entry in curve)
    assert trainer.progress.best_error < 0.2 * before["force_mae_mev_per_a"]
    assert curve[-1]["step"] == trainer.progress.step == 300
    held_out = build(dataset.of_split("val"), dtype=torch.float32)
    predicted = predict(student.network, named(student), held_out, 99)
    assert errors(held_out, predicted)["force_mae_mev_per_a"] == pytest.approx(trainer.progress.best_error, rel=1e-4)


def test_an_interrupted_training_ends_with_the_same_student(tmp_path):
    dataset, chosen = morse_dataset(40), settings(n_steps=17)
    whole = Trainer(dataset, chosen, tmp_path / "whole")
    expected = whole.run()
    interrupted = Trainer(dataset, chosen, tmp_path / "interrupted")
    for _ in range(7):
        interrupted.step()
    interrupted.save()
    went_on = Trainer(dataset, chosen, tmp_path / "interrupted")
    assert went_on.progress.step == 7
    found = went_on.run()
    for a, b in zip(expected.parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    for a, b in zip(whole.progress.history, went_on.progress.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == pytest.approx(
            {k: v for k, v in b.items() if k != "seconds"}, rel=1e-4
        )
    again = Trainer(dataset, chosen, tmp_path / "interrupted")
    assert again.is_finished()
    assert torch.equal(again.run().network.readout_in.weight, found.network.readout_in.weight)


def test_early_stopping_ends_a_training_that_no_longer_improves(tmp_path):
    chosen = settings(n_steps=10_000, patience=2, learning_rate=1e-12, final_learning_rate=1e-12, ema_decay=0)
    trainer = Trainer(morse_dataset(40), chosen, tmp_path)
    trainer.progress.best_error = 0.0
    trainer.run()
    assert len(trainer.progress.history) == 2


def test_a_training_ends_when_its_error_is_small_enough(tmp_path):
    trainer = Trainer(morse_dataset(40), settings(n_steps=10_000, enough_mev_per_a=1e9), tmp_path)
    trainer.run()
    assert len(trainer.progress.history) == 1
    assert trainer.done() < 1
    assert Trainer(morse_dataset(40), settings(n_steps=10_000, enough_mev_per_a=1e9), tmp_path).is_finished()


def test_starting_from_a_student_keeps_its_network_and_takes_over_the_zero_of_energy(tmp_path):
    dataset = morse_dataset(60)
    save_student(tmp_path / "start.safetensors", small_student().float())
    chosen = settings(start_from=str(tmp_path / "start.safetensors"), student={}, n_steps=1)
    trainer = Trainer(dataset, chosen, tmp_path / "state")
    torch.testing.assert_close(trainer.student.network.filters.weight, small_student().float().network.filters.weight)
    energies, *_ = predict(trainer.student.network, named(trainer.student), trainer.training, 99)
    # Total energies are tens to hundreds of eV; without the references, the spread of the two potentials is left.
    assert (energies - trainer.training.energies).abs().max() < 3.0
    assert dataset.energies.min() < -120


def test_the_command_goes_on_from_a_student_whose_sizes_it_takes(tmp_path):
    save_student(tmp_path / "start.safetensors", small_student().float())
    write_dataset(tmp_path / "labels.h5", morse_dataset(60))
    given = {"n_steps": 2, "compile": False, "learning_rate": 1e-5, "student": {"n_features": 8, "norm_epsilon": 0.5}}
    line = ["train", "--dataset", tmp_path / "labels.h5", "--settings", json.dumps(given)]
    line += ["--start-from", tmp_path / "start.safetensors", "--checkpoint-dir", tmp_path / "state"]
    line += ["--record", tmp_path / "training.json", "--output", tmp_path / "student.safetensors"]
    assert cli.main([str(word) for word in line]) == 0
    made, start = load_student(tmp_path / "student.safetensors"), small_student().float()
    assert made.config.n_features == SMALL["n_features"]
    assert made.config.norm_epsilon == 0.5
    torch.testing.assert_close(made.network.filters.weight, start.network.filters.weight, atol=1e-3, rtol=0)
    assert not torch.equal(made.network.filters.weight, start.network.filters.weight)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, "n_steps"),
        ({"n_steps": 5, "lerning_rate": 1}, "learning_rate"),
        ({"n_steps": 0}, "n_steps: expected whole number >= 1 or null, got 0"),
        ({"n_steps": 2.5}, "whole number"),
        ({"n_steps": "many"}, r"student\.training\.n_steps: expected whole number >= 1 or null, got 'many'"),
        ({"max_seconds": -1}, "max_seconds"),
        ({"n_steps": 5, "ema_decay": 1.0}, "ema_decay"),
        ({"n_steps": 5, "compile": "yes"}, "compile"),
        ({"n_steps": 5, "device": "gpu"}, "device: cannot be 'gpu'"),
        ({"n_steps": 5, "student": {"cutof": 4}}, "cutoff"),
        ({"n_steps": 5, "final_learning_rate": 1.0}, "larger"),
        ({"n_steps": 5, "batch_atoms": True}, "batch_atoms"),
        ({"n_steps": 5, "start_from": "x", "student": {"cutoff": 4}}, "start_from"),
    ],
)
def test_wrong_settings_are_refused(mapping, words):
    with pytest.raises(UserError, match=words):
        TrainingSettings.from_mapping(mapping)


def test_a_training_with_other_settings_or_data_starts_from_the_beginning_and_does_not_change_the_state(tmp_path):
    dataset = morse_dataset(20)
    first = Trainer(dataset, settings(), tmp_path)
    first.step()
    first.save()
    assert Trainer(dataset, settings(learning_rate=1e-3), tmp_path).progress.step == 0
    assert Trainer(morse_dataset(20, seed=1), settings(), tmp_path).progress.step == 0
    # Settings about where and how it runs may change.
    assert Trainer(dataset, settings(checkpoint_seconds=1, threads=1), tmp_path).progress.step == 1


def test_a_damaged_state_is_refused(tmp_path):
    trainer = Trainer(morse_dataset(20), settings(), tmp_path)
    trainer.step()
    trainer.save()
    trainer.state_path.write_bytes(trainer.state_path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"damaged.*delete"):
        Trainer(morse_dataset(20), settings(), tmp_path)


def test_divergence_is_an_error_and_keeps_the_stored_state(tmp_path):
    trainer = Trainer(morse_dataset(20), settings(), tmp_path)
    trainer.step()
    trainer.save()
    stored = trainer.state_path.read_bytes()
    trainer.weights.current[5] = math.nan
    with pytest.raises(UserError, match="diverged"):
        trainer.save()
    with pytest.raises(UserError, match="diverged"):
        trainer.run()
    assert trainer.state_path.read_bytes() == stored


@pytest.mark.parametrize("missing", ["train", "val"])
def test_a_dataset_without_a_split_is_refused(tmp_path, missing):
    dataset = morse_dataset(20)
    remaining = dataset.select(dataset.split != dataset.splits.index(missing))
    with pytest.raises(UserError, match=missing):
        Trainer(remaining, settings(), tmp_path)


def arguments(folder: Path, chosen: dict) -> list[str]:
    return [
        *("train", "--dataset", str(folder / "data.h5"), "--settings", json.dumps(chosen)),
        *("--output", str(folder / "student.safetensors"), "--record", str(folder / "training.json")),
        *("--checkpoint-dir", str(folder / "state")),
    ]


def test_the_command_writes_student_card_and_record(tmp_path):
    dataset = morse_dataset(40)
    write_dataset(tmp_path / "data.h5", dataset)
    chosen = {"n_steps": 12, "batch_atoms": 40, "student": SMALL, "compile": False}
    assert cli.main(arguments(tmp_path, chosen)) == 0
    student, card = load_student(tmp_path / "student.safetensors"), read_card(tmp_path / "student.safetensors")
    assert student.config.n_features == 16
    assert student.reference_energies[8] < -50
    assert card["data"]["content_sha256"] == content_hash(dataset)
    assert card["teacher"] == "Morse pairs"
    assert card["settings"]["n_steps"] == 12
    assert "3 to 5 atoms" in card["limits"][0]
    (record,) = schema.read(tmp_path / "training.json")
    assert record["kind"] == "accuracy"
    assert record["split"] == "val"
    assert record["n_configurations"] == len(dataset.of_split("val"))
    assert record["force_mae_mev_per_a"] == card["figures"]["force_mae_mev_per_a"]
    last = record["learning_curve"][-1]
    assert last["step"] == 12
    assert {"epoch", "seconds", "learning_rate", "train_force"} < set(last)


@pytest.mark.parametrize(
    ("asked", "left", "expected"),
    [(None, None, None), (5.0, None, 5.0), (None, 3600.0, 3490.0), (5.0, 3600.0, 5.0), (None, 60.0, 40.0)],
)
def test_a_training_pauses_before_its_batch_job_ends(asked, left, expected):
    assert pause_after(asked, left, spent=10.0) == expected


def test_in_a_job_of_slurm_the_state_is_saved_in_time(tmp_path, monkeypatch):
    """An endless training in a job that has a second left."""
    write_dataset(tmp_path / "data.h5", morse_dataset(40))
    command = tmp_path / "bin/squeue"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 0:01\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "74")
    endless = {"max_seconds": 3600, "batch_atoms": 40, "student": SMALL, "compile": False}
    assert cli.main(arguments(tmp_path, endless)) == PAUSED
    assert list((tmp_path / "state").iterdir())


def test_a_pause_and_a_signal_both_save_and_the_same_command_goes_on(tmp_path):
    write_dataset(tmp_path / "data.h5", morse_dataset(40))
    chosen = {"n_steps": 60, "batch_atoms": 40, "student": SMALL, "compile": False}
    assert cli.main([*arguments(tmp_path, chosen), "--pause-after", "0"]) == PAUSED
    assert not (tmp_path / "student.safetensors").exists()
    assert cli.main(arguments(tmp_path, chosen)) == 0
    assert not list((tmp_path / "state").iterdir())
    endless = {"max_seconds": 3600, "batch_atoms": 40, "student": SMALL, "compile": False}
    environment = os.environ | {"PYTHONPATH": str(WORKFLOW), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mlff_distiller", *arguments(tmp_path, endless)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert "parameters on" in process.stdout.readline()
    time.sleep(1.0)
    # Slurm sends one to each process of the job, and the shell hands on its own.
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == PAUSED, printed
    stored = Trainer(morse_dataset(40), TrainingSettings.from_mapping(endless), tmp_path / "state")
    assert stored.progress.step > 0
    assert stored.clock() > 0.5
