"""Teachers from the configuration. tblite runs in processes of its own: beside torch it would give wrong energies."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import write

from mlff_distiller.data.read import read_dataset
from mlff_distiller.data.teacher import LabelError, label, make_calculator, teacher_name
from mlff_distiller.records import schema
from mlff_distiller.utils.errors import UserError

EMT = {"calculator": "ase.calculators.emt:EMT"}


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "workflow", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_default_teacher_labels_water_as_gfn2_does():
    """Energy against the GFN2-xTB minimum that ships; forces against finite differences of the energy."""
    found = run_python(
        """
import json, sys
from mlff_distiller.systems.read import load_system
from mlff_distiller.data.teacher import make_calculator, label
water, calculator = load_system("water", "resources/molecules"), make_calculator()
energy, forces = label(water, calculator)
water.positions[1] += [0.05, 0.02, -0.01]
_, bent = label(water, calculator)
def energy_at(d):
    moved = water.copy(); moved.positions[1, 0] += d
    return label(moved, calculator)[0]
slope = (energy_at(1e-3) - energy_at(-1e-3)) / 2e-3
shipped = water.info["teacher_energy_ev"]
print(json.dumps([energy, shipped, float(abs(forces).max()), bent[1, 0], slope, "torch" in sys.modules]))
"""
    )
    energy, shipped, largest, force, slope, torch_loaded = found
    assert energy == pytest.approx(shipped, abs=1e-5)
    assert largest <= 0.01
    assert force == pytest.approx(-slope, abs=2e-4)
    assert abs(force) > 0.5
    assert not torch_loaded


@pytest.mark.parametrize(("threads", "stack"), [("1", "16K"), ("2", "64K"), ("2", "1G")])
def test_the_stack_of_openmps_threads_changes_no_label(threads, stack):
    """One thread, as labels are made, has the stack of the process and not this one; several have the one asked for."""
    energy, shipped, largest = run_python(
        """
import json
from mlff_distiller.systems.read import load_system
from mlff_distiller.data.teacher import make_calculator, label
atoms = load_system("penicillin_g", "resources/molecules")
energy, forces = label(atoms, make_calculator())
print(json.dumps([energy, atoms.info["teacher_energy_ev"], float(abs(forces).max())]))
""",
        OMP_NUM_THREADS=threads,
        OMP_STACKSIZE=stack,
    )
    assert energy == pytest.approx(shipped, abs=1e-5)
    assert largest <= 0.01


def test_any_ase_calculator_can_teach():
    calculator = make_calculator(EMT)
    energy, forces = label(molecule("CO"), calculator)
    assert np.isfinite(energy)
    assert forces.shape == (2, 3)
    assert np.allclose(forces.sum(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"calculater": "a:b"}, "teacher: unknown key 'calculater'; did you mean 'calculator'"),
        ({"calculator": "ase.calculators.emt"}, "got 'ase.calculators.emt'; for example tblite.ase:TBLite"),
        ({"calculator": "no_such_package.here:Thing"}, "cannot import 'no_such_package.here'"),
        ({"calculator": "ase.calculators.emt:EMTT"}, "has no 'EMTT'; did you mean 'EMT'"),
        (
            {"calculator": "ase.calculators.emt:EMT", "arguments": ["x"]},
            r"teacher\.arguments: expected mapping, got \['x'\]",
        ),
        ({"calculator": "ase:Atoms"}, "has no energy and no forces"),
        ({"calculator": "builtins:int", "arguments": {"x": 1}}, r"int\(\*\*\{'x': 1\}\) failed"),
    ],
)
def test_a_teacher_that_cannot_be_made_says_why(teacher, message):
    with pytest.raises(UserError, match=message):
        make_calculator(teacher)


def test_a_failing_teacher_gives_a_label_error():
    with pytest.raises(LabelError, match="NotImplementedError"):
        label(Atoms("U"), make_calculator(EMT))


def test_a_factory_in_a_file_of_ones_own_teaches(tmp_path):
    """Workers are fresh processes: they must find the file in the working folder, too."""
    (tmp_path / "my_teacher.py").write_text(
        "from ase.calculators.emt import EMT\n\n\ndef twice(times):\n"
        "    class Scaled(EMT):\n"
        "        def calculate(self, *arguments):\n"
        "            super().calculate(*arguments)\n"
        "            self.results = {name: times * value for name, value in self.results.items()}\n"
        "    return Scaled()\n"
    )
    frame = molecule("CO")
    write(tmp_path / "co.extxyz", frame)
    settings = {"teacher": {"calculator": "my_teacher:twice", "arguments": {"times": 2.0}}}
    command = [sys.executable, "-m", "mlff_distiller", "label", "--trajectories", "co.extxyz", "--output", "co.h5"]
    done = subprocess.run(
        [*command, "--settings", json.dumps(settings)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.path.abspath("workflow")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    labeled = read_dataset(tmp_path / "co.h5")
    frame.calc = make_calculator(EMT)
    assert labeled.energies[0] == pytest.approx(2 * frame.get_potential_energy(), rel=1e-6)
    assert np.allclose(labeled.forces, 2 * frame.get_forces(), atol=1e-5)
    assert labeled.teacher == "my_teacher:twice(times=2.0)"


def test_another_method_of_the_default_teacher_gives_other_labels():
    """GFN1-xTB by its name alone: the rest of the default's arguments stay."""
    code = """
import json
from mlff_distiller.systems.read import load_system
from mlff_distiller.data.teacher import make_calculator, label
water = load_system("water", "resources/molecules")
spec = {"calculator": "tblite.ase:TBLite", "arguments": {"method": "GFN1-xTB"}}
energy, forces = label(water, make_calculator(spec))
print(json.dumps([energy, float(abs(forces).max()), label(water, make_calculator())[0]]))
"""
    gfn1, largest, gfn2 = run_python(code)
    assert abs(gfn1 - gfn2) > 1.0
    assert 0.01 < largest < 5.0, "the shipped geometry is the minimum of GFN2, not of GFN1"


def test_teacher_name_ignores_verbosity_only():
    assert teacher_name() == "tblite.ase:TBLite(method=GFN2-xTB)"
    quiet = {"arguments": {"method": "GFN1-xTB", "verbosity": 3}}
    assert teacher_name(quiet) == "tblite.ase:TBLite(method=GFN1-xTB)"
    assert teacher_name(EMT) == "ase.calculators.emt:EMT()"


def test_time_teacher_writes_one_record_per_system_with_its_threads_fixed(tmp_path):
    settings = json.dumps({"teacher": {"calculator": "tblite.ase:TBLite"}})
    output = tmp_path / "teacher.json"
    command = [sys.executable, "-m", "mlff_distiller", "time-teacher", "--systems"]
    command += [f"resources/molecules/{name}.extxyz" for name in ("water", "methane")]
    command += ["--output", str(output), "--runs", "3", "--warmup", "1"]
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")} | {"PYTHONPATH": "workflow"}
    done = subprocess.run(
        [*command, "--threads", "1", "--settings", settings],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = schema.read(output)
    assert [(r["system"], r["n_atoms"], r["variant"], r["task"], r["status"]) for r in found] == [
        ("water", 3, "teacher", "energy_forces", "ok"),
        ("methane", 5, "teacher", "energy_forces", "ok"),
    ]
    assert all(len(r["samples_ms"]) == 3 and min(r["samples_ms"]) > 0.05 and r["threads"] == 1 for r in found)
    assert all(r["others_cores"] >= 0 for r in found)
    assert json.loads(output.read_text())["provenance"]["threads"]["OMP_NUM_THREADS"] == "1"


def test_time_teacher_records_a_failure_and_goes_on(tmp_path):
    output = tmp_path / "teacher.json"
    environment = {**os.environ, "PYTHONPATH": "workflow"}
    command = [sys.executable, "-m", "mlff_distiller", "time-teacher", "--systems"]
    command += [f"resources/molecules/{name}.extxyz" for name in ("water", "penicillin_g")]
    command += ["--output", str(output), "--runs", "1"]
    # EMT knows H and O, but no sulfur potential that could label a penicillin.
    done = subprocess.run(
        [*command, "--settings", json.dumps({"teacher": EMT})],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    water, penicillin = schema.read(output)
    assert water["status"] == "ok"
    assert penicillin["status"] == "failed"
    assert "NotImplementedError" in penicillin["reason"]
