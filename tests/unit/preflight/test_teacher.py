"""The check of the teacher before any work; each in a process of its own, since torch and tblite bring different OpenMPs."""

import json
import os
import subprocess
import sys

import pytest
from ase.build import bulk, fcc111
from ase.io import write

from mlff_distiller.records import schema
from tests.conftest import MOLECULES

SYSTEMS = [str(MOLECULES / f"{name}.extxyz") for name in ("benzene", "water")]


def check(output, teacher, *more, systems=SYSTEMS):
    command = [sys.executable, "-m", "mlff_distiller", "check-teacher", "--systems", *systems, "--output", str(output)]
    given = ["--settings", json.dumps({"teacher": teacher}), *more]
    return subprocess.run(
        [*command, *given],
        # A teacher's own file lies in the folder of the record.
        env={**os.environ, "PYTHONPATH": f"{os.path.abspath('workflow')}:{output.parent}"},
        capture_output=True,
        text=True,
    )


def own_teacher(folder, change):
    """EMT, whose ``energy`` (eV) and ``forces`` [N, 3] (eV/A) at ``positions`` [N, 3] (A) a line of Python changes."""
    (folder / "own_teacher.py").write_text(
        "import numpy as np\nfrom ase.calculators.emt import EMT\n\n\n"
        "class Own(EMT):\n"
        "    def calculate(self, atoms, properties, changes):\n"
        "        super().calculate(atoms, properties, changes)\n"
        "        energy, forces, positions = self.results['energy'], self.results['forces'], atoms.positions\n"
        f"        {change}\n"
        "        self.results |= {'energy': energy, 'forces': forces}\n"
    )
    return {"calculator": "own_teacher:Own"}


def test_the_teacher_labels_the_smallest_molecule(tmp_path):
    assert check(tmp_path / "teacher.json", {}).returncode == 0
    (record,) = schema.read(tmp_path / "teacher.json")
    found, forces = record["checks"]
    assert found["ok"]
    assert forces["value"] == "gradient of the energy to 0.0% for water (limit 1%)"
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


@pytest.mark.parametrize(
    "change",
    [
        "forces = -forces",
        "forces = 1.05 * forces",
        "forces = forces / 23.06",
        "energy *= 27.2114",
        # A vortex about an axis: no energy has such forces.
        "forces = forces + 0.5 * np.cross([0.0, 0.0, 1.0], positions - positions.mean(axis=0))",
    ],
)
def test_forces_that_are_no_gradient_are_refused_unless_the_configuration_takes_them(tmp_path, change):
    teacher = own_teacher(tmp_path, change)
    done = check(tmp_path / "none.json", teacher)
    assert done.returncode == 2
    assert "the forces of own_teacher:Own() are not the gradient of its energy: for water" in done.stderr
    assert "teacher.check_forces: false" in done.stderr
    assert not (tmp_path / "none.json").exists()
    assert check(tmp_path / "taken.json", teacher | {"check_forces": False}).returncode == 0
    (record,) = schema.read(tmp_path / "taken.json")
    assert record["checks"][-1]["advice"] == "these forces are no gradient: teacher.check_forces is false"


def test_forces_on_a_crystal_of_one_atom_in_its_cell_are_compared_too(tmp_path):
    write(tmp_path / "copper.cif", bulk("Cu"))
    copper = [str(tmp_path / "copper.cif")]
    done = check(tmp_path / "none.json", own_teacher(tmp_path, "forces = 1.05 * forces"), systems=copper)
    assert done.returncode == 2
    assert "not the gradient of its energy: for copper" in done.stderr


def test_a_network_in_fp32_passes_beside_large_energies(tmp_path):
    """Its energy has digits to 0.004 eV: differences of it say little, but the forces are right."""
    teacher = own_teacher(tmp_path, "energy = float(np.float32(energy - 5e4))")
    assert check(tmp_path / "teacher.json", teacher).returncode == 0


def test_every_structure_is_labeled_and_the_smallest_one_displaced(tmp_path):
    for symbol in ("Cu", "Ag"):
        write(tmp_path / f"{symbol}.cif", bulk(symbol, cubic=symbol == "Cu"))
    teacher = {"calculator": "ase.calculators.emt:EMT"}
    structures = ["--structures", str(tmp_path / "Cu.cif"), str(tmp_path / "Ag.cif")]
    assert check(tmp_path / "teacher.json", teacher, *structures).returncode == 0
    (record,) = schema.read(tmp_path / "teacher.json")
    told = [found["value"] for found in record["checks"]]
    # One atom of silver alone has no forces; eight have.
    assert told[-2:] == [
        "gradient of the energy to 0.0% for Ag (limit 1%)",
        "derivative of the energy by the strain to 0.0% for Ag (limit 1%)",
    ]
    assert [next(name for name in ("water", "Cu", "Ag") if f" {name} " in value) for value in told] == [
        *("water", "Cu", "Ag"),
        *("water", "Ag", "Ag"),
    ]


@pytest.mark.parametrize("change", ["*= -1", "*= 160.2", "*= atoms.get_volume()", "[3:] *= 0.5"])
def test_a_stress_that_is_no_derivative_is_refused_unless_the_configuration_takes_it(tmp_path, change):
    write(tmp_path / "Cu.cif", bulk("Cu"))
    # Of molecules there is none.
    teacher = own_teacher(tmp_path, f"if 'stress' in self.results: self.results['stress']{change}")
    crystal = ["--structures", str(tmp_path / "Cu.cif")]
    done = check(tmp_path / "none.json", teacher, *crystal)
    assert done.returncode == 2
    assert "the stress of own_teacher:Own() is not the derivative of its energy by the strain: for Cu" in done.stderr
    assert "teacher.stress: false" in done.stderr
    for words, told in (
        ({"stress": False}, "gradient of the energy"),
        ({"check_forces": False}, "derivative of the energy"),
    ):
        assert check(tmp_path / "taken.json", teacher | words, *crystal).returncode == 0
        (record,) = schema.read(tmp_path / "taken.json")
        assert told in record["checks"][-1]["value"]


WRONG_STRESS = "if 'stress' in self.results: self.results['stress'] *= -1"


def test_the_stress_is_that_of_the_smallest_structure_that_is_periodic_along_all_three_vectors(tmp_path):
    write(tmp_path / "slab.extxyz", fcc111("Cu", (1, 1, 2), vacuum=6.0))
    write(tmp_path / "Cu.cif", bulk("Cu", cubic=True))
    both = ["--structures", str(tmp_path / "slab.extxyz"), str(tmp_path / "Cu.cif")]
    done = check(tmp_path / "none.json", own_teacher(tmp_path, WRONG_STRESS), *both)
    assert done.returncode == 2
    assert "is not the derivative of its energy by the strain: for Cu" in done.stderr


def test_a_wrong_stress_that_no_label_has_is_advice(tmp_path):
    write(tmp_path / "Cu.cif", bulk("Cu"))
    teacher, copper = own_teacher(tmp_path, WRONG_STRESS), [str(tmp_path / "Cu.cif")]
    assert check(tmp_path / "teacher.json", teacher, systems=copper).returncode == 0
    (record,) = schema.read(tmp_path / "teacher.json")
    assert record["checks"][-1]["name"] == "teacher's stress"
    assert "no label has it; set teacher.stress: false" in record["checks"][-1]["advice"]
    done = check(tmp_path / "none.json", teacher, "--cells-learned", systems=copper)
    assert done.returncode == 2
    assert "is not the derivative of its energy by the strain: for Cu" in done.stderr


def test_a_teacher_without_stress_is_noted(tmp_path):
    write(tmp_path / "Cu.cif", bulk("Cu"))
    teacher = own_teacher(tmp_path, "self.implemented_properties = ['energy', 'forces']")
    assert check(tmp_path / "teacher.json", teacher, "--structures", str(tmp_path / "Cu.cif")).returncode == 0
    (record,) = schema.read(tmp_path / "teacher.json")
    assert record["checks"][-1]["value"] == "own_teacher:Own() gives none for Cu"
    assert record["checks"][-1]["advice"] == "the student learns from energies and forces alone"


def test_a_system_with_an_element_that_no_structure_has_is_named(tmp_path):
    write(tmp_path / "copper.cif", bulk("Cu"))
    structures = ("--structures-alone", "--structures", str(tmp_path / "copper.cif"))
    done = check(tmp_path / "none.json", {"calculator": "ase.calculators.emt:EMT"}, *structures)
    assert done.returncode == 2
    assert "benzene: no C, H in student.sampling.structures" in done.stderr
    copper = [str(tmp_path / "copper.cif")]
    assert (
        check(tmp_path / "t.json", {"calculator": "ase.calculators.emt:EMT"}, *structures, systems=copper).returncode
        == 0
    )


def test_an_element_that_the_teacher_does_not_know_is_named_with_its_file(tmp_path):
    write(tmp_path / "alloy.cif", bulk("CuW", "rocksalt", a=5.0, cubic=True))
    done = check(
        tmp_path / "none.json",
        {"calculator": "ase.calculators.emt:EMT"},
        *("--structures", str(tmp_path / "alloy.cif")),
    )
    assert done.returncode == 2
    assert "cannot label alloy: NotImplementedError" in done.stderr
    assert "it gives no energy for W either; leave the file out" in done.stderr
