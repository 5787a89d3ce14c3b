"""Labels and teacher of one's own, for real: imported, learned, run in MD, labeled again, compared, told in a card."""

import pytest
import yaml
from ase.io import write

from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema
from tests.unit.data.labeled_sets import emt_frames

MINE = {
    "run": "mine",
    "teacher": {"calculator": "my_teacher:emt"},
    "molecules": {"systems": ["water", "methane"]},
    "student": {
        "checkpoint": None,
        "dataset": "mine.extxyz",
        "training": {
            "max_seconds": None,
            "n_steps": 30,
            "student": {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1},
        },
    },
    "md": {"systems": ["water"], "settings": {"steps": 100, "equilibration_steps": 20, "sample_every": 5}},
    "accuracy": {"visited_frames": 2},
}
TEN = ("H2O", "CH4", "CH3OH", "C2H2", "C2H4", "C2H6", "CO", "H2CO", "NH3", "N2")


@pytest.fixture
def mine(fresh):
    """A checkout with a teacher and labels of one's own."""
    (fresh.folder / "my_teacher.py").write_text(
        "from ase.calculators.emt import EMT\n\n\ndef emt():\n    return EMT()\n"
    )
    (fresh.folder / "mine.yaml").write_text(yaml.safe_dump(MINE))
    write(fresh.folder / "mine.extxyz", emt_frames(6, names=TEN))
    return fresh


@pytest.mark.timeout(900)
def test_own_labels_and_an_own_teacher_end_in_a_card(mine):
    done = mine.snakemake("accuracy", "--configfile", "mine.yaml", timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = mine.folder / "results/mine"
    assert len(read_dataset(folder / "dataset/labels.h5")) == 60
    held_out = {record["split"]: record for record in schema.read(folder / "student/accuracy.json")}
    assert set(held_out) == {"val", "test"}
    assert all(record["labels"] == "labels of mine.extxyz" for record in held_out.values())
    (visited,) = schema.read(folder / "student/accuracy_visited.json")
    assert visited["n_configurations"] == 2
    assert visited["labels"] == "my_teacher:emt()"
    card = (folder / "student/README.md").read_text()
    assert f"{held_out['test']['force_mae_mev_per_a']:,.0f}"[:3] in card
    assert (folder / "student/figures/learning_curve.png").stat().st_size > 5000
    assert mine.plan("accuracy", "--configfile", "mine.yaml") == {}


def test_labels_in_another_unit_stop_the_run_before_any_work(mine):
    write(mine.folder / "mine.extxyz", emt_frames(12, energy_factor=23.06, names=TEN))
    done = mine.snakemake("accuracy", "--configfile", "mine.yaml")
    assert done.returncode != 0
    assert "energies in kcal/mol, forces in eV/A" in done.stdout + done.stderr
    assert not (mine.folder / "results/mine/student").exists()
