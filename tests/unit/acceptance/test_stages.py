"""Both stages on a few molecules: what is chosen, what is written, and that an error of one stops no other."""

import json
import subprocess
import sys

import numpy as np
import pytest

from mlff_distiller import cli
from mlff_distiller.acceptance.cases import CaseMaker
from mlff_distiller.acceptance.exchange import VERSION, read_cases
from mlff_distiller.acceptance.molecules import split_in, trained_on, unseen
from mlff_distiller.acceptance.settings import AcceptanceInput, AcceptanceSettings
from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.data.always_trained import read_always_trained
from mlff_distiller.data.molecule_list import Molecule, read_molecule_list
from mlff_distiller.data.molecules import BENCHMARK_MOLECULES
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.records import schema
from mlff_distiller.records.fields import problem
from mlff_distiller.systems.read import read_system
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json, sha256_of, write_json
from tests.unit.acceptance.toys import Broken

CHECKPOINT = "resources/student/student.safetensors"
ASK_TEACHER = (
    *(sys.executable, "-m", "mlff_distiller", "acceptance-teacher"),
    *("--molecules", "resources/molecule_list.csv"),
)
SAMPLING = SamplingSettings.from_mapping({"fractions": {"val": 0.03, "test": 0.04}})
SMALL = {
    "molecules": {"most": 2, "max_atoms": 6, "benchmark": ["water"]},
    "conformers": {"molecules": 0},
    "dimers": {"pairs": ["water_hydrogen_bond"], "step": 0.5},
    "smoothness": {"elements": ["H"], "step": 0.1},
    "torsions": {"points": 6},
    "vibrations": {"others": [0.05]},
}
LIST = [
    Molecule(*row) for row in (("a", "CC", "x", 8), ("b", "O", "x", 3), ("c", "OC(=O)O", "y", 6), ("d", "CO", "y", 6))
]


def test_only_molecules_of_the_test_split_are_taken():
    chosen = unseen(read_molecule_list("resources/molecule_list.csv"), SAMPLING, 9)
    assert {split_in(m.smiles, SAMPLING) for m in chosen} == {"test"}
    assert max(m.n_atoms for m in chosen) <= 9
    # Every class in turn before a second molecule of one.
    classes = [m.family for m in chosen]
    assert len(set(classes[: len(set(classes))])) == len(set(classes))


def test_splits_are_told_and_unknown_ones_too():
    assert [split_in(m.smiles, SAMPLING) for m in LIST] == ["train", "benchmark", "test", "train"]
    assert [split_in(m.smiles, None) for m in LIST] == ["unknown"] * 4
    assert [m.name for m in unseen(LIST, None, 6)] == ["b", "c", "d"]


def test_what_coverage_trained_on_is_told_of_a_run_of_ones_own_and_of_the_shipped_student():
    always = read_always_trained("resources/always_trained.csv")
    covered = SAMPLING.model_copy(update={"coverage": SAMPLING.coverage.model_copy(update={"clusters": 10})})
    assert covered.coverage.wanted
    assert "train" in covered.splits
    card = read_json("resources/student/dataset_card.json")
    assert card["by_split"]["benchmark"]["also_trained_on"] == ["O", "C", "c1ccccc1"]
    caffeine = next(m.smiles for m in BENCHMARK_MOLECULES if m.name == "caffeine")
    for trained in (trained_on(always, covered, None), trained_on(always, SAMPLING, card)):
        assert [split_in(s, covered, trained) for s in ("O", "[H]O[H]", "C", "N", "P")] == ["train"] * 5
        assert split_in(caffeine, covered, trained) == "benchmark"
    assert split_in("c1ccccc1", SAMPLING, trained_on([], SAMPLING, card)) == "train"
    assert not trained_on(always, SAMPLING, None)
    # With a larger share for the test some of them are in it, and are not trained on.
    half = covered.model_copy(update={"fractions": covered.fractions.model_copy(update={"test": 0.5})})
    smiles = [e.molecule.smiles for e in always if split_in(e.molecule.smiles, half) in ("train", "test")]
    alone = [split_in(one, half) for one in smiles]
    assert set(alone) == {"train", "test"}
    assert [split_in(one, half, trained_on(always, half, None)) for one in smiles] == alone
    # What only measures trains on nothing.
    assert not trained_on(always, covered.model_copy(update={"splits": ("test",)}), None)


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("acceptance") / "teacher.json"
    settings = json.dumps({"acceptance": SMALL, "sampling": {"fractions": {"val": 0.03, "test": 0.04}}})
    # In a process of its own: GFN2-xTB and torch bring two OpenMP runtimes.
    subprocess.run([*ASK_TEACHER, "--settings", settings, "--output", str(path)], check=True, timeout=300)
    return path


def test_student_against_teacher_on_a_few_molecules(teacher_file, tmp_path):
    found = read_cases(teacher_file)
    assert [case["status"] for case in found["cases"]] == ["ok"] * len(found["cases"])
    command = ["acceptance", "--checkpoint", CHECKPOINT, "--teacher", str(teacher_file)]
    assert cli.main([*command, "--output", str(tmp_path / "student.json")]) == 0
    records = schema.read(tmp_path / "student.json")
    assert not [entry for entry in records if problem(entry) or entry["status"] != "ok"]
    assert {entry["checkpoint_sha256"] for entry in records} == {sha256_of(CHECKPOINT)}
    tasks = {entry["task"]: entry for entry in records}
    assert set(tasks) == {"geometry", "frequencies", "torsion", "dissociation", "dimer", "approach"}
    water = next(e for e in records if e["task"] == "frequencies" and e["system"] == "water")
    # GFN2-xTB has 1540, 3640 and 3650 1/cm; the student that ships was trained on water.
    assert np.allclose(water["vibrations"]["teacher_per_cm"][0], [1539, 3643, 3652], atol=5)
    assert 0.01 < water["frequency_mae_per_cm"] < 5
    assert tasks["dimer"]["well_depth_kcal_mol"] == pytest.approx(4.1, abs=0.3)
    assert tasks["dissociation"]["refused"] > 0
    assert {entry["split"] for entry in records if entry["task"] != "approach"} == {"test", "benchmark"}


def test_the_student_is_that_of_its_ordinary_calculator(teacher_file):
    from ase import Atoms

    from mlff_distiller.acceptance.student import Student

    case = next(c for c in read_cases(teacher_file)["cases"] if c["task"] == "dimer")
    student = Student(CHECKPOINT, AcceptanceSettings.from_mapping(SMALL))
    atoms = Atoms(case["numbers"], case["frames"][3])
    atoms.calc = StudentCalculator.from_checkpoint(CHECKPOINT, dtype="float64")
    assert student.calculator.get_potential_energy(atoms) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_an_error_of_the_teacher_is_a_case_with_a_reason():
    maker = CaseMaker(Broken([], 1.0, 1.0), AcceptanceSettings.from_mapping(SMALL), SAMPLING)
    cases = maker.all(LIST)
    assert {case["status"] for case in cases} == {"failed"}
    assert all(case["reason"].startswith("the teacher: ") for case in cases)


def test_an_error_of_the_student_is_a_record_with_a_reason(teacher_file):
    from mlff_distiller.acceptance.student import Student

    student = Student(CHECKPOINT, AcceptanceSettings.from_mapping(SMALL))
    geometry, frequencies = (
        next(c for c in read_cases(teacher_file)["cases"] if c["task"] == task) for task in ("geometry", "frequencies")
    )
    assert student.record(frequencies)["reason"] == "UserError: the student has no minimum of it"
    stopped = Student(CHECKPOINT, AcceptanceSettings.from_mapping(SMALL | {"molecules": {"max_steps": 1}}))
    record = stopped.record(geometry)
    assert (record["status"], record["reason"]) == ("failed", "the student's optimisation did not end in 1 steps")
    assert "did not end" in stopped.record(frequencies)["reason"]
    silicon = geometry | {"numbers": [14] * len(geometry["numbers"])}
    assert student.record(silicon)["status"] == "unavailable"
    assert "never learned" in student.record(silicon)["reason"]
    failed = geometry | {"status": "failed", "reason": "the teacher: no"}
    assert student.record(failed)["reason"] == "the teacher: no"


def test_a_file_of_another_form_is_named(tmp_path):
    write_json(tmp_path / "teacher.json", {"version": VERSION + 1, "cases": []})
    with pytest.raises(UserError, match=r"teacher.json: not what the teacher found"):
        read_cases(tmp_path / "teacher.json")


def test_the_teachers_stage_needs_no_torch_and_the_students_no_teacher():
    code = "import sys, mlff_distiller.acceptance.{}; print(sorted({} & set(sys.modules)))"
    for stage, absent in (("teacher", {"torch"}), ("student", {"tblite", "rdkit"})):
        done = subprocess.run(
            [sys.executable, "-c", code.format(stage, absent)], capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stdout.strip() == "[]"


def test_unknown_settings_are_named():
    with pytest.raises(UserError, match="unknown key 'dimer'; did you mean 'dimers'"):
        AcceptanceInput.from_mapping({"acceptance": {"dimer": {}}}, "")


@pytest.fixture(scope="module")
def own_molecules(tmp_path_factory):
    """A molecule, a crystal and a radical."""
    from ase.build import bulk, molecule
    from ase.io import write

    folder = tmp_path_factory.mktemp("own")
    write(folder / "butane.xyz", molecule("trans-butane"))
    write(folder / "copper.cif", bulk("Cu", cubic=True))
    radical = molecule("CH3CH2O")
    radical.set_initial_magnetic_moments(None)
    write(folder / "broken.xyz", radical)
    return [str(folder / name) for name in ("butane.xyz", "copper.cif", "broken.xyz")]


def test_molecules_of_ones_own_are_compared_by_their_own_geometries(own_molecules, tmp_path):
    settings = {"acceptance": SMALL | {"conformers": {"molecules": 1, "tried": 4}, "torsions": {"points": 6}}}
    command = [*ASK_TEACHER, "--own-alone", "--own-molecules", *own_molecules, "--own-molecules-split", "train"]
    output = ["--settings", json.dumps(settings), "--output", str(tmp_path / "teacher.json")]
    subprocess.run([*command, *output], check=True, timeout=300)
    cases = read_cases(tmp_path / "teacher.json")["cases"]
    found = [case for case in cases if case["status"] == "ok"]
    assert {(case["system"], case["split"], case["smiles"]) for case in found} == {("butane", "train", "CCCC")}
    assert [case["task"] for case in found] == ["geometry", "frequencies", "torsion", "torsion", "dissociation"]
    # The crystal is passed over, and what has no bonds of a neutral molecule says so.
    (failed,) = (case for case in cases if case["status"] != "ok")
    assert failed["system"] == "broken"
    assert "no bonds that make a neutral molecule" in failed["reason"]
    assert found[0]["start"] == read_system(own_molecules[0]).positions.tolist()
    command = ["acceptance", "--checkpoint", CHECKPOINT, "--teacher", str(tmp_path / "teacher.json")]
    assert cli.main([*command, "--output", str(tmp_path / "student.json")]) == 0
    records = [entry for entry in schema.read(tmp_path / "student.json") if entry["status"] == "ok"]
    assert not [entry for entry in records if problem(entry)]
    torsions = [entry for entry in records if entry["task"] == "torsion"]
    # C-C-C-C of butane past its eclipsed forms, rigid: 5 to 7 kcal/mol.
    assert 4 < torsions[0]["barrier_kcal_mol"] < 9
    assert abs(torsions[0]["barrier_error_kcal_mol"]) < 1


def test_a_molecule_with_too_many_atoms_is_named_as_not_compared():
    from ase.build import molecule

    settings = AcceptanceSettings.from_mapping({"molecules": {"most_atoms": 8}})
    maker = CaseMaker(Broken([], 1.0, 1.0), settings, None)
    (case,) = maker.of_own({"benzene": molecule("C6H6")}, "train")
    assert case["status"] == "unavailable"
    assert "12 atoms, acceptance.molecules.most_atoms is 8" in case["reason"]
