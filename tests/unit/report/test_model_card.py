"""The student's model card: its contents, and that the shipped card describes the shipped student."""

from pathlib import Path

import pytest
import yaml

from mlff_distiller import cli
from mlff_distiller.data.labeling_settings import LabelLimits
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.data.teacher import teacher_name
from mlff_distiller.records import schema
from mlff_distiller.records.wording import number
from mlff_distiller.report.model_card import page, read_header
from mlff_distiller.training.expected import sample_identity
from mlff_distiller.utils.files import sha256_of
from tests.unit.records.synthetic_records import acceptance, accuracy, training

SHIPPED = Path("resources/student")
CHECKPOINT = SHIPPED / "student.safetensors"


def write_card(folder, sha256, *arguments):
    made = [accuracy(split, mae) | {"student_sha256": sha256} for split, mae in (("test", 41.5), ("visited", 38.2))]
    schema.write(folder / "accuracy.json", made)
    schema.write(folder / "training.json", [training()])
    command = ["model-card", "--checkpoint", str(CHECKPOINT), "--accuracy", str(folder / "accuracy.json")]
    return cli.main([*command, "--output", str(folder / "README.md"), *arguments])


def test_the_card_tells_what_the_student_is_and_what_was_measured(tmp_path):
    assert write_card(tmp_path, sha256_of(CHECKPOINT), "--training", str(tmp_path / "training.json")) == 0
    card = (tmp_path / "README.md").read_text()
    for said in ("| test | 200 | 20 | 41.5 |", "| visited | 200 | 20 | 38.2 |", "128 features, 3 blocks", "H, C, N, O"):
        assert said in card
    for heading in ("How good it is", "Data", "Training", "Known limits"):
        assert f"\n## {heading}\n" in card
    for figure in ("force_parity", "force_errors", "learning_curve"):
        assert f"](figures/{figure}.png)" in card
        assert (tmp_path / "figures" / f"{figure}.png").stat().st_size > 5000


def test_without_a_record_of_the_training_there_is_no_learning_curve(tmp_path):
    assert write_card(tmp_path, sha256_of(CHECKPOINT)) == 0
    assert "learning_curve" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("trained", "told"), [(["O", "C"], ", of which water, methane were trained on, too"), ([], "")]
)
def test_the_card_names_the_benchmark_molecules_that_were_trained_on(trained, told):
    header = read_header(CHECKPOINT)
    counts = header["card"]["data"]["by_split"]["benchmark"]
    header["card"]["data"]["by_split"]["benchmark"] = counts | {"also_trained_on": trained}
    card = page(CHECKPOINT, header, [accuracy("test", 41.5), accuracy("coverage", 30.0)], [], {}, [])
    assert f"*benchmark*: the seven benchmark molecules{told}; *visited*" in card
    assert "*coverage*: other configurations of molecules" in card
    assert ("trained on, too" in card) == bool(trained)


def test_the_card_tells_what_each_round_gained(tmp_path):
    sha256 = sha256_of(CHECKPOINT)
    paths = []
    for n in (1, 2):
        before = {"force_mae_mev_per_a": 80.0 / n, "energy_mae_mev_per_atom": 4.0 / n}
        after = {"force_mae_mev_per_a": 60.0 / n, "energy_mae_mev_per_atom": 3.0 / n}
        common = {"variant": "student", "task": "round", "round": n}
        went = {"trajectories": 90, "diverged": {"too hot": 3} if n == 1 else {}}
        found = {"frames": "explored", "n_configurations": 50, "n_molecules": 7, "before": before} | after | went
        none = {"frames": "sampled", "status": "unavailable", "reason": "no frame of it"}
        records = [schema.record("accuracy", **common, **found), schema.record("accuracy", **common, **none)]
        paths.append(str(schema.write(tmp_path / f"gain{n}.json", records)))
    assert write_card(tmp_path, sha256, "--rounds", *paths) == 0
    card = (tmp_path / "README.md").read_text()
    assert "| 1 | explored | 50 | 7 | 80.0 -> 60.0 | 4.00 -> 3.00 | 90 | too hot: 3 |" in card
    assert "| 2 | explored | 50 | 7 | 40.0 -> 30.0 | 2.00 -> 1.50 | 90 | 0 |" in card
    assert "| 2 | sampled | - | - | - -> - | - -> - | - | - (no frame of it) |" in card
    # They are not errors on a part of the dataset.
    assert "| None |" not in card
    assert "No further round was made: as many as `student.rounds.number` asks for were." in card
    ends = {"round": 2, "enough": "900 labels would be more than max_labels, 800", "n_labels": 850, "seconds": 750.0}
    for n, fields in {1: {"round": 1, "enough": None, "n_labels": 800, "seconds": 400.0}, 2: ends}.items():
        record = schema.record("accuracy", variant="student", task="round_limit", **fields)
        paths.append(str(schema.write(tmp_path / f"enough{n}.json", [record])))
    assert write_card(tmp_path, sha256, "--rounds", *paths) == 0
    card = (tmp_path / "README.md").read_text()
    assert "No further round was made: 900 labels would be more than max_labels, 800." in card
    assert "| None |" not in card
    assert write_card(tmp_path, sha256) == 0
    assert "Its own frames" not in (tmp_path / "README.md").read_text()


def test_figures_of_another_student_are_not_put_on_its_card(tmp_path, capsys):
    assert write_card(tmp_path, "another") == 2
    assert "the records of accuracy are of another student" in capsys.readouterr().err


@pytest.mark.parametrize("own", [True, False])
def test_the_card_has_the_chemistry_of_its_own_student_alone(tmp_path, own, capsys):
    sha256 = sha256_of(CHECKPOINT)
    records = [entry | {"checkpoint_sha256": sha256 if own else "another"} for entry in acceptance()]
    schema.write(tmp_path / "acceptance.json", records)
    done = write_card(tmp_path, sha256, "--acceptance", str(tmp_path / "acceptance.json"))
    assert done == (0 if own else 2)
    if own:
        assert "| Harmonic frequencies: MAE (cm⁻¹) | 3 | 6.7 | 50 | methane |" in (tmp_path / "README.md").read_text()
    else:
        assert "the records of acceptance are of another student" in capsys.readouterr().err


def test_a_file_that_is_no_student_is_named(tmp_path, capsys):
    (tmp_path / "student.safetensors").write_bytes(b"\x05\x00")
    command = [
        "model-card",
        "--checkpoint",
        str(tmp_path / "student.safetensors"),
        "--output",
        str(tmp_path / "card.md"),
    ]
    schema.write(tmp_path / "accuracy.json", [accuracy("test", 40.0)])
    assert cli.main([*command, "--accuracy", str(tmp_path / "accuracy.json")]) == 2
    assert "student.safetensors: not a student's checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("split", ["test", "larger", "benchmark"])
def test_the_card_that_ships_is_of_the_student_that_ships_and_of_the_default_sample(split):
    """Otherwise a default run compares nothing; `make card` writes a new card."""
    config = yaml.safe_load(Path("config/config.yaml").read_text())
    sample = {
        "teacher": teacher_name(config["teacher"]),
        "limits": LabelLimits.from_mapping(config["student"]["limits"]).to_mapping(),
        "sampling": {
            "settings": SamplingSettings.from_mapping(config["student"]["sampling"]).to_mapping(),
            "molecule_list_sha256": sha256_of(config["molecules"]["list"]),
        },
    }
    promised = {record["split"]: record for record in schema.read(SHIPPED / "accuracy_default.json")}[split]
    assert promised["status"] == "ok"
    assert promised["student_sha256"] == sha256_of(CHECKPOINT)
    assert promised["sample_sha256"] == sample_identity(sample)
    card = (SHIPPED / "README.md").read_text()
    assert sha256_of(CHECKPOINT) in card
    told = (promised["n_configurations"], promised["n_molecules"], number(promised["force_mae_mev_per_a"]))
    assert f"| {split} | {' | '.join(map(str, told))} |" in card
