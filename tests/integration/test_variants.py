"""Every family: build, load from what was written, as another process would, and compare with the fp64 reference."""

import copy
import json
import pickle

import pytest
import torch

from mlff_distiller.benchmark import single
from mlff_distiller.md import simulate
from mlff_distiller.records import collect, schema
from mlff_distiller.records.outcome import of_the_run
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.read import read_systems
from mlff_distiller.variants import artifact, check_equivalence
from mlff_distiller.variants import compile as compile_stage
from mlff_distiller.variants.registry import FAMILIES
from tests.conftest import MOLECULES, make_student, run_stage

SYSTEMS = [str(MOLECULES / f"{name}.extxyz") for name in ("water", "benzene")]
#: Variant -> (spec, passes the check against fp64 on a CPU).
CPU_VARIANTS = {
    "eager": ({"family": "eager"}, True),
    "vesin": ({"family": "eager", "neighbors": "vesin"}, True),
    "torchscript": ({"family": "torchscript"}, True),
    "torch_compile": ({"family": "torch_compile", "scope": "energy"}, True),
    "torch_compile_forces": ({"family": "torch_compile", "scope": "energy_forces"}, True),
    "analytic": ({"family": "analytic"}, True),
    "analytic_compile": ({"family": "analytic", "compile": "inductor"}, True),
    "cpp": ({"family": "cpp"}, True),
    "bf16": ({"family": "autocast", "dtype": "bfloat16"}, False),
}
GPU_FAMILIES = {"cuda_graph", "triton", "cuda"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A student small enough that compiling it takes seconds; the same code runs as for a large one."""
    student = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    return save_student(tmp_path_factory.mktemp("student") / "student.safetensors", student)


def build(folder, checkpoint, name, spec):
    variant = folder / name / "variant.json"
    run_stage(
        compile_stage, variant=variant, checkpoint=checkpoint, name=name, settings=json.dumps(spec), systems=SYSTEMS
    )
    equivalence = folder / name / "equivalence.json"
    run_stage(check_equivalence, variant=variant, checkpoint=checkpoint, systems=SYSTEMS, frames=2, output=equivalence)
    return variant, equivalence


@pytest.mark.parametrize("name", CPU_VARIANTS)
def test_builds_loads_is_judged_against_fp64_and_goes_through_pickle(tmp_path, checkpoint, name):
    spec, passes = CPU_VARIANTS[name]
    variant, equivalence = build(tmp_path, checkpoint, name, spec)
    (made,) = schema.read(variant)
    assert made["status"] == "ok", made["reason"]
    assert made["artifact"] is None or (variant.parent / made["artifact"]).exists()
    assert made["gives_stress"] is True
    entries = schema.read(equivalence)
    assert any(entry.get("virial_error_mev_per_atom") is not None for entry in entries)
    # Single molecules fail with 16 bits; of the rest some may pass.
    for entry in entries if passes else filter(of_the_run, entries):
        assert entry["equivalent"] is passes, entry["reason"]
        assert entry["status"] == ("ok" if passes else "failed")
        assert bool(entry["reason"]) is not passes
    assert_copies_compute_the_same(artifact.load_variant(artifact.VariantFiles(variant, checkpoint)).potential)


def assert_copies_compute_the_same(potential):
    inputs = Batch.from_atoms(list(read_systems(SYSTEMS).values()))
    wanted = potential(*inputs)
    for other in (pickle.loads(pickle.dumps(potential)), copy.deepcopy(potential)):
        assert type(other) is type(potential)
        for found, expected in zip(other(*inputs), wanted, strict=True):
            assert torch.equal(found, expected)


def test_in_a_run_on_a_gpu_the_c_kernel_is_built_for_the_host(tmp_path, checkpoint):
    preflight, variant = tmp_path / "preflight.json", tmp_path / "cpp" / "variant.json"
    schema.write(preflight, [schema.record("preflight", device="cuda", checks=[])])
    told = {"variant": variant, "checkpoint": checkpoint, "systems": SYSTEMS, "preflight": preflight}
    run_stage(compile_stage, name="cpp", settings='{"family": "cpp"}', **told)
    (made,) = schema.read(variant)
    assert (made["device"], made["status"]) == ("cpu", "ok"), made["reason"]


def test_every_family_is_tested_here():
    # SchNetPack's is another network, never judged against the student; tests/unit/test_scaling.py times it.
    judged = {spec["family"] for spec, _ in CPU_VARIANTS.values()}
    assert judged | GPU_FAMILIES | {"schnetpack"} == set(FAMILIES)


@pytest.mark.parametrize("family", sorted(GPU_FAMILIES))
def test_without_a_gpu_a_gpu_family_is_unavailable_all_the_way(tmp_path, checkpoint, family):
    variant, equivalence = build(tmp_path, checkpoint, family, {"family": family})
    output = tmp_path / "benchmark.json"
    run_stage(single, variant=variant, equivalence=equivalence, checkpoint=checkpoint, systems=SYSTEMS, output=output)
    for entry in schema.read(variant) + schema.read(equivalence) + schema.read(output):
        assert entry["status"] == "unavailable"
        assert "CUDA device" in entry["reason"]


def test_without_a_compiler_what_needs_one_is_unavailable_and_the_rest_runs(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    output = tmp_path / "benchmark.json"
    for name in ("cpp", "torch_compile", "torch_compile_forces", "analytic_compile"):
        variant, equivalence = build(tmp_path, checkpoint, name, CPU_VARIANTS[name][0])
        run_stage(
            single, variant=variant, equivalence=equivalence, checkpoint=checkpoint, systems=SYSTEMS, output=output
        )
        for entry in schema.read(variant) + schema.read(equivalence) + schema.read(output):
            assert entry["status"] == "unavailable"
            assert "no C++ compiler" in entry["reason"]
    for name in ("eager", "vesin", "torchscript", "analytic"):
        variant, equivalence = build(tmp_path, checkpoint, name, CPU_VARIANTS[name][0])
        assert {entry["status"] for entry in schema.read(variant) + schema.read(equivalence)} == {"ok"}


def test_only_a_folder_of_its_own_is_emptied(tmp_path, checkpoint):
    from mlff_distiller.utils.errors import UserError

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("precious")
    arguments = {"name": "eager", "settings": '{"family": "eager"}', "checkpoint": checkpoint, "systems": SYSTEMS}
    with pytest.raises(UserError, match="not a variant's folder"):
        run_stage(compile_stage, **arguments, variant=tmp_path / "mine/variant.json")
    assert (tmp_path / "mine/thesis.tex").read_text() == "precious"
    variant = tmp_path / "eager/variant.json"
    run_stage(compile_stage, **arguments, variant=variant)
    (tmp_path / "eager/left_over").write_text("of an earlier build")
    run_stage(compile_stage, **arguments, variant=variant)
    assert variant.is_file()
    assert not (tmp_path / "eager/left_over").exists()


def test_benchmark_and_md_of_a_variant(tmp_path, checkpoint):
    variant, equivalence = build(tmp_path, checkpoint, "torchscript", {"family": "torchscript"})
    (made,) = schema.read(variant)
    assert {name: len(times) for name, times in made["first_calls_ms"].items()} == {"water": 5, "benzene": 5}
    assert max(made["first_calls_ms"]["water"]) > 3 * min(made["first_calls_ms"]["water"]), "the executor warms up"
    common = {"variant": variant, "equivalence": equivalence, "checkpoint": checkpoint}
    timed = tmp_path / "benchmark.json"
    run_stage(single, **common, systems=SYSTEMS, warmup=1, runs=4, output=timed)
    entries = schema.read(timed)
    # Not "neighbors": its search is eager's.
    assert {(e["system"], e["task"]) for e in entries} == {
        (system, task) for system in ("water", "benzene") for task in ("energy", "energy_forces")
    }
    for entry in entries:
        assert len(entry["samples_ms"]) == len(entry["baseline_samples_ms"]) == 4
        assert min(entry["samples_ms"]) > 0
    counts = {e["task"]: e["n_operations"] for e in entries if e["system"] == "water" and "n_operations" in e}
    assert counts["energy_forces"] > counts["energy"] > 10
    moved = tmp_path / "md.json"
    settings = '{"steps": 100, "equilibration_steps": 5, "sample_every": 2, "force_check_every": 50}'
    trajectory = tmp_path / "md.extxyz"
    run_stage(simulate, **common, system=SYSTEMS[0], settings=settings, output=moved, trajectory=trajectory)
    (entry,) = schema.read(moved)
    assert entry["status"] == "ok", entry["reason"]
    assert entry["force_rmse_mev_per_a"] < 0.1
    assert entry["max_momentum"] < 1e-3
    from ase.io import read

    assert len(read(trajectory, ":")) == 3


def test_of_what_fails_the_check_only_16_bits_are_timed_and_marked(tmp_path, checkpoint):
    variant, equivalence = build(tmp_path, checkpoint, "bf16", CPU_VARIANTS["bf16"][0])
    timed = tmp_path / "benchmark.json"
    arguments = {"variant": variant, "checkpoint": checkpoint, "systems": SYSTEMS, "output": timed}
    run_stage(single, equivalence=equivalence, **arguments)
    checked, found = schema.read(equivalence), schema.read(timed)
    assert {entry["status"] for entry in found} == {"ok"}
    merged = [e for e in collect.merge(checked + found) if e["kind"] == "benchmark"]
    assert {entry["equivalent"] for entry in merged} == {False}
    assert all(entry["speedup"] for entry in merged)
    # In any other class of precision, an error of that size is a mistake.
    for entry in checked:
        entry["precision"] = "float32"
    run_stage(single, equivalence=schema.write(tmp_path / "other.json", checked), **arguments)
    for entry in schema.read(timed):
        assert entry["status"] == "failed"
        assert "against fp64" in entry["reason"]
        assert "samples_ms" not in entry


def test_a_variant_of_another_student_is_refused(tmp_path, checkpoint):
    from mlff_distiller.utils.errors import UserError
    from mlff_distiller.variants.artifact import VariantFiles, load_variant

    variant, _ = build(tmp_path, checkpoint, "eager", {"family": "eager"})
    other = save_student(tmp_path / "other.safetensors", make_student(n_features=16, mlp_width=8))
    with pytest.raises(UserError, match="compiled from another student"):
        load_variant(VariantFiles(variant, other))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [("architecture", "another processor", "made for architecture another"), ("fingerprint", "0", "instruction sets")],
)
def test_a_variant_compiled_for_another_kind_of_node_is_refused(tmp_path, checkpoint, part, value, message):
    from mlff_distiller.utils.errors import UserError
    from mlff_distiller.variants.artifact import VariantFiles, load_variant

    variant, _ = build(tmp_path, checkpoint, "eager", {"family": "eager"})
    document = json.loads(variant.read_text())
    document["records"][0]["target"][part] = value
    variant.write_text(json.dumps(document))
    # Nothing was compiled: it runs on any kind.
    load_variant(VariantFiles(variant, checkpoint))
    document["records"][0]["artifact"] = "compiled.so"
    variant.write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"{message}.* one kind of node"):
        load_variant(VariantFiles(variant, checkpoint))


def test_instruction_sets_are_tried_once(tmp_path, monkeypatch):
    from torch._inductor import cpu_vec_isa

    from mlff_distiller.variants.families.torch_compile import forget_instruction_sets, remember_instruction_sets

    tried = []
    monkeypatch.setattr(cpu_vec_isa.VecISA, "check_build", lambda self, code: tried.append(str(self)) or True)
    forget_instruction_sets()
    remember_instruction_sets(tmp_path / "sets")
    found = (tmp_path / "sets").read_text().splitlines()
    assert set(found) == set(tried)
    tried.clear()
    forget_instruction_sets()
    remember_instruction_sets(tmp_path / "sets")
    assert list(map(str, cpu_vec_isa.valid_vec_isa_list())) == found
    assert not tried
    # Written by another machine: each is tried after all.
    (tmp_path / "sets").write_text("\n".join(["unheard_of", *found]))
    forget_instruction_sets()
    remember_instruction_sets(tmp_path / "sets")
    assert list(map(str, cpu_vec_isa.valid_vec_isa_list())) == found
    assert set(tried) == set(found)
    forget_instruction_sets()
