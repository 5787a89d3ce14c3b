"""Students of neural teachers that run in environments of their own, for real: the examples, as small as they can be.

`make test-teachers` makes the environments; elsewhere, where one is missing, its tests are skipped.
"""

import json
import os

import pytest
import yaml
from ase.build import bulk, molecule
from ase.io import write

from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.utils.files import CHECKOUT
from tests.workflow.test_crystal import TINY
from tests.workflow.test_liquid import tiny, write_box

#: Teacher -> what is laid over the example, its name in labels, and its energy of an atom of silicon (PBE: -5.42), eV.
TEACHERS = {
    "sevennet": ({}, "sevenn.calculator:SevenNetCalculator(device=cpu, model=7net-0)", -5.42),
    "chgnet": (
        {
            "calculator": "chgnet.model.dynamics:CHGNetCalculator",
            "arguments": {"use_device": "cpu"},
            "python": ".venv-chgnet/bin/python",
        },
        "chgnet.model.dynamics:CHGNetCalculator(use_device=cpu)",
        -5.31,
    ),
}


@pytest.fixture
def with_teacher(fresh):
    """Gives the checkout the environment of a teacher."""

    def give(name):
        environment = CHECKOUT / f".venv-{name}"
        if not (environment / ".set-up").is_file():
            words = f"{environment.name} is not there: `make {name}` makes it"
            if os.environ.get("TEST_TEACHERS"):
                pytest.fail(words, pytrace=False)
            pytest.skip(words)
        (fresh.folder / environment.name).symlink_to(environment)
        return fresh

    return give


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TEACHERS)
def test_a_crystal_is_distilled(with_teacher, name):
    checkout = with_teacher(name)
    changes, called, energy = TEACHERS[name]
    example = yaml.safe_load((checkout.folder / "config/examples/crystal.yaml").read_text())
    # Whole, since the arguments of one teacher are none of the other's.
    example["teacher"] |= changes
    (checkout.folder / "mine.yaml").write_text(yaml.safe_dump(example))
    (checkout.folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    files = ("--configfile", "mine.yaml", "tiny.yaml")
    done = checkout.snakemake("distill", *files, timeout=800)
    assert done.returncode == 0, done.stderr[-4000:]
    folder = checkout.folder / "results/tiny_crystal"

    checks = schema.read(folder / "preflight/teacher.json")[0]["checks"]
    assert [found["name"] for found in checks] == ["teacher", "teacher's forces", "teacher's stress"]
    labels = read_dataset(folder / "dataset/labels.h5")
    assert len(labels) == 24
    assert labels.pbc.all()
    assert labels.has_stress.all()
    assert labels.teacher == called
    assert json.loads((folder / "dataset/labels.json").read_text())["left_out"] == {}
    assert labels.energies.min() / 8 == pytest.approx(energy, abs=0.03)
    errors = {record["split"]: record for record in schema.read(folder / "student/accuracy.json")}
    assert set(errors) == {"val", "test"}
    assert errors["test"]["force_rms_mev_per_a"] > 100
    assert checkout.plan("distill", *files) == {}


def test_an_element_that_sevennet_does_not_know_stops_the_run_by_name(with_teacher):
    checkout = with_teacher("sevennet")
    write(checkout.folder / "polonium.cif", bulk("Po", "sc", a=3.36))
    changes = {
        "molecules": {"systems": ["polonium.cif"]},
        "md": {"systems": ["polonium"]},
        "student": {"sampling": {"structures": {"files": ["polonium.cif"]}}},
    }
    (checkout.folder / "tiny.yaml").write_text(yaml.safe_dump(changes))
    done = checkout.snakemake("distill", "--configfile", "config/examples/crystal.yaml", "tiny.yaml")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "cannot label polonium" in said
    assert "no energy for Po" in said
    assert not (checkout.folder / "results/crystal/dataset").exists()


@pytest.mark.timeout(1800)
def test_water_is_distilled_from_sevennet_and_compared_as_a_liquid(with_teacher):
    checkout = with_teacher("sevennet")
    write_box(checkout.folder, "water", liquid_box(molecule("H2O"), 8, 0.8))
    changes = tiny("water") | {"teacher": {"arguments": {"device": "cpu"}}}
    (checkout.folder / "tiny.yaml").write_text(yaml.safe_dump(changes))
    files = ("--configfile", "config/examples/liquid.yaml", "tiny.yaml")
    target = "results/tiny_liquid/md/cpp/pairs/water.json"
    done = checkout.snakemake("distill", target, *files, timeout=1700)
    assert done.returncode == 0, done.stderr[-4000:]
    labels = read_dataset(checkout.folder / "results/tiny_liquid/dataset/labels.h5")
    assert labels.pbc.all()
    assert labels.has_stress.all()
    assert labels.teacher == "sevenn.calculator:SevenNetCalculator(device=cpu, model=7net-0)"
    (record,) = schema.read(checkout.folder / target)
    assert record["status"] == "ok", record["reason"]
    assert set(record["pair_distributions"]["teacher"]) == {"O-O", "O-H", "H-H"}
    # 20 fs of a student of 20 steps: what it started from is still there.
    assert 0 < record["pair_difference"] < 1
    assert "pressure_error_gpa" in record["gates"]
