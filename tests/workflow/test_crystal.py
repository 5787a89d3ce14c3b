"""A crystal learned from its teacher, for real: config/examples/crystal.yaml, as small as it can be."""

import json

import pytest
import yaml

from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema

TINY = {
    "run": "tiny_crystal",
    "student": {
        "sampling": {
            "structures": {
                "supercell": [1, 1, 1],
                "rattled": 12,
                "vacancies": 3,
                "dynamics": {"trajectories": 3, "frames": 3, "stride": 2, "skip": 2},
            },
        },
        "training": {
            "max_seconds": None,
            "n_steps": 20,
            "student": {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1},
        },
    },
}


@pytest.mark.timeout(900)
def test_a_crystal_is_distilled_and_compared_with_its_teacher(fresh):
    from ase.build import bulk
    from ase.io import write

    write(fresh.folder / "copper.cif", bulk("Cu", cubic=True))
    changes = yaml.safe_load(yaml.safe_dump(TINY)) | {
        "molecules": {"systems": ["copper.cif"]},
        "md": {"systems": ["copper"]},
        "acceptance": {"crystals": {"supercell_width": 6.0, "volumes": 7}},
    }
    changes["student"]["sampling"]["structures"] |= {"files": ["copper.cif"], "rattled": 40, "vacancies": 0}
    changes["student"]["training"]["n_steps"] = 200
    # Overlaid on the file with its teacher, whose arguments EMT does not take.
    example = yaml.safe_load((fresh.folder / "config/examples/crystal.yaml").read_text())
    example["teacher"] = {"calculator": "ase.calculators.emt:EMT"}
    (fresh.folder / "emt.yaml").write_text(yaml.safe_dump(example))
    (fresh.folder / "tiny.yaml").write_text(yaml.safe_dump(changes))
    files = ("--configfile", "emt.yaml", "tiny.yaml")
    done = fresh.snakemake("acceptance", "results/tiny_crystal/student/accuracy.json", *files, timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = fresh.folder / "results/tiny_crystal"
    assert read_dataset(folder / "dataset/labels.h5").has_stress.all()
    assert json.loads((folder / "dataset/labels.json").read_text())["stress"].endswith("labels have a stress")
    accuracy = {record["split"]: record for record in schema.read(folder / "student/accuracy.json")}
    assert accuracy["test"]["n_stresses"] > 0
    assert 0 < accuracy["test"]["stress_mae_gpa"] < accuracy["test"]["stress_rms_gpa"]
    records = schema.read(folder / "acceptance/student.json")
    # The student learned no molecules, and the teacher was asked for none.
    assert [(record["task"], record["system"]) for record in records] == [
        ("volume", "copper"),
        ("elastic", "copper"),
        ("phonons", "copper"),
    ]
    assert records[0]["bulk_modulus_gpa"] == pytest.approx(134, abs=3)
    assert fresh.plan("acceptance", *files) == {}
