import argparse
import gzip
import json
import statistics
from pathlib import Path

import pandas
import pytest

from mlff_distiller.records import collect, schema
from mlff_distiller.records.schema import RESULTS, results_file
from mlff_distiller.records.statistics import compare
from mlff_distiller.utils.errors import UserError
from tests.unit.records.synthetic_records import (
    FAILS_EQUIVALENCE,
    SYSTEMS,
    UNAVAILABLE,
    VARIANTS,
    benchmark,
    equivalence,
    run_records,
    write_run,
)

REQUIRED = {"kind", "variant", "task", "system", "n_atoms", "batch", "device", "dtype", "status", "reason"}


@pytest.fixture(scope="module")
def merged():
    return collect.merge(run_records())


def only(entries, **fields):
    found = [entry for entry in entries if all(entry.get(key) == value for key, value in fields.items())]
    assert len(found) == 1, f"{len(found)} records with {fields}"
    return found[0]


def test_every_record_has_the_common_fields(merged):
    assert all(entry.keys() >= REQUIRED for entry in merged)


def test_replicates_become_one_record_with_the_speedup_put_in(merged):
    for variant, (_, _, energy, forces, _) in VARIANTS.items():
        if variant == FAILS_EQUIVALENCE:
            continue
        for task, truth in (("energy", energy), ("energy_forces", forces)):
            for system in SYSTEMS:
                entry = only(merged, kind="benchmark", variant=variant, task=task, system=system)
                assert entry["replicates"] == 3
                assert entry["speedup"] == pytest.approx(truth, rel=0.1)
                low, high = entry["speedup_ci95"]
                assert low <= entry["speedup"] <= high


def test_numbers_are_those_of_the_pooled_samples(merged):
    raw = [e for e in run_records() if e["variant"] == "cpp" and e["task"] == "energy" and e["system"] == "benzene"]
    raw = [e for e in raw if e["kind"] == "benchmark"]
    pooled = [value for entry in raw for value in entry["samples_ms"]]
    baseline = [value for entry in raw for value in entry["baseline_samples_ms"]]
    entry = only(merged, kind="benchmark", variant="cpp", task="energy", system="benzene")
    assert entry["median_ms"] == pytest.approx(statistics.median(pooled))
    assert entry["mean_ms"] == pytest.approx(statistics.fmean(pooled))
    assert entry["std_ms"] == pytest.approx(statistics.stdev(pooled))
    assert entry["speedup"] == pytest.approx(statistics.median(baseline) / statistics.median(pooled))
    assert entry["speedup"] == pytest.approx(entry["baseline_median_ms"] / entry["median_ms"])
    assert entry["steps_per_s"] == pytest.approx(1000 / entry["median_ms"])
    assert entry["atoms_per_s"] == pytest.approx(12 * entry["steps_per_s"])


def test_samples_stay_in_the_job_files(merged):
    assert not any("samples_ms" in entry or "baseline_samples_ms" in entry or "replicate" in entry for entry in merged)


def test_a_variant_that_fails_equivalence_loses_its_speedup_everywhere(merged):
    for entry in merged:
        if entry["kind"] == "benchmark" and entry["variant"] == FAILS_EQUIVALENCE:
            assert entry["status"] == "failed"
            assert "not equivalent to the fp64 reference" in entry["reason"]
            assert entry["equivalent"] is False
            assert entry["speedup"] is None
            assert entry["speedup_ci95"] is None
            assert entry["verdict"] is None
            assert entry["median_ms"] > 0, "its times are still facts"


def test_failing_on_one_system_is_failing():
    entries = [benchmark("cpp", "energy", system, 2.0) for system in ("water", "benzene")]
    entries += [equivalence("cpp", "water"), equivalence("cpp", "benzene", equivalent=False, force_rmse_mev_per_a=7.5)]
    found = collect.merge(entries)
    water = only(found, kind="benchmark", system="water")
    assert (water["status"], water["speedup"]) == ("failed", None)
    assert "benzene: force error 7.5 meV/A" in water["reason"]


def test_a_variant_that_was_never_checked_has_no_speedup():
    found = only(collect.merge([benchmark("cpp", "energy", "water", 2.0)]), kind="benchmark")
    assert (found["status"], found["speedup"], found["equivalent"]) == ("failed", None, False)
    assert "not checked" in found["reason"]


def test_equivalence_on_another_device_does_not_count():
    found = collect.merge([benchmark("cpp", "energy", "water", 2.0), equivalence("cpp", "water", device="cuda")])
    assert only(found, kind="benchmark")["speedup"] is None


def test_a_replicate_that_failed_fails_the_measurement_but_keeps_its_numbers():
    good = [benchmark("cpp", "energy", "water", 2.0, replicate=r) for r in (1, 2)]
    bad = benchmark("cpp", "energy", "water", 2.0, replicate=3)
    bad |= {"status": "failed", "reason": "out of memory", "samples_ms": None, "baseline_samples_ms": None}
    found = only(collect.merge([*good, bad, equivalence("cpp", "water")]), kind="benchmark")
    assert (found["status"], found["replicates"], found["speedup"]) == ("failed", 2, None)
    assert found["reason"] == "1 of 3 replicates did not finish: out of memory"
    assert found["median_ms"] > 0


def of_replicates(*others):
    beside = [{} if cores == "older" else {"others_cores": cores} for cores in others]
    entries = [benchmark("eager", "energy", "water", 1.0, replicate=k, **fields) for k, fields in enumerate(beside)]
    (entry,) = collect.merge(entries)
    return entry.get("others_cores"), entry["alone"]


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((0.02, 0.0, 0.05), (0.05, True)),
        ((0.02, 0.7, 0.05), (0.7, False)),
        ((0.02, None, 0.7), (0.7, False)),
        ((0.02, None, 0.05), (0.05, None)),
        ((None, None), (None, None)),
        (("older", "older"), (None, None)),
    ],
)
def test_a_timing_was_alone_when_each_replicate_was(others, expected):
    assert of_replicates(*others) == expected


@pytest.mark.parametrize(("calls", "alone"), [(4, True), (6, False), (50, False)])
def test_work_shorter_than_the_kernels_ticks_can_tell_is_nobodys(calls, alone):
    """0.4 cores in calls of 10 ms beside 10 ms of eager: 0.008 s in each."""
    entry = benchmark("cpp", "energy", "water", 1.0, replicate=0, others_cores=0.4)
    entry |= {"samples_ms": [10.0] * calls, "baseline_samples_ms": [10.0] * calls}
    assert collect.merge([entry])[0]["alone"] is alone


def test_unavailable_variants_keep_their_reason(merged):
    for variant, reason in UNAVAILABLE.items():
        for entry in merged:
            if entry["variant"] == variant:
                assert (entry["status"], entry["reason"]) == ("unavailable", reason)


def test_eager_is_its_own_control(merged):
    entry = only(merged, kind="benchmark", variant="eager", task="energy_forces", system="caffeine")
    assert entry["equivalent"] is True
    assert entry["verdict"] == "no difference shown"


def test_the_teacher_has_times_and_no_baseline(merged):
    entry = only(merged, kind="benchmark", variant="teacher", system="caffeine")
    assert entry["status"] == "ok"
    assert entry["median_ms"] > 0
    assert entry["speedup"] is None
    assert entry["equivalent"] is None


def test_break_even_is_compile_time_over_saving_and_null_without_one(merged):
    entry = only(merged, kind="benchmark", variant="cpp", task="energy_forces", system="cholesterol")
    saving_s = (entry["baseline_median_ms"] - entry["median_ms"]) / 1000
    assert entry["break_even_steps"] - 1 < 14.0 / saving_s <= entry["break_even_steps"]
    assert (
        only(merged, kind="benchmark", variant="cpp", task="energy", system="cholesterol")["break_even_steps"] is None
    )
    slower = [benchmark("cpp", "energy_forces", "water", 0.5), equivalence("cpp", "water")]
    slower.append(schema.record("compile", variant="cpp", device="cpu", compile_s=3.0, family="cpp"))
    found = only(collect.merge(slower), kind="benchmark")
    assert found["verdict"] == "slower"
    assert found["break_even_steps"] is None


def test_batches_and_dtypes_are_measurements_of_their_own():
    entries = [
        benchmark("cpp", "energy", "water", 2.0, batch=b, n_atoms=3 * b, dtype=d)
        for b in (1, 64)
        for d in ("float32", "float64")
    ]
    found = collect.merge([*entries, equivalence("cpp", "water")])
    assert sum(entry["kind"] == "benchmark" for entry in found) == 4
    big = only(found, kind="benchmark", batch=64, dtype="float32")
    assert big["atoms_per_s"] == pytest.approx(64 * 3 * big["steps_per_s"])


def test_collect_writes_the_two_tables(tmp_path, capsys):
    files = write_run(tmp_path / "jobs", replicates=2)
    output = argparse.Namespace(
        files=files,
        checkpoint=None,
        output_json=tmp_path / "r.json",
        output_csv=tmp_path / "r.csv",
        output_samples=None,
    )
    assert collect.run(output) == 0
    assert "235 benchmark" in capsys.readouterr().out
    document = json.loads(output.output_json.read_text())
    assert document.keys() == {"provenance", "records"}
    assert all(entry.keys() >= REQUIRED for entry in document["records"])
    table = pandas.read_csv(output.output_csv)
    assert len(table) == len(document["records"])
    assert REQUIRED | {"speedup_ci95_low", "speedup_ci95_high"} <= set(table.columns)
    assert collect.read(output.output_json) == document


def test_the_order_of_the_files_does_not_matter(tmp_path):
    files = write_run(tmp_path, replicates=2)
    one, other = collect.collect(files)["records"], collect.collect(files[::-1])["records"]
    assert one == other


def test_a_file_that_is_named_twice_counts_once(tmp_path):
    files = write_run(tmp_path, replicates=2)
    assert collect.collect([*files, *files])["records"] == collect.collect(files)["records"]


def test_unreadable_files_are_named_and_left_out(tmp_path):
    files = write_run(tmp_path, replicates=1)
    (tmp_path / "cut_short.json").write_text(files[0].read_text()[:-40])
    old = json.loads(files[0].read_text()) | {"schema_version": 0}
    (tmp_path / "old.json").write_text(json.dumps(old))
    foreign = json.loads(files[0].read_text())
    foreign["records"].append({"kind": "benchmrk", "status": "ok"})
    foreign["records"].append(schema.record("benchmark", variant="cpp", samples_ms=[1.0, -2.0]))
    (tmp_path / "foreign.json").write_text(json.dumps(foreign))
    names = ["cut_short.json", "old.json", "foreign.json", "missing.json"]
    document = collect.collect([*files, *(tmp_path / name for name in names)])
    left_out = document["provenance"]["left_out"]
    assert {entry["file"] for entry in left_out} == set(names)
    reasons = " ".join(entry["reason"] for entry in left_out)
    for words in (
        "not valid JSON",
        "form 0",
        "unknown kind 'benchmrk'",
        "samples_ms: input should be greater than 0",
        "no such file",
    ):
        assert words in reasons
    assert any("left out" in warning for warning in document["provenance"]["warnings"])
    assert str(tmp_path) not in json.dumps(document["provenance"]), "no path of the machine in the results"


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no records could be read: missing\.json"):
        collect.collect([tmp_path / "missing.json"])


def test_mixing_machines_is_said(tmp_path):
    files = write_run(tmp_path, replicates=1)
    document = json.loads(files[-1].read_text())
    document["provenance"]["machine"] |= {"cpu": "another processor"}
    document["provenance"]["packages"] |= {"torch": "2.11.0"}
    files[-1].write_text(json.dumps(document))
    warnings = collect.collect(files)["provenance"]["warnings"]
    assert any("2 different machines" in warning for warning in warnings)
    assert any("2 different versions of torch" in warning for warning in warnings)


def on_node(path, node):
    document = json.loads(path.read_text())
    document["provenance"]["batch_job"] = {"system": "slurm", "node": node, "id": "7", "cpus": 2}
    path.write_text(json.dumps(document))
    return path


def test_replicates_on_two_nodes_are_said(tmp_path):
    files = [
        on_node(schema.write(tmp_path / f"{k}.json", [benchmark("eager", "energy", "water", 1.0, replicate=k)]), node)
        for k, node in enumerate(["c2", "c1", "c2"])
    ]
    document = collect.collect(files)
    (entry,) = document["records"]
    assert entry["nodes"] == ["c1", "c2"]
    assert (document["provenance"]["nodes"], document["provenance"]["batch_systems"]) == (["c1", "c2"], ["slurm"])
    (warning,) = (text for text in document["provenance"]["warnings"] if "node" in text)
    assert warning == (
        "timed on 2 nodes (c1, c2), 1 of 1 repeated on more than one of them: compare speed-ups, not times"
    )


def test_one_node_or_none_is_no_warning(tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    for node in (None, "c1"):
        path = schema.write(tmp_path / "0.json", [benchmark("eager", "energy", "water", 1.0)])
        document = collect.collect([on_node(path, node) if node else path])
        assert document["provenance"]["nodes"] == ([node] if node else [])
        assert document["records"][0].get("nodes") == ([node] if node else None)
        assert not any("node" in text for text in document["provenance"]["warnings"])


def test_a_run_is_found_by_its_folder_or_file(tmp_path):
    path = tmp_path / "run" / "report" / RESULTS
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert results_file(tmp_path / "run") == path
    assert results_file(tmp_path / "run" / "report") == path
    assert results_file(path) == path
    with pytest.raises(UserError, match=r"no phase3_results\.json there"):
        results_file(tmp_path / "other")
    with pytest.raises(UserError, match="not a table of results"):
        collect.read(path)


def test_files_may_be_given_as_paths_of_any_kind(tmp_path):
    files = write_run(tmp_path, replicates=1)
    assert collect.collect([str(path) for path in files])["records"]
    assert isinstance(files[0], Path)


def test_records_of_another_student_are_named_and_left_out(tmp_path):
    """Left from an earlier run with another checkpoint, they would be taken for measurements of this one."""
    ours, theirs = "a" * 64, "b" * 64
    for number, student in enumerate((ours, ours, theirs)):
        entries = [benchmark("cpp", task, "water", 2.0, replicate=number) for task in ("energy", "energy_forces")]
        path = tmp_path / "benchmark" / "cpp" / f"{number}.json"
        schema.write(path, [entry | {"checkpoint_sha256": student} for entry in entries])
    schema.write(tmp_path / "equivalence.json", [equivalence("cpp", "water", checkpoint_sha256=ours)])
    files = [*sorted((tmp_path / "benchmark" / "cpp").iterdir()), tmp_path / "equivalence.json"]
    document = collect.collect(files, student=ours)
    assert [entry["replicates"] for entry in document["records"] if entry["kind"] == "benchmark"] == [2, 2]
    (gone,) = document["provenance"]["left_out"]
    assert gone["file"] == "benchmark/cpp/2.json"
    assert gone["reason"].startswith(
        "2 of 2 records: measured with another student (bbbbbbbbbb, this run's is aaaaaaaaaa)"
    )
    assert document["provenance"]["student_sha256"] == ours
    assert collect.collect(files)["provenance"]["left_out"] == [], (
        "without a checkpoint there is nothing to compare with"
    )


@pytest.mark.parametrize("value", ["x", -1, 1.5, [], ["x"], {}, {"x": 1}, True, None], ids=repr)
def test_no_damaged_field_stops_the_collection(tmp_path, value):
    """Whatever stands in a field, the record is used or left out with a reason that names the field."""
    whole = [
        benchmark("cpp", "energy", "water", 2.0),
        equivalence("cpp", "water"),
        next(entry for entry in run_records(1) if entry["kind"] == "compile" and entry["variant"] == "cpp"),
        next(entry for entry in run_records(1) if entry["kind"] == "md" and entry["variant"] == "cpp"),
    ]
    good = schema.write(tmp_path / "good.json", whole)
    damaged = [entry | {key: value} for entry in whole for key in entry]
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps({"schema_version": schema.SCHEMA_VERSION, "records": damaged}))
    document = collect.collect([good, path])
    for entry in document["provenance"]["left_out"]:
        assert entry["file"] == "damaged.json"
        assert entry["reason"]
    assert pandas.DataFrame(collect.to_table(document["records"])).shape[0] == len(document["records"])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"records": {}}', '{"schema_version": 1, "records": [], "provenance": 3}',
     '{"schema_version": 1, "records": [], "provenance": {"machine": "x"}}', "\xff\xfe"],
)  # fmt: skip
def test_a_file_of_another_form_is_left_out(tmp_path, text):
    good = schema.write(tmp_path / "good.json", [equivalence("cpp", "water")])
    (tmp_path / "other.json").write_bytes(text.encode("latin-1"))
    (gone,) = collect.collect([good, tmp_path / "other.json"])["provenance"]["left_out"]
    assert gone["file"] == "other.json"
    assert "run the workflow again" in gone["reason"]


def test_a_folder_in_place_of_a_file_is_left_out(tmp_path):
    good = schema.write(tmp_path / "good.json", [equivalence("cpp", "water")])
    (tmp_path / "folder.json").mkdir()
    (gone,) = collect.collect([good, tmp_path / "folder.json"])["provenance"]["left_out"]
    assert "cannot be read" in gone["reason"]


def test_the_samples_repeat_the_intervals_of_the_table(tmp_path):
    files = write_run(tmp_path / "jobs", replicates=3)
    out = {name: tmp_path / name for name in ("all.json", "all.csv", "samples.json.gz")}
    words = [*map(str, files), "--output-json", str(out["all.json"]), "--output-csv", str(out["all.csv"])]
    parser = argparse.ArgumentParser()
    collect.add_arguments(parser)
    assert collect.run(parser.parse_args([*words, "--output-samples", str(out["samples.json.gz"])])) == 0
    samples = json.loads(gzip.decompress(out["samples.json.gz"].read_bytes()))
    merged = [e for e in collect.read(out["all.json"])["records"] if e["kind"] == "benchmark" and e["variant"] == "cpp"]
    assert {entry["replicates"] for entry in merged} == {1, 3}
    for entry in merged:
        own = [one for one in samples if all(one.get(key) == entry[key] for key in collect.BENCHMARK_KEY)]
        assert len(own) == entry["replicates"]
        if not entry["speedup_ci95"]:
            continue
        again = compare([one["samples_ms"] for one in own], [one["baseline_samples_ms"] for one in own]).speedup
        assert [again.low, again.high] == pytest.approx(entry["speedup_ci95"])
