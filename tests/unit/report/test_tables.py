"""Rows of tables, from small synthetic records."""

import pytest

from mlff_distiller.records.run import Run
from mlff_distiller.report import names, tables


def steps(**fields):
    return {
        "kind": "benchmark",
        "task": "md_steps",
        "variant": "cuda",
        "system": "caffeine",
        "device": "cuda",
        "status": "ok",
        "reason": "",
        "batch": 1,
        "n_atoms": 24,
        "median_ms": 0.1,
        "timestep_fs": 0.5,
    } | fields


def box(n_atoms, **fields):
    return steps(task="periodic", system=f"benzene_box_{n_atoms}", n_atoms=n_atoms) | fields


def test_energy_of_a_step_and_of_a_nanosecond():
    run = Run([steps(joule_per_step=0.02, baseline_joule_per_step=1.5, energy_meter="NVML")])
    (row,) = tables.scaling(run)["MD steps"]
    # 2 million steps in a nanosecond; 864 million steps of 0.1 ms in a day.
    assert row["mj_per_step"] == pytest.approx(20)
    assert row["kj_per_ns"] == pytest.approx(0.02 * 2e6 / 1e3)
    assert row["baseline_kj_per_ns"] == pytest.approx(3000)
    assert row["ns_per_day"] == pytest.approx(864e6 * 0.5e-6)
    assert tables.energy_meter(run)["measured"]


def test_energy_that_nothing_counted_is_said_with_its_reason():
    run = Run([steps(joule_per_step=None, energy_reason="no counter")])
    (row,) = tables.scaling(run)["MD steps"]
    assert row["mj_per_step"] is row["kj_per_ns"] is None
    assert tables.energy_meter(run) == {"measured": False, "text": "Energy: not measured: no counter."}


def test_memory_tells_the_largest_box_and_why_there_is_no_larger_one():
    run = Run(
        [
            box(480, peak_memory_mib=1.0),
            box(9600, peak_memory_mib=75.0),
            box(96000, status="unavailable", reason="some 20,000 atoms fit"),
            box(960000, status="unavailable", reason="not tried"),
            box(480, variant="triton", peak_memory_mib=None),
        ]
    )
    (row,) = tables.memory(run)
    assert row["variant"] == "cuda"
    assert row["n_atoms"] == 9600
    assert row["kib_per_atom"] == pytest.approx(8.0)
    assert row["next"] == "some 20,000 atoms fit"


def test_force_errors_are_told_as_a_share_of_the_forces():
    entry = {"kind": "accuracy", "variant": "student", "task": None, "device": None, "split": "test"}
    errors = {"force_rmse_mev_per_a": 60.0}
    rows = tables.accuracy(Run([entry | errors | {"force_rms_mev_per_a": 1500.0}, entry | errors]))
    assert [row["relative_error"] for row in rows] == ["4.0 %", "-"]


def test_the_teachers_threads_are_named():
    entry = steps(task="energy_forces", variant="teacher", device="cpu", threads=2)
    assert names.teacher_threads(Run([entry])) == "2 threads"
    assert names.teacher_threads(Run([entry | {"threads": 1}])) == "1 thread"
    assert names.teacher_threads(Run([])) == ""
