"""The accuracy stage, on labels with known errors."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlff_distiller import cli
from mlff_distiller.data.dataset import write_dataset
from mlff_distiller.records import schema
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.student.painn import StudentConfig, StudentForceField
from mlff_distiller.training import accuracy
from mlff_distiller.training.accuracy import Groups, measure, tier
from mlff_distiller.training.data import Configurations
from mlff_distiller.training.evaluate import predict
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_json
from tests.unit.data.labeled_sets import morse_dataset


@pytest.fixture(scope="module")
def student():
    torch.manual_seed(1)
    references = torch.linspace(0, -50, 101, dtype=torch.float64)
    made = StudentForceField(StudentConfig(n_features=16, n_blocks=1, mlp_width=8, readout_width=8), references)
    return made.double().requires_grad_(False)


@pytest.fixture(scope="module")
def own_labels(student):
    """A dataset labeled by the student itself."""
    dataset = morse_dataset(45)
    zero = replace(dataset, energies=np.zeros(len(dataset)))
    references = student.reference_energies.numpy()
    configurations = Configurations.build(zero, references, student.cutoff, dtype=torch.float64)
    energies, forces, _ = predict(student.network, dict(student.network.named_parameters()), configurations, 50)
    # The labels were zero, so this is minus the sum of the reference energies.
    totals = energies.numpy() - configurations.energies.numpy()
    return replace(dataset, energies=totals, forces=forces.numpy().astype(np.float64))


def test_a_student_that_agrees_has_no_error(student, own_labels):
    found = measure(student, own_labels)
    assert found["force_mae_mev_per_a"] < 1e-9
    assert found["energy_mae_mev_per_atom"] < 1e-6
    assert found["force_r2"] == pytest.approx(1.0)
    assert found["force_cosine"] == pytest.approx(1.0)
    assert found["tier"] == "excellent"


def test_errors_that_were_put_in_come_out(student, own_labels):
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], own_labels.forces.shape)
    per_molecule = np.array([0.003, -0.001, 0.002])[own_labels.molecule]  # eV/atom, the same in all of a molecule
    wrong = replace(
        own_labels,
        forces=own_labels.forces + 0.03 * signs,
        energies=own_labels.energies + per_molecule * own_labels.n_atoms,
    )
    found = measure(student, wrong)
    assert found["force_mae_mev_per_a"] == pytest.approx(30.0)
    assert found["force_rmse_mev_per_a"] == pytest.approx(30.0)
    spread = ((wrong.forces - wrong.forces.mean()) ** 2).sum()
    assert found["force_r2"] == pytest.approx(1 - 0.03**2 * wrong.forces.size / spread)
    assert found["energy_mae_mev_per_atom"] == pytest.approx(1000 * np.abs(per_molecule).mean(), rel=1e-6)
    assert found["relative_energy_mae_mev_per_atom"] < 1e-6
    assert found["tier"] == "good"
    reversed_forces = measure(student, replace(own_labels, forces=-own_labels.forces))
    assert reversed_forces["force_cosine"] == pytest.approx(-1.0)


def test_groups_add_up_to_the_whole(student, monkeypatch):
    dataset = morse_dataset(60)
    found = measure(student, dataset)
    for name in ("by_element", "by_force", "by_size", "by_method", "by_molecule"):
        groups = found[name].values()
        assert sum(group["n_atoms"] for group in groups) == len(dataset.numbers)
        total = sum(group["n_atoms"] * group["force_mae_mev_per_a"] for group in groups) / len(dataset.numbers)
        assert total == pytest.approx(found["force_mae_mev_per_a"])
    assert set(found["by_element"]) == {"1", "6", "8"}
    assert sum(group["n_configurations"] for group in found["by_method"].values()) == 60
    assert found["n_molecules"] == 3
    assert sorted(found["by_molecule"]) == sorted(set(dataset.molecules))
    several = replace(dataset, molecule=np.arange(60), molecules=[f"{k}" for k in range(60)])
    assert len(measure(student, several)["by_molecule"]) == 60
    monkeypatch.setattr(accuracy, "MOST_MOLECULES", 59)
    assert "by_molecule" not in measure(student, several)


def test_bins_take_their_lower_end():
    groups = Groups.of_values(np.array([0.0, 0.5, 0.7, 1.0, 99.0]), (0.0, 0.5, 1.0))
    assert [groups.names[row] for row in groups.member] == ["0 to 0.5", *["0.5 to 1"] * 2, *["1 and more"] * 2]


def test_parity_points_are_pairs_of_the_same_component(student, own_labels):
    wrong = replace(own_labels, forces=own_labels.forces + 0.5)
    parity = measure(student, wrong, n_points=40, seed=3)["parity"]
    assert len(parity["teacher"]) == len(parity["student"]) == len(parity["numbers"]) == 40
    np.testing.assert_allclose(np.array(parity["teacher"]) - parity["student"], 0.5, atol=2e-5)
    assert parity == measure(student, wrong, n_points=40, seed=3)["parity"]
    assert parity != measure(student, wrong, n_points=40, seed=4)["parity"]


def test_errors_do_not_depend_on_the_batch(student):
    dataset = morse_dataset(20)
    one, all_at_once = measure(student, dataset, batch_atoms=1), measure(student, dataset, batch_atoms=10_000)
    assert one["force_mae_mev_per_a"] == pytest.approx(all_at_once["force_mae_mev_per_a"], rel=1e-10)


@pytest.mark.parametrize(
    ("mae", "name"), [(20.0, "excellent"), (20.1, "good"), (50.1, "usable with a warning"), (110.0, "not usable")]
)
def test_tiers(mae, name):
    assert tier(mae) == name


def test_the_command_writes_a_record_for_each_split(tmp_path, student, own_labels, capsys):
    write_dataset(tmp_path / "data.h5", own_labels)
    save_student(tmp_path / "student.safetensors", student)
    command = [
        "accuracy",
        "--checkpoint",
        str(tmp_path / "student.safetensors"),
        "--dataset",
        str(tmp_path / "data.h5"),
    ]
    command += ["--splits", "val,test,benchmark,all", "--output", str(tmp_path / "accuracy.json")]
    assert cli.main([*command, "--settings", json.dumps({"n_points": 10, "device": "cpu"})]) == 0
    made = schema.read(tmp_path / "accuracy.json")
    assert [record["split"] for record in made] == ["val", "test", "benchmark", "all"]
    assert [record["status"] for record in made] == ["ok", "ok", "unavailable", "ok"]
    assert made[3]["n_configurations"] == 45
    # The command runs in fp32: rounding errors, far below the errors of a student.
    assert all(record["force_mae_mev_per_a"] < 0.1 for record in made if record["status"] == "ok")
    assert "excellent" in capsys.readouterr().out
    assert cli.main([*command, "--settings", '{"n_point": 3}']) == 2
    assert "n_points" in capsys.readouterr().err


def test_an_unknown_split_is_refused(tmp_path, student, own_labels):
    with pytest.raises(UserError, match="val"):
        own_labels.of_split("vla")


@pytest.fixture
def accuracy_of(tmp_path, student, own_labels):
    """Runs the command on the student's own labels, shifted by 30 meV/A; returns the records that it wrote."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], own_labels.forces.shape)
    write_dataset(tmp_path / "data.h5", replace(own_labels, forces=own_labels.forces + 0.03 * signs))
    save_student(tmp_path / "student.safetensors", student)
    card = {"teacher": "Morse pairs", "limits": {}, "sampling": {"settings": {"seed": 1}, "molecule_list_sha256": "x"}}
    write_json(tmp_path / "card.json", card)

    def run(name, *arguments):
        command = ["accuracy", "--checkpoint", str(tmp_path / "student.safetensors"), "--dataset"]
        command += [str(tmp_path / "data.h5"), "--dataset-card", str(tmp_path / "card.json"), *arguments]
        assert cli.main([*command, "--output", str(tmp_path / name)]) == 0
        return schema.read(tmp_path / name)

    run.folder = tmp_path
    return run


def test_by_default_every_split_but_train_is_measured(accuracy_of):
    assert [record["split"] for record in accuracy_of("accuracy.json")] == ["val", "test"]


def test_a_student_that_keeps_its_card_says_so(accuracy_of):
    accuracy_of("card_accuracy.json")
    again = accuracy_of("accuracy.json", "--expected", str(accuracy_of.folder / "card_accuracy.json"))
    assert all(record["status"] == "ok" and record["card"]["agrees"] for record in again)


@pytest.mark.parametrize(("factor", "agrees"), [(1.02, True), (1.05, False), (0.9, False)])
def test_an_error_beyond_the_tolerance_of_the_card_fails(accuracy_of, factor, agrees):
    promised = accuracy_of("card_accuracy.json")
    promised[1]["force_mae_mev_per_a"] *= factor
    schema.write(accuracy_of.folder / "other.json", promised)
    val, test = accuracy_of("accuracy.json", "--expected", str(accuracy_of.folder / "other.json"))
    assert val["card"]["agrees"]
    assert test["card"]["agrees"] == agrees
    assert test["status"] == ("ok" if agrees else "failed")
    assert ("force_mae_mev_per_a 30, " in test["reason"]) == (not agrees)


def test_a_card_of_another_sample_or_student_promises_nothing(accuracy_of, student):
    accuracy_of("card_accuracy.json")
    write_json(accuracy_of.folder / "card.json", {"content_sha256": "other"})
    expected = ("--expected", str(accuracy_of.folder / "card_accuracy.json"))
    assert all(record["card"] is None for record in accuracy_of("accuracy.json", *expected))


def test_an_element_not_in_the_training_data_is_refused(tmp_path, student, own_labels, capsys):
    write_dataset(tmp_path / "data.h5", own_labels)
    save_student(tmp_path / "student.safetensors", student, {"data": {"atoms_by_atomic_number": {"1": 9, "6": 9}}})
    command = [
        "accuracy",
        "--checkpoint",
        str(tmp_path / "student.safetensors"),
        "--dataset",
        str(tmp_path / "data.h5"),
    ]
    assert cli.main([*command, "--output", str(tmp_path / "accuracy.json")]) == 2
    assert "the dataset has O, which the student in" in capsys.readouterr().err
