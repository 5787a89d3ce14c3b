"""A molecule learned from GFN2-xTB, for real: config/examples/own_molecule.yaml, as small as it can be, with another molecule."""

import json

import pytest
import yaml

from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema
from tests.workflow.conftest import ROOT

EXAMPLE = "config/examples/own_molecule.yaml"
#: Acetamide for lidocaine: a label costs a hundredth.
TINY = {
    "run": "tiny_molecule",
    "molecules": {"systems": ["acetamide.xyz"]},
    "student": {
        "sampling": {
            "structures": {
                "files": ["acetamide.xyz"],
                "conformers": 2,
                "rattled": 12,
                "dynamics": {"trajectories": 6, "frames": 4, "stride": 3, "skip": 5},
            }
        },
        "training": {"n_steps": 30, "batch_atoms": 128, "warmup_steps": 5},
        "rounds": {"explore": {"steps": 100, "labels": 30, "torsions": 1}, "training": {"n_steps": 30}},
    },
    "md": {"systems": ["acetamide"]},
    "acceptance": {"torsions": {"per_molecule": 1, "points": 8}},
}


@pytest.mark.timeout(1800)
def test_a_molecule_is_distilled_explored_and_compared_with_its_teacher(fresh):
    from ase.build import molecule
    from ase.io import write

    write(fresh.folder / "acetamide.xyz", molecule("CH3CONH2"))
    (fresh.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    files = ("--configfile", EXAMPLE, "tiny.yaml")
    done = fresh.snakemake("distill", "acceptance", *files, timeout=1700)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = fresh.folder / "results/tiny_molecule"

    labels = read_dataset(folder / "dataset/labels.h5")
    assert {labels.methods[i] for i in labels.method} == {"rattled", "md"}
    assert "acetamide" in labels.molecules
    # Whole trajectories are held out.
    assert all(len(labels.of_split(split)) for split in ("train", "val", "test"))
    visited = json.loads((folder / "rounds/1/exploring.json").read_text())
    assert 0 < visited["configurations"] <= 30

    accuracy = {record["split"]: record for record in schema.read(folder / "student/accuracy.json")}
    # It goes on from a student that knows such molecules by 35 meV/A.
    assert 0 < accuracy["test"]["force_mae_mev_per_a"] < 80
    assert accuracy["test"]["force_rms_mev_per_a"] > 500

    records = schema.read(folder / "acceptance/student.json")
    assert {record["task"] for record in records} >= {"geometry", "frequencies", "torsion"}
    assert {(record["system"], record["split"], record["smiles"]) for record in records} == {
        ("acetamide", "train", "CC(N)=O")
    }
    geometry = next(record for record in records if record["task"] == "geometry")
    assert geometry["status"] == "ok"
    assert geometry["rmsd_a"] < 0.3
    assert fresh.plan("distill", "acceptance", *files) == {}


@pytest.mark.parametrize("name", ["own_molecule", "liquid", "crystal"])
def test_an_example_is_planned_from_structure_to_bundle_and_report(fresh, name):
    planned = fresh.plan("--configfile", f"config/examples/{name}.yaml")
    assert {"sample_configurations", "label_configurations", "train_student", "render_report"} <= planned.keys()
    assert {"run_md", "measure_acceptance", "time_teacher"} <= planned.keys()
    assert any(rule.startswith("deploy") for rule in planned)


def test_the_molecule_that_ships_is_the_one_it_says():
    from mlff_distiller.data.geometry import shape_of
    from mlff_distiller.systems.read import read_system

    atoms = read_system(ROOT / "config/examples/lidocaine.sdf")
    shape = shape_of(atoms, 1, 0)
    assert len(atoms) == 39
    assert shape.smiles == "CCN(CC)CC(=O)Nc1c(C)cccc1C"
