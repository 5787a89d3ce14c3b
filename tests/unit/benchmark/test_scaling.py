"""The scaling stage: boxes that check themselves, limits of time and memory, records of every task, for real on a CPU."""

import json
import time
import types

import numpy as np
import pytest
import torch

from mlff_distiller.benchmark import boxes, scaling
from mlff_distiller.benchmark.memory import PeakMemory, is_out_of_memory
from mlff_distiller.benchmark.points import Side, TooLarge
from mlff_distiller.benchmark.profiling import covered, profile_call
from mlff_distiller.benchmark.roofline import ceilings, energy_forces_cost
from mlff_distiller.benchmark.settings import ScalingSettings
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.records import collect, schema
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.student.painn import StudentConfig
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.utils.errors import UserError
from mlff_distiller.variants import check_equivalence
from mlff_distiller.variants import compile as compile_stage
from tests.conftest import MOLECULES, make_student, run_stage

SETTINGS = {
    "batches": [1, 3],
    "unit_molecules": 4,
    "box_atoms": [48, 96],
    "runs": 3,
    "max_seconds": 0.5,
    "steps_per_sample": 3,
}
FILES = {name: str(MOLECULES / f"{name}.extxyz") for name in ("water", "benzene")}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    student = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    return save_student(tmp_path_factory.mktemp("student") / "student.safetensors", student)


def measured(folder, checkpoint, spec, **settings):
    """All records of a variant, through the stages."""
    variant, equivalence, output = (folder / f"{name}.json" for name in ("variant", "equivalence", "scaling"))
    common = {"variant": variant, "checkpoint": checkpoint}
    systems = list(FILES.values())
    run_stage(compile_stage, **common, name="it", settings=json.dumps(spec), systems=systems)
    variant_records = schema.read(variant)
    run_stage(check_equivalence, **common, systems=systems, frames=2, output=equivalence)
    run_stage(
        scaling,
        **common,
        equivalence=equivalence,
        systems=systems,
        molecule=FILES["water"],
        liquid=FILES["benzene"],
        settings=json.dumps(SETTINGS | settings),
        output=output,
    )
    found = schema.read(output)
    return found, collect.merge([*variant_records, *schema.read(equivalence), *found])


@pytest.mark.parametrize("family", ["analytic", "cpp"])
def test_every_task_gives_records_with_a_speed_up(tmp_path, checkpoint, family):
    _, merged = measured(tmp_path, checkpoint, {"family": family})
    timed = [entry for entry in merged if entry["kind"] == "benchmark"]
    assert all(entry["status"] == "ok" for entry in timed), [entry["reason"] for entry in timed]
    assert all(entry["speedup"] and entry["equivalent"] for entry in timed)
    assert all(entry["others_cores"] >= 0 and entry["alone"] is not None for entry in timed)
    shapes = {(entry["task"], entry["system"], entry["batch"], entry["n_atoms"]) for entry in timed}
    assert shapes == {
        ("throughput", "water", 1, 3),
        ("throughput", "water", 3, 9),
        ("throughput", "mix", 3, 18),
        ("periodic", "benzene_box_48", 1, 48),
        ("periodic", "benzene_box_96", 1, 96),
        ("calculator", "water", 1, 3),
        ("calculator", "benzene", 1, 12),
        ("md_steps", "water", 1, 3),
    }
    for entry in timed:
        assert entry["atoms_per_s"] == pytest.approx(1000 * entry["n_atoms"] / entry["median_ms"])
    for entry in timed:
        assert ("ase_ratio" in entry) is (entry["task"] == "calculator")
    for entry in (entry for entry in timed if entry["task"] == "calculator"):
        assert entry["ase_ratio"] == pytest.approx(entry["median_ms"] / entry["bare_median_ms"])
        assert "bare_samples_ms" not in entry
    assert all(entry["force_rmse_mev_per_a"] < 0.05 for entry in timed if entry["task"] == "periodic")
    (profile,) = (entry for entry in merged if entry["kind"] == "profile")
    assert profile["kernels"]
    assert profile["ceilings"]["float32_gflop_per_s"] > 0


def test_what_the_calculator_costs_is_counted_once_and_alone(tmp_path, checkpoint, monkeypatch):
    """A calculator that waits 200 ms more than it did: the bare call beside it does not."""
    original = PotentialCalculator._calculate

    def slower(self, *args):
        time.sleep(0.2)
        return original(self, *args)

    monkeypatch.setattr(PotentialCalculator, "_calculate", slower)
    _, merged = measured(tmp_path, checkpoint, {"family": "analytic"}, tasks=["calculator"])
    for entry in (entry for entry in merged if entry["kind"] == "benchmark"):
        assert 150 < entry["bare_median_ms"] * (entry["ase_ratio"] - 1) < 400


def test_wrong_forces_of_a_box_fail_its_record(tmp_path, checkpoint, monkeypatch):
    """A variant that is right in its equivalence check and wrong in boxes of other sizes."""
    original = AutogradPotential.__call__

    def wrong(self, numbers, positions, batch, cell=None, pbc=None):
        energies, forces = original(self, numbers, positions, batch, cell, pbc)
        wrong = cell is not None and len(numbers) in SETTINGS["box_atoms"] and self.dtype == torch.float32
        return energies, forces * (1.001 if wrong else 1.0)

    from mlff_distiller.variants.families import eager

    broken = type("Broken", (AutogradPotential,), {"__call__": wrong})
    monkeypatch.setattr(eager, "AutogradPotential", broken)
    found, _ = measured(tmp_path, checkpoint, {"family": "eager"}, tasks=["throughput", "periodic"])
    statuses = {entry["task"]: (entry["status"], entry["reason"]) for entry in found}
    assert statuses["throughput"][0] == "ok"
    assert statuses["periodic"][0] == "failed"
    assert "force RMSE against fp64" in statuses["periodic"][1]


def test_a_variant_that_is_not_equivalent_is_not_timed(tmp_path, checkpoint):
    found, _ = measured(tmp_path, checkpoint, {"family": "autocast", "dtype": "bfloat16"})
    assert len(found) == 5
    assert {entry["status"] for entry in found} == {"failed"}
    assert all("force RMSE" in entry["reason"] and "samples_ms" not in entry for entry in found)


def test_another_network_has_times_and_no_speed_up(tmp_path, checkpoint):
    _, merged = measured(tmp_path, checkpoint, {"family": "schnetpack"}, tasks=["throughput", "periodic"])
    timed = [entry for entry in merged if entry["kind"] == "benchmark"]
    assert timed
    for entry in timed:
        assert entry["status"] == "ok", entry["reason"]
        assert entry["median_ms"] > 0
        assert entry["speedup"] is None
        assert entry["equivalent"] is None


def test_too_long_and_too_large_are_refused_with_what_would_fit():
    potential = types.SimpleNamespace(device=torch.device("cpu"))
    settings = ScalingSettings(max_seconds=1.0)
    slow = Side(potential, seconds_per_atom=1e-3)
    slow.expect(900, settings)
    with pytest.raises(TooLarge, match=r"2,000 atoms would take some 2 s, longer than max_seconds 1"):
        slow.expect(2000, settings)
    with pytest.raises(TooLarge, match="2,000 atoms"):
        slow.expect(900, settings)  # larger ones have been given up
    big = Side(potential, bytes_per_atom=2.0**40)
    with pytest.raises(TooLarge, match=r"100 atoms would take some 102400\.0 GiB .* some 0 atoms fit: split the batch"):
        big.expect(100, settings)


def test_out_of_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(UserError("not enough memory for a call of this size; split the batch"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_peak_memory_sees_what_was_held_and_let_go():
    with PeakMemory(torch.device("cpu")) as memory:
        torch.ones(32 << 20, dtype=torch.uint8).clone()
    # Two tensors of 32 MiB, less what the process still held of freed memory, which they may have taken first.
    assert 48 << 20 < memory.bytes < 120 << 20


def test_a_repeated_box_has_the_forces_of_its_unit(molecules, student64, student):
    unit = liquid_box(molecules["benzene"], 4, 0.876, seed=0, min_distance=2.0)
    times = boxes.repetitions(len(unit), 4 * len(unit))
    assert sorted(times) == [1, 2, 2]
    box = unit.repeat(times)
    exact = AutogradPotential(student64)
    forces = exact(*Batch.from_atoms([unit], dtype=torch.float64))[1].numpy()
    found = exact(*Batch.from_atoms([box], dtype=torch.float64))[1].numpy()
    assert np.abs(boxes.force_errors(found, forces)).max() < 1e-10 * np.abs(forces).max()
    assert np.abs(forces).max() > 0.1


def test_far_from_the_origin_float32_costs_what_is_said(molecules, student64, student):
    """An eager call in float32 on the whole box is off by about as much as the furthest unit is said to be."""
    unit = liquid_box(molecules["water"], 8, 0.9, seed=0, min_distance=1.7)
    exact, eager = AutogradPotential(student64), AutogradPotential(student)
    forces = exact(*Batch.from_atoms([unit], dtype=torch.float64))[1].numpy()

    def rmse(found):
        return float(np.sqrt(np.mean(boxes.force_errors(found.numpy(), forces) ** 2)))

    found = {}
    for copies in (1, 60):
        held = boxes.in_float32(unit, (copies, 1, 1))
        found[copies] = rmse(exact(*Batch.from_atoms([held], dtype=torch.float64))[1])
    # 6 A and 380 A from the origin: six bits fewer.
    assert 20 < found[60] / found[1] < 200
    measured = rmse(eager(*Batch.from_atoms([unit.repeat((60, 1, 1))]))[1])
    assert 0.3 * found[60] < measured < found[60] + 1e-5 * np.abs(forces).max()


@pytest.mark.parametrize(("wanted", "atoms"), [(480, 480), (100_000, 100_800), (1_000_000, 1_013_760)])
def test_boxes_are_about_as_large_as_asked(wanted, atoms):
    assert 480 * np.prod(boxes.repetitions(480, wanted)) == pytest.approx(wanted, rel=0.1)


def test_flop_grow_with_atoms_and_pairs_as_the_products_do():
    config = StudentConfig()
    base, more, pairs = (energy_forces_cost(config, 427_169, n, e) for n, e in ((24, 0), (48, 0), (24, 384)))
    assert more.flop == 2 * base.flop
    assert 2e6 < base.flop / 24 < 3e6  # by hand: 2 (2 x 82k + 3 x 299k + 25k)
    assert 30_000 < (pairs.flop - base.flop) / 384 / 3 < 40_000
    assert pairs.bytes == base.bytes


def test_ceilings_are_rates_of_this_machine():
    found = ceilings(torch.device("cpu"), seconds=0.02)
    assert found.keys() == {"copy_gb_per_s", "float32_gflop_per_s"}
    assert 0.1 < found["copy_gb_per_s"] < 5000
    assert 0.5 < found["float32_gflop_per_s"] < 20_000


def test_a_profile_names_what_ran():
    matrix = torch.ones(300, 300)
    found = profile_call(lambda: torch.mm(matrix, matrix).exp(), torch.device("cpu"))
    assert found["unit"] == "operator"
    counts = {kernel["name"]: kernel["calls"] for kernel in found["kernels"]}
    assert counts["aten::mm"] == 1.0
    assert counts["aten::exp"] == 1.0
    assert found["wall_ms"] > 0


def test_overlapping_spans_count_once():
    assert covered([(0, 2), (1, 3), (5, 6), (5.5, 5.7)]) == 4
    assert covered([]) == 0
