from pathlib import Path

import pytest
import yaml

from mlff_distiller.decisions import claims
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import record
from mlff_distiller.utils.errors import UserError
from tests.unit.records.synthetic_records import SYSTEMS, benchmark, equivalence, run_records

LEDGER = Path(__file__).parents[3] / "config" / "claims.yaml"
GPU = [{"cpu": "a processor", "gpus": ["NVIDIA H100 80GB HBM3"]}]
CPU = [{"cpu": "a processor", "gpus": []}]


@pytest.fixture(scope="module")
def ledger():
    return claims.load(LEDGER)


def on_gpu(**speedups):
    """A run on CUDA: variant -> (energy, energy + forces)."""
    entries = []
    for variant, pair in {"eager": (1.0, 1.0), **speedups}.items():
        for system in list(SYSTEMS)[:3]:
            entries.append({**equivalence("cpp", system), "variant": variant, "device": "cuda"})
            for task, ratio in zip(("energy", "energy_forces"), pair, strict=True):
                entries += [
                    benchmark(variant, task, system, ratio, replicate=r, device="cuda", process_spread=0.01)
                    for r in range(3)
                ]
    return Run(collect.merge(entries))


def verdict_of(name, run, ledger, machines=GPU):
    return next(found for found in claims.judge(ledger, run, machines) if found.id == name)


def test_every_claim_of_the_source_is_in_the_ledger(ledger):
    wanted = {
        "energy-baseline", "torchscript-energy", "compile-energy", "script-equals-compile", "fp16-slower",
        "force-ratio-eager", "force-ratio-script", "launch-bound", "cluster-gain", "force-kernel-gain",
        "batching-gain", "compile-forces", "triton-gain",
    }  # fmt: skip
    assert wanted <= {claim["id"] for claim in ledger["claims"]}


def test_confirmed_and_refuted(ledger):
    run = on_gpu(torchscript=(1.45, 1.1), torch_compile=(1.9, 2.0), fp16=(0.75, 0.8))
    assert verdict_of("torchscript-energy", run, ledger).verdict == claims.CONFIRMED
    assert verdict_of("compile-energy", run, ledger).verdict == claims.REFUTED
    assert verdict_of("script-equals-compile", run, ledger).verdict == claims.REFUTED
    assert verdict_of("fp16-slower", run, ledger).verdict == claims.CONFIRMED
    assert verdict_of("compile-forces", run, ledger).verdict == claims.CONFIRMED
    assert verdict_of("force-ratio-eager", run, ledger).verdict == claims.REFUTED, "2.6 was put in, 4.0 is claimed"
    faster = on_gpu(fp16=(1.6, 1.6))
    assert verdict_of("fp16-slower", faster, ledger).verdict == claims.REFUTED


def test_the_measured_number_and_its_interval_stand_in_the_verdict(ledger):
    found = verdict_of("torchscript-energy", on_gpu(torchscript=(1.45, 1.1)), ledger)
    assert found.measured.startswith("1.4")
    assert "[" in found.measured
    assert found.number == "1.45× (2.57 ms)"


def test_claims_about_a_gpu_are_not_judged_on_a_processor(ledger):
    run = Run(collect.merge(run_records()))
    found = verdict_of("torchscript-energy", run, ledger, CPU)
    assert found.verdict == claims.NOT_TESTABLE
    assert "about CUDA; this run measured on CPU" in found.why
    assert found.measured != "-", "the number of this machine stands beside it all the same"
    assert verdict_of("compile-forces", run, ledger, CPU).verdict == claims.CONFIRMED


def test_an_absolute_time_is_judged_on_its_own_gpu_only(ledger):
    run = on_gpu()
    assert "H100" in verdict_of("energy-baseline", run, ledger).why
    same = [{"gpus": ["NVIDIA GeForce RTX 3080 Ti"]}]
    assert "absolute time" not in verdict_of("energy-baseline", run, ledger, same).why


def test_what_was_not_measured_says_why(ledger):
    run = on_gpu(torchscript=(1.45, 1.1))
    assert "no triton_graph timed" in verdict_of("triton-gain", run, ledger).why
    assert "no batches" in verdict_of("batching-gain", run, ledger).why
    assert "gpu busy percent" in verdict_of("launch-bound", run, ledger).why
    missing = Run(collect.merge(run_records()))
    missing.records = [{**entry, "device": "cuda"} for entry in missing.records]
    missing.device = "cuda"
    assert "no C++ compiler" in verdict_of("cluster-gain", missing, ledger).why


def test_an_interval_across_the_edge_decides_nothing(ledger):
    entries = [equivalence("cpp", "water"), equivalence("eager", "water")]
    for name, ratio in (("eager", 1.0), ("cpp", 1.0)):
        entries += [benchmark(name, "energy", "water", ratio, replicate=r, process_spread=0.1) for r in range(3)]
    document = {"claims": [_claim(at_most=1.0)]}
    found = claims.judge(document, Run(collect.merge(entries)), CPU)[0]
    assert found.verdict == claims.UNDECIDED
    assert found.why == "at most 1× is claimed, and the interval reaches beyond it"


def test_what_lies_above_a_projection_exceeds_it():
    run = on_gpu(analytic=(1.0, 9.0))
    for by, verdict in (("projection", claims.EXCEEDED), ("value", claims.REFUTED)):
        rule = {"variant": "analytic", "task": "energy_forces", "at_least": 3.0, "at_most": 5.0, "by": by}
        found = claims.judge({"claims": [_claim(**rule)]}, run, GPU)[0]
        assert (found.verdict, found.why) == (verdict, "lies above 3 to 5×")


def test_that_two_are_equal_needs_the_whole_interval_inside():
    run = on_gpu(torchscript=(1.45, 1.1), torch_compile=(1.47, 2.0))
    rule = {"measure": "speedup_over", "variant": "torchscript", "over": "torch_compile", "at_most": 2.0}
    narrow = claims.judge({"claims": [_claim(**rule, at_least=0.96, by="interval")]}, run, GPU)[0]
    assert (narrow.verdict, narrow.why) == (
        claims.UNDECIDED,
        "0.96 to 2× is claimed, and the interval reaches beyond it",
    )
    assert (
        claims.judge({"claims": [_claim(**rule, at_least=0.96, by="value")]}, run, GPU)[0].verdict == claims.CONFIRMED
    )
    assert (
        claims.judge({"claims": [_claim(**rule, at_least=0.5, by="interval")]}, run, GPU)[0].verdict == claims.CONFIRMED
    )


def test_a_claim_is_judged_on_the_variant_that_it_speaks_of(ledger):
    run = on_gpu(analytic=(1.1, 1.4), cuda=(40.0, 65.0))
    assert verdict_of("force-kernel-gain", run, ledger).verdict == claims.REFUTED
    assert verdict_of("energy-only-limit", run, ledger).verdict == claims.REFUTED


def test_what_forces_cost_eager_is_known_from_the_processes_of_all_variants():
    run = on_gpu(analytic=(1.1, 1.4), torchscript=(1.2, 1.1), cpp=(5.0, 6.0))
    pooled, own = run.force_ratio("eager"), run.force_ratio("cpp")
    assert pooled.value == pytest.approx(2.6, rel=0.05)
    assert pooled.log_error < 0.5 * own.log_error


def test_batching_of_eager_is_judged_by_its_times_beside_a_variant():
    entries = [equivalence("cpp", "water")]
    for batch, speedup in ((1, 2.0), (64, 4.0)):
        timed = [benchmark("cpp", "energy_forces", "water", speedup, batch=batch, replicate=r) for r in range(3)]
        entries += [{**entry, "task": "throughput"} for entry in timed]
    rule = _claim(
        measure="throughput_gain", task="throughput", variant="eager", at_least=5, at_most=10, by="projection"
    )
    found = claims.judge({"claims": [rule]}, Run(collect.merge(entries)), CPU)[0]
    # Eager takes about as long for 64 molecules as for one in these records.
    assert found.verdict == claims.EXCEEDED
    assert float(found.measured.split("×")[0]) == pytest.approx(64, rel=0.15)


def test_kernels_are_counted_against_each_other(ledger):
    entries = []
    for variant, counts in {"torch_compile": (80, 90), "torchscript": (100, 100)}.items():
        for system, count in zip(("water", "caffeine"), counts, strict=True):
            entries.append(benchmark(variant, "energy", system, 1.5, device="cuda") | {"n_kernels": float(count)})
    found = verdict_of("fusion-energy", Run(collect.merge(entries)), ledger)
    assert (found.verdict, found.measured) == (claims.UNDECIDED, "0.85× (0.8 to 0.9 over the molecules)")


@pytest.mark.parametrize(
    ("counts", "verdict"), [((120, 130), claims.CONFIRMED), ((90, 130), claims.UNDECIDED), ((80, 90), claims.REFUTED)]
)
def test_the_casts_of_16_bits_are_seen_in_the_kernels(ledger, counts, verdict):
    entries = []
    for variant, found in {"fp16": counts, "eager": (100, 100)}.items():
        for system, count in zip(("water", "caffeine"), found, strict=True):
            entries.append(benchmark(variant, "energy", system, 1.0, device="cuda") | {"n_kernels": float(count)})
    assert verdict_of("fp16-casts", Run(collect.merge(entries)), ledger).verdict == verdict


@pytest.mark.parametrize(
    ("mbyte", "shown", "verdict"), [(3.0, "10 %", claims.CONFIRMED), (30.0, "100 %", claims.REFUTED)]
)
def test_memory_bandwidth_is_judged_by_what_a_copy_moves(ledger, mbyte, shown, verdict):
    """A call of 10 ms that must move 3 MB takes a tenth of what a copy of 3 GB/s moves."""
    timed = record(
        "benchmark", variant="cpp", task="throughput", system="caffeine", batch=1, n_atoms=24, device="cuda",
        samples_ms=[1.0] * 5, baseline_samples_ms=[10.0] * 5, mbyte=mbyte, gflop=0.1, replicate=0,
    )  # fmt: skip
    roof = record("profile", variant="cpp", task="energy_forces", device="cuda", ceilings={"copy_gb_per_s": 3.0})
    found = verdict_of("memory-bandwidth", Run(collect.merge([timed, roof])), ledger)
    assert (found.verdict, found.measured) == (verdict, shown)
    without = verdict_of("memory-bandwidth", Run(collect.merge([timed])), ledger)
    assert (without.verdict, without.measured) == (claims.NOT_TESTABLE, "-")


def test_batching_is_judged_by_atoms_per_second():
    entries = [equivalence("cpp", "water")]
    for batch, speedup in ((1, 1.0), (64, 8 / 64)):  # a batch of 64 takes 8 times as long: 8 times the throughput
        timed = [benchmark("cpp", "energy_forces", "water", speedup, batch=batch, replicate=r) for r in range(3)]
        entries += [{**entry, "task": "throughput"} for entry in timed]
    document = {"claims": [_claim(measure="throughput_gain", task="throughput", at_least=5)]}
    found = claims.judge(document, Run(collect.merge(entries)), CPU)[0]
    assert found.verdict == claims.CONFIRMED
    assert float(found.measured.split("×")[0]) == pytest.approx(8, rel=0.15)


def test_a_field_of_the_records_can_be_judged():
    entries = [{**benchmark("eager", "energy_forces", "water", 1.0), "gpu_busy_percent": 6.0}]
    document = {"claims": [_claim(measure="field", field="gpu_busy_percent", variant="eager", task="energy_forces",
                                  at_most=10)]}  # fmt: skip
    assert claims.judge(document, Run(collect.merge(entries)), CPU)[0].verdict == claims.CONFIRMED


def test_a_field_can_be_judged_on_small_molecules_alone():
    entries = [
        {**benchmark("eager", "energy_forces", system, 1.0), "gpu_busy_percent": busy}
        for system, busy in (("water", 3.0), ("caffeine", 8.0), ("ala9_capped", 40.0))
    ]
    run = Run(collect.merge(entries))
    rule = {"measure": "field", "field": "gpu_busy_percent", "variant": "eager", "task": "energy_forces", "at_most": 10}
    found = claims.judge({"claims": [_claim(**rule)]}, run, CPU)[0]
    assert (found.verdict, found.measured) == (claims.UNDECIDED, "17× (3 to 40 over the molecules)")
    assert claims.judge({"claims": [_claim(**rule, max_atoms=24)]}, run, CPU)[0].verdict == claims.CONFIRMED


def test_the_cause_stands_beside_the_verdict(ledger):
    busy = {"n_operations": 470.0, "n_launches": 612.0, "n_kernels": 640.0, "gpu_busy_percent": 4.25}
    entries = [{**benchmark("eager", "energy_forces", "water", 1.0, device="cuda"), **busy}]
    found = verdict_of("launch-bound", Run(collect.merge(entries)), ledger)
    assert found.verdict == claims.CONFIRMED
    assert "470 operations, 612 launches of 640 kernels, GPU 4.2 to 4.2 % busy" in found.evidence
    whole = Run(collect.merge(run_records()))
    assert (
        "torch_compile: 2 graphs, 0 breaks, 1 recompilations."
        in verdict_of("compile-forces", whole, ledger, CPU).evidence
    )
    script = verdict_of("force-ratio-script", whole, ledger, CPU).evidence
    assert "first calls on water took 114, 5.72" in script
    assert "95th percentile" in script
    assert verdict_of("launch-bound", Run([]), ledger).evidence == ""


def test_another_reports_claims_can_be_judged(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "source": "another report",
                "hardware": "any processor",
                "claims": [
                    _claim(variant="cpp", task="energy_forces", at_least=4.0),
                    _claim(variant="torchscript", task="energy_forces", at_least=4.0) | {"id": "two"},
                ],
            }
        )
    )
    found = claims.judge(claims.load(path), Run(collect.merge(run_records())), CPU)
    assert [(verdict.id, verdict.verdict) for verdict in found] == [("one", claims.CONFIRMED), ("two", claims.REFUTED)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"statment": "x"}, "unknown key 'statment'; did you mean 'statement'"),
        ({"statement": ""}, "'statement' is missing"),
        ({"evidence": ["launchs"]}, "unknown word 'launchs'; did you mean 'launches'"),
        ({"chart": {"low": 1.0}}, "chart: must have low and high"),
        ({"needs": {"gpus": "x"}}, "did you mean 'gpu'"),
        ({"rule": {"measure": "sped", "at_least": 1}}, "unknown measure 'sped'; did you mean 'speedup'"),
        ({"rule": {"measure": "speedup", "variant": "x", "task": "energy"}}, "at_least, at_most or both"),
        ({"rule": {"measure": "speedup", "task": "energy", "at_least": 1}}, "needs 'variant'"),
        ({"rule": {"measure": "speedup", "variant": "x", "task": "forces", "at_least": 1}}, "unknown task 'forces'"),
        ({"rule": {"measure": "speedup", "variant": "x", "task": "energy", "atleast": 1}}, "did you mean 'at_least'"),
        (
            {"rule": {"measure": "build_minutes", "at_least": 1, "by": "values"}},
            "cannot be 'values'; did you mean 'value'",
        ),
        ({"rule": {"measure": "build_minutes", "at_least": 1, "by": "projection"}}, "a projection needs at_most"),
    ],
)
def test_a_faulty_claim_is_named(tmp_path, change, message):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"source": "a", "hardware": "b", "claims": [_claim() | change]}))
    with pytest.raises(UserError, match=message):
        claims.load(path)


def test_faulty_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such file of claims"):
        claims.load(tmp_path / "none.yaml")
    path = tmp_path / "claims.yaml"
    path.write_text("claims: [")
    with pytest.raises(UserError, match="not valid YAML"):
        claims.load(path)
    path.write_text("claims: {}")
    with pytest.raises(UserError, match="a list 'claims'"):
        claims.load(path)
    path.write_text("claims: []\ntable: [{label: x}]")
    with pytest.raises(UserError, match="must have exactly the keys"):
        claims.load(path)


def _claim(**rule):
    given = {"measure": "speedup", "variant": "cpp", "task": "energy"} | rule
    given = {key: value for key, value in given.items() if value is not None}
    if not {"at_least", "at_most"} & given.keys():
        given["at_least"] = 1.0
    return {"id": "one", "statement": "it is faster", "number": "2×", "rule": given}
