"""The check of the teacher before any work; each in a process of its own, since torch and tblite bring different OpenMPs."""

import json
import subprocess
import sys

import pytest

from mlff_distiller.records import schema
from tests.conftest import MOLECULES

SYSTEMS = [str(MOLECULES / f"{name}.extxyz") for name in ("benzene", "water")]


def check(output, teacher):
    command = [sys.executable, "-m", "mlff_distiller", "check-teacher", "--systems", *SYSTEMS, "--output", str(output)]
    given = ["--settings", json.dumps({"teacher": teacher})]
    return subprocess.run([*command, *given], capture_output=True, text=True)


def test_the_teacher_labels_the_smallest_molecule(tmp_path):
    assert check(tmp_path / "teacher.json", {}).returncode == 0
    (record,) = schema.read(tmp_path / "teacher.json")
    (found,) = record["checks"]
    assert found["ok"]
    # GFN2-xTB's water, near its minimum.
    assert "method=GFN2-xTB" in found["value"]
    assert "water has -137.9" in found["value"]


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"arguments": {"metod": "GFN1-xTB"}}, "unknown key 'metod'; did you mean 'method'"),
        ({"arguments": {"method": "GFN3-xTB"}}, "GFN3-xTB"),
        ({"calculator": "nowhere:Nothing", "arguments": {}}, "nowhere"),
        ({"calculator": "tblite.ase:TBLit", "arguments": {}}, "did you mean 'TBLite'"),
        # Without its parameters it labels nothing.
        ({"calculator": "ase.calculators.lj:LennardJones", "arguments": {"rc": "far"}}, "far"),
    ],
)
def test_a_teacher_that_cannot_label_is_named_before_any_work(tmp_path, teacher, message):
    done = check(tmp_path / "none.json", teacher)
    assert done.returncode == 2
    assert message in done.stderr
    assert "teacher" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "none.json").exists()
