"""What all records of a run say together: who wins, what MD decides, which variants are the same."""

import numpy as np
import pytest

from mlff_distiller.records import collect
from mlff_distiller.records.outcome import FAILED, PASSED, TOO_SHORT, md_outcome
from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio, mean_of
from tests.unit.records.synthetic_records import benchmark, equivalence, md, schema


def nve(drift, error, **fields):
    return md("eager", "water", drift_mev_per_atom_ps=drift, drift_stderr_mev_per_atom_ps=error, **fields)


@pytest.mark.parametrize(
    ("drift", "error", "fields", "outcome"),
    [
        (0.02, 0.03, {}, PASSED),
        (-0.09, 0.02, {}, TOO_SHORT),
        (0.05, 0.3, {}, TOO_SHORT),
        (0.05, None, {}, TOO_SHORT),
        (0.3, 0.05, {"passed": False}, FAILED),
        (0.02, 0.03, {"passed": False}, FAILED),
        (0.02, 0.03, {"status": "failed", "reason": "it blew up"}, FAILED),
    ],
)
def test_md_passes_fails_or_is_too_short_to_tell(drift, error, fields, outcome):
    assert md_outcome(nve(drift, error, **fields)) == outcome


def test_a_check_without_a_drift_is_decided_by_its_gates():
    checked = {
        "status": "ok",
        "passed": True,
        "gates": {"temperature_error_k": {"value": 1.0, "limit": 6.0, "passed": True}},
    }
    assert md_outcome(checked) == PASSED


def timed(name, ratio, **fields):
    """Records of a variant on two molecules; ``fields`` of its equivalence."""
    made = []
    for system in ("water", "benzene"):
        source = "eager" if name == "eager" else "cpp"
        made += [benchmark(source, "energy_forces", system, ratio, replicate=r, process_spread=0.01) for r in range(3)]
        made += [equivalence(source, system, **fields), md(source, system, drift_mev_per_atom_ps=0.001)]
    return [entry | {"variant": name} for entry in made]


def test_what_no_interval_tells_apart_is_decided_by_precision_then_by_speed():
    rough = {"tolerance_mev_per_a": 2.0}
    records = timed("eager", 1.0) + timed("tf32", 6.1, **rough) + timed("exact", 6.0) + timed("slow", 2.0)
    run = Run(collect.merge(records))
    assert run.ranking("energy_forces")[0][0] == "tf32"
    assert run.winner()[0] == "exact"
    assert {name for name, _ in run.level_with_fastest(run.ranking("energy_forces"))} == {"tf32", "exact"}
    far = Run(collect.merge(timed("eager", 1.0) + timed("tf32", 20.0, **rough) + timed("exact", 6.0)))
    assert far.winner()[0] == "tf32"


def test_md_that_is_too_short_lets_nobody_win():
    records = [
        entry | ({"drift_stderr_mev_per_atom_ps": 0.3} if entry["variant"] == "short" and entry["kind"] == "md" else {})
        for entry in timed("eager", 1.0) + timed("short", 6.0) + timed("long", 3.0)
    ]
    run = Run(collect.merge(records))
    assert (run.md("short"), run.md("long")) == (TOO_SHORT, PASSED)
    assert run.winner()[0] == "long"


def test_a_variant_that_is_not_equivalent_never_wins_though_it_has_a_speedup():
    bad = {"equivalent": False, "status": "failed", "reason": "off", "precision": "16bit"}
    run = Run(collect.merge(timed("eager", 1.0) + timed("fp16", 6.0, **bad) + timed("exact", 3.0)))
    assert run.overall("fp16", "energy_forces").value == pytest.approx(6.0, rel=0.1)
    assert run.winner()[0] == "exact"


def test_variants_with_the_same_artifact_and_answers_are_one():
    made = []
    for name, sha, error in (("cuda", "a", 1.0), ("cuda_tf32", "a", 1.0), ("other", "b", 1.0), ("unlike", "a", 2.0)):
        made.append(schema.record("compile", variant=name, device="cpu", family="cuda", artifact_sha256=sha * 64))
        made.append(equivalence("cpp", "water", force_rmse_mev_per_a=error * 1e-3) | {"variant": name})
    assert Run(collect.merge(made)).same_code == {"cuda_tf32": "cuda"}


def test_nobody_wins_by_the_luck_of_its_eager():
    """Two variants equally fast, one beside an eager that was slow that time."""
    records = timed("eager", 1.0) + timed("lucky", 4.0) + timed("fair", 4.0)
    for entry in records:
        if entry["kind"] == "benchmark" and entry["variant"] == "lucky":
            entry["baseline_samples_ms"] = [1.5 * value for value in entry["baseline_samples_ms"]]
    run = Run(collect.merge(records))
    assert run.paired_speedups("lucky", "energy_forces")["water"].value == pytest.approx(1.5 * 4.0, rel=0.1)
    assert {name for name, _ in run.level_with_fastest(run.ranking("energy_forces"))} == {"lucky", "fair"}


def test_over_eager_in_the_same_processes_or_in_all_whichever_is_known_better():
    records = timed("eager", 1.0) + timed("steady", 4.0) + timed("third", 2.0)
    # The host is half as fast in one process: eager and this variant wait for it, and their ratio stays.
    for entry in records:
        if entry["kind"] == "benchmark" and entry["variant"] == "steady" and entry["replicate"] == 2:
            for field in ("samples_ms", "baseline_samples_ms"):
                entry[field] = [2 * value for value in entry[field]]
    run = Run(collect.merge(records))
    assert run.overall("steady", "energy_forces").value == pytest.approx(4.0, rel=0.05)
    assert run.speedups("steady", "energy_forces") == run.paired_speedups("steady", "energy_forces")
    # A GPU does not slow down with the host: eager alone varies, and all of its times together say more.
    for entry in records:
        if entry["kind"] == "benchmark" and entry["variant"] == "steady" and entry["replicate"] == 2:
            entry["samples_ms"] = [value / 2 for value in entry["samples_ms"]]
    run = Run(collect.merge(records))
    assert run.speedups("steady", "energy_forces") != run.paired_speedups("steady", "energy_forces")


def test_what_forces_cost_is_known_from_the_processes_that_timed_both():
    """Processes that differ by 30 %, in both tasks alike: their ratio does not differ."""
    entries = [equivalence("cpp", "caffeine")]
    for replicate, slow in enumerate((0.7, 1.0, 1.3)):
        for task, share in (("energy", 1.0), ("energy_forces", 2.5)):
            made = benchmark("cpp", task, "caffeine", 4.0, replicate=replicate, process_spread=0.0)
            made["samples_ms"] = (slow * share * (1 + 0.01 * np.random.default_rng(replicate).random(20))).tolist()
            entries.append(made)
    found = collect.merge(entries)
    ratio = Run(found).force_ratio("cpp")
    assert ratio.value == pytest.approx(2.5, rel=0.01)
    assert ratio.log_error < 0.02
    for entry in found:
        if entry["kind"] == "benchmark":
            assert (entry["force_ratio"] is not None) is (entry["task"] == "energy_forces")
            entry.pop("force_ratio")
    older = Run(found).force_ratio("cpp")
    assert older.value == pytest.approx(2.5, rel=0.01)
    assert older.log_error > 0.2, "from the times apart"


def test_the_mean_of_repeated_ratios_has_students_interval():
    found = mean_of([2.0, 2.2, 2.1])
    assert found.value == pytest.approx((2.0 * 2.2 * 2.1) ** (1 / 3))
    assert found.low < 2.0 < 2.2 < found.high < 2.5
    assert isinstance(found, Ratio)
    with pytest.raises(ValueError, match="at least two"):
        mean_of([2.0])
