"""Crystals by a chemist's measures: values that are known, and student against teacher through both stages."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.io import write

from mlff_distiller import cli
from mlff_distiller.acceptance.crystal_cases import crystal_cases
from mlff_distiller.acceptance.crystals import (
    atoms_of,
    compare_elastic,
    compare_phonons,
    compare_volumes,
    elastic_constants,
    energies_at,
    equation_of_state,
    phonons,
    repeats_for,
)
from mlff_distiller.acceptance.settings import Crystals
from mlff_distiller.records import schema
from mlff_distiller.records.fields import problem
from mlff_distiller.records.run import Run
from mlff_distiller.report import acceptance, captions
from mlff_distiller.report.figures import draw
from mlff_distiller.report.render import render
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.train import Trainer
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json
from tests.unit.data.labeled_sets import crystal_dataset

SETTINGS = Crystals(volumes=9, supercell_width=7.0)
FEW = {"volumes": 9, "supercell_width": 6.0}


class WithoutStress(EMT):
    implemented_properties = ("energy", "forces")


@pytest.fixture(scope="module")
def copper():
    cases = {case["task"]: case for case in crystal_cases(EMT(), SETTINGS, {"Cu": bulk("Cu")}, "train")}
    assert [case["status"] for case in cases.values()] == ["ok"] * 3
    return cases


def test_an_equation_of_state_is_found_again():
    # Birch and Murnaghan: B0' = 4 leaves the second-order form.
    volume, modulus = 16.0, 0.8
    at = volume * np.linspace(0.9, 1.1, 9)
    strain = 0.5 * ((volume / at) ** (2 / 3) - 1)
    found = equation_of_state(at, (-3.0 + 4.5 * modulus * volume * strain**2).tolist())
    assert found == pytest.approx((volume, -3.0, 160.2176634 * modulus), rel=1e-5)


@pytest.mark.parametrize(
    ("energies", "words"),
    [([1.0, None, 2.0, 3.0, 4.0, 2.0, None, None], "only 5 of 8"), (range(8), "the energy falls to the end")],
)
def test_what_has_no_minimum_is_refused(energies, words):
    with pytest.raises(UserError, match=words):
        equation_of_state(np.arange(8) + 10.0, list(energies))


def test_bulk_modulus_of_the_curve_is_that_of_the_elastic_constants(copper):
    case = copper["volume"]
    _, _, modulus = equation_of_state(case["volumes"], case["energies"])
    constants = np.array(copper["elastic"]["elastic"])
    assert (constants[0, 0] + 2 * constants[0, 1]) / 3 == pytest.approx(modulus, rel=0.01)
    # Cubic: three constants, and no others.
    assert np.allclose(np.diag(constants)[:3], constants[0, 0], rtol=1e-6)
    assert np.allclose(np.diag(constants)[3:], constants[3, 3], rtol=1e-6)
    assert np.abs(constants[:3, 3:]).max() < 1e-6
    # The file's volume was another than the minimum's.
    atoms = atoms_of(case)
    atoms.calc = EMT()
    assert np.abs(atoms.get_stress()).max() < 1e-4


def test_elastic_constants_have_relaxed_atoms():
    """Two interpenetrating lattices that slide against each other: relaxed constants are the smaller ones."""
    atoms = bulk("CuAu", "zincblende", a=5.6)
    relaxed, clamped = (elastic_constants(EMT(), atoms, 0.004, limit, 300) for limit in (1e-3, 1e3))
    assert relaxed[3, 3] < 0.95 * clamped[3, 3]
    assert relaxed[0, 0] == pytest.approx(clamped[0, 0], rel=0.02)


def test_phonons_of_a_larger_cell_are_those_of_the_smaller_one_folded():
    primitive, cubic = bulk("Cu"), bulk("Cu", cubic=True)
    points, small = phonons(EMT(), primitive, [4, 4, 4], 0.01)
    _, large = phonons(EMT(), cubic, [3, 3, 3], 0.01)
    edges = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    folded = np.sort(np.concatenate([small[points.index(edge)] for edge in edges]))
    assert np.abs(folded[:3]).max() < 1e-3
    assert np.allclose(large[0], folded, atol=0.02 * folded.max())
    assert repeats_for(cubic, 10.0) == [3, 3, 3]


def test_a_teacher_compared_with_itself_has_no_error(copper):
    energies = copper["volume"]["energies"]
    found = compare_volumes(1, copper["volume"]["volumes"], energies, energies)
    assert (found["volume_error_percent"], found["bulk_modulus_error_gpa"]) == (0.0, 0.0)
    # Another zero of energy is no error; another curvature is.
    stiffer = [2 * energy + 7 for energy in energies]
    found = compare_volumes(1, copper["volume"]["volumes"], energies, stiffer)
    assert found["bulk_modulus_error_gpa"] == pytest.approx(found["bulk_modulus_gpa"], rel=1e-6)
    assert found["volume_error_percent"] == pytest.approx(0, abs=1e-6)
    constants = np.array(copper["elastic"]["elastic"])
    wrong = constants.copy()
    wrong[3, 3] -= 200
    found = compare_elastic(constants, wrong)
    assert (found["worst_elastic"], found["stable"]) == ("C44", False)
    assert found["elastic_error_gpa"] == pytest.approx(-200)
    frequencies = np.array(copper["phonons"]["frequencies"])
    shifted = frequencies.copy()
    shifted[5, 1] -= 9.0
    shifted[0] += 1.0  # translations do not count
    found = compare_phonons(copper["phonons"]["points"], frequencies, shifted)
    assert found["phonon_error_thz"] == pytest.approx(-9.0)
    assert found["imaginary"] == 1
    assert found["worst_wave_vector"] == copper["phonons"]["points"][5]


def test_what_is_no_small_crystal_is_told_and_molecules_are_passed_over():
    slab, large = bulk("Cu"), bulk("Cu").repeat(3)
    slab.pbc = [True, True, False]
    given = {"slab": slab, "large": large, "water": molecule("H2O")}
    cases = list(crystal_cases(EMT(), SETTINGS, given, "train"))
    assert [(case["system"], case["status"]) for case in cases] == [("slab", "unavailable"), ("large", "unavailable")]
    assert "not periodic along all three vectors" in cases[0]["reason"]
    assert "27 atoms in the cell" in cases[1]["reason"]


def test_without_a_stress_there_are_no_elastic_constants_but_all_else():
    cases = {c["task"]: c for c in crystal_cases(WithoutStress(), SETTINGS, {"Cu": bulk("Cu")}, "train")}
    assert (cases["volume"]["status"], cases["phonons"]["status"]) == ("ok", "ok")
    assert cases["elastic"]["reason"] == "the teacher: UserError: no stress, and so no elastic constants"


def test_a_stress_that_the_configuration_calls_wrong_is_not_asked_for():
    cases = {c["task"]: c for c in crystal_cases(EMT(), SETTINGS, {"Cu": bulk("Cu")}, "train", with_stress=False)}
    assert (cases["volume"]["status"], cases["phonons"]["status"]) == ("ok", "ok")
    assert (cases["elastic"]["status"], cases["elastic"]["reason"]) == (
        "unavailable",
        "elastic constants need the teacher's stress, and teacher.stress is false",
    )


def test_a_teacher_that_is_another_one_in_cells_is_refused(tmp_path, capsys):
    write(tmp_path / "Cu.cif", bulk("Cu"))
    command = ["acceptance-teacher", "--molecules", "resources/molecule_list.csv", "--own-alone", "--crystals"]
    assert cli.main([*command, str(tmp_path / "Cu.cif"), "--output", str(tmp_path / "teacher.json")]) == 2
    told = capsys.readouterr().err
    assert "acceptance.crystals: GFN2-xTB with periodic images" in told
    assert "acceptance.crystals.files: []" in told
    assert not (tmp_path / "teacher.json").exists()


def test_only_a_refusal_of_the_student_is_a_volume_without_energy():
    class Failing(EMT):
        def __init__(self, error):
            super().__init__()
            self.error = error

        def calculate(self, atoms, properties, changes):
            if atoms.get_volume() < 11:
                raise self.error
            super().calculate(atoms, properties, changes)

    copper, volumes = bulk("Cu"), [10.0, 12.0]
    for error, refusing in ((UserError("too close"), True), (RuntimeError("a bug"), False)):
        assert np.isnan(energies_at(Failing(error), copper, volumes, refusing)).tolist() == [True, False]
    with pytest.raises(RuntimeError, match="a bug"):
        energies_at(Failing(RuntimeError("a bug")), copper, volumes, refusing=True)


@pytest.mark.parametrize("repeats", [[2, 2, 2], [3, 2, 1], [4, 3, 2]])
def test_one_of_each_wave_vector_and_its_negative_is_taken(repeats):
    points, _ = phonons(EMT(), bulk("Cu"), repeats, 0.01)
    taken = {tuple(np.rint(np.multiply(point, repeats)).astype(int).tolist()) for point in points}
    negatives = {tuple(-i % n for i, n in zip(step, repeats, strict=True)) for step in taken}
    # Those in both are their own negatives; together they are the whole grid.
    assert len(taken) == len(points)
    assert taken | negatives == set(np.ndindex(*repeats))
    assert all(all(2 * i % n == 0 for i, n in zip(step, repeats, strict=True)) for step in taken & negatives)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Both stages on copper, with a student that learned it from EMT."""
    folder = tmp_path_factory.mktemp("crystals")
    small = {"n_features": 16, "n_blocks": 2, "n_radial": 8, "mlp_width": 12, "readout_width": 10}
    dataset = crystal_dataset(60, strain=0.05)
    given = {"n_steps": 300, "batch_atoms": 40, "learning_rate": 5e-3, "compile": False, "student": small}
    student = Trainer(dataset, TrainingSettings.from_mapping(given | {"stress_weight": 1.0}), folder).run()
    save_student(folder / "student.safetensors", student, {"elements": [29]})
    write(folder / "Cu.cif", bulk("Cu"))
    teacher = ["acceptance-teacher", "--molecules", "resources/molecule_list.csv", "--crystals", str(folder / "Cu.cif")]
    settings = '{"teacher": {"calculator": "ase.calculators.emt:EMT"}, "acceptance": {"crystals": %s}}'

    teacher += ["--settings", settings % json.dumps(FEW), "--own-alone", "--crystals-split", "train"]
    assert cli.main([*teacher, "--output", str(folder / "teacher.json")]) == 0
    assert [case["task"] for case in read_json(folder / "teacher.json")["cases"]] == ["volume", "elastic", "phonons"]
    command = ["acceptance", "--checkpoint", str(folder / "student.safetensors"), "--teacher"]
    threads = torch.get_num_threads()
    assert cli.main([*command, str(folder / "teacher.json"), "--output", str(folder / "student.json")]) == 0
    torch.set_num_threads(threads)
    return schema.read(folder / "student.json")


def test_student_against_teacher(records):
    assert not [entry for entry in records if problem(entry) or entry["status"] != "ok"]
    by_task = {entry["task"]: entry for entry in records}
    assert abs(by_task["volume"]["volume_error_percent"]) < 2
    # EMT's copper has 134 GPa.
    assert by_task["volume"]["bulk_modulus_gpa"] == pytest.approx(134, abs=2)
    assert abs(by_task["volume"]["bulk_modulus_error_gpa"]) < 40
    assert by_task["elastic"]["elastic_mae_gpa"] < 25
    assert by_task["elastic"]["stable"]
    assert by_task["phonons"]["phonon_mae_thz"] < 1.0


def test_the_report_has_a_row_and_a_figure(records):
    run = Run(records)
    (row,) = acceptance.crystals(run)
    assert row["system"] == "Cu"
    page = render("acceptance.md.j2", {"acceptance": acceptance.context(run)})
    assert "| Cu | 11." in page
    assert "used in training" not in page
    assert "Cu: volume" in captions.caption("crystals", run)
    figure = draw.draw("crystals", run)
    assert len(figure.axes) == 2


def test_a_report_of_molecules_says_nothing_of_crystals():
    from tests.unit.records.synthetic_records import acceptance as molecules

    page = render("acceptance.md.j2", {"acceptance": acceptance.context(Run(molecules()))})
    assert "crystal" not in page.lower()
