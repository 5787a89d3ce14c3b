"""The report's section about MD engines, from synthetic records."""

import pytest

from mlff_distiller.records import schema
from mlff_distiller.records.run import Run
from mlff_distiller.report import engines, method
from mlff_distiller.report.render import render


def record(engine="openmm", system="caffeine", **fields):
    measured = {
        "engine_version": "8.6",
        "computed_by": "bundle",
        "threads": 2,
        "timestep_fs": 0.5,
        "n_steps": 1000,
        "step_ms": 2.0,
        "steps_per_s": 500.0,
        "ase_step_ms": 1.6,
        "kernel_ms": 1.0,
        "others_cores": 0.0,
        "force_rmse_mev_per_a": 0.002,
        "force_limit_mev_per_a": 0.0085,
        "equivalent": True,
        "drift_mev_per_atom_ps": 0.01,
        "drift_stderr_mev_per_atom_ps": 0.02,
        "ase_drift_mev_per_atom_ps": 0.011,
        "ase_drift_stderr_mev_per_atom_ps": 0.021,
        "beyond_ase_drift_mev_per_atom_ps": -0.001,
        "beyond_ase_drift_stderr_mev_per_atom_ps": 0.002,
        "conserves_energy": True,
    }
    common = {"variant": "cpp", "task": engine, "system": system, "n_atoms": 24, "device": "cpu"}
    return schema.record("engine", **(common | measured | fields))


def missing(engine="lammps", reason="LAMMPS is not installed: `make engines`"):
    common = {"variant": "cpp", "task": engine, "device": "cpu", "threads": 2}
    return schema.record("engine", **common, status="unavailable", reason=reason)


def section(*records):
    return render("engines.md.j2", {"engines": engines.context(Run(records))})


def test_rates_are_those_of_the_times():
    (row,) = engines.context(Run([record()]))["rows"]
    # 43.2 million steps of 2 ms in a day.
    assert row["ns_per_day"] == pytest.approx(43.2e6 * 0.5e-6)
    assert row["ase_steps_per_s"] == pytest.approx(625)
    assert row["kernel_per_s"] == pytest.approx(1000)
    assert row["engine"] == "OpenMM 8.6"
    assert row["drift"] == "0.010 ± 0.020"
    assert row["beyond_ase"] == "-0.0010 ± 0.0020"
    assert row["verdict"] == "passed"


def test_engines_slower_than_ase_are_named_first():
    found = section(
        record("ipi", step_ms=3.2),
        record("ipi", "water", step_ms=1.6 * 8),
        record(step_ms=1.6),
        record("lammps", step_ms=1.0),
    )
    assert found.split("\n\n")[1] == "**Slower than ASE here: i-PI (4.0 times ASE's time).**"
    assert "Slower" not in section(record(step_ms=1.6))


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"conserves_energy": None}, "too short to tell of a drift"),
        ({"conserves_energy": False}, "failed: the energy drifts"),
        (
            {"status": "failed", "reason": "force RMSE too large", "equivalent": False},
            "failed: force RMSE too large",
        ),
    ],
)
def test_what_did_not_pass_says_why(fields, verdict):
    (row,) = engines.context(Run([record(**fields)]))["rows"]
    assert row["verdict"] == verdict


def test_the_section_has_a_row_for_each_run_and_a_line_for_each_engine_that_is_missing():
    box = record(system="methanol_64", n_atoms=384)
    text = section(box, record(), record("lammps", computed_by="c"), missing("ipi", "i-PI is not installed"))
    assert text.count("\n| OpenMM 8.6 (cpu) |") == 2
    assert text.index("caffeine (24)") < text.index("methanol 64 (384)")
    assert "LAMMPS computes by the C library of the bundle." in text
    assert "- i-PI, all: unavailable: i-PI is not installed" in text
    assert ", with 2 threads:" in text
    assert "beside them" not in text
    widths = {row.count("|") for row in text.splitlines() if row.startswith("|")}
    assert len(widths) == 1


def test_runs_beside_other_work_are_counted():
    assert "**1 of 2 runs had other work" in section(record(others_cores=1.2), record("ipi"))


def test_without_records_there_is_no_section():
    assert section() == ""


def test_a_cpu_engine_counts_beside_a_gpu():
    on_gpu = {"kind": "benchmark", "task": "energy_forces", "variant": "cuda", "device": "cuda", "system": "caffeine"}
    run = Run([on_gpu | {"status": "ok", "batch": 1, "n_atoms": 24}, record("lammps")])
    assert run.device == "cuda"
    assert len(engines.context(run)["rows"]) == 1


def test_a_run_without_engines_says_how_to_get_them():
    timed = {"kind": "benchmark", "task": "energy_forces", "variant": "eager", "device": "cpu", "system": "water"}
    timed |= {"status": "ok", "batch": 1, "n_atoms": 3, "reason": "", "dtype": "float32"}
    provenance = {"left_out": []}
    assert any("`make engines`" in gap for gap in method.not_measured(Run([timed]), provenance))
    assert not any("`make engines`" in gap for gap in method.not_measured(Run([timed, missing()]), provenance))
