"""Stage ``collect``: the records of all jobs, merged into one table (JSON for programs, CSV for spreadsheets).

Replicates of a benchmark become one record with a speed-up and its interval; equivalence decides whether that speed-up
may be stated; compile time and saving give the number of steps after which compiling has paid for itself. The samples are
written beside the table, compressed.
"""

import gzip
import json
import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from mlff_distiller.records import schema, statistics
from mlff_distiller.records.fields import problem as problem_of
from mlff_distiller.records.kinds.timing import Summary
from mlff_distiller.records.outcome import is_second_class, refuses
from mlff_distiller.records.schema import Record
from mlff_distiller.records.vocabulary import BASELINE, TEACHER
from mlff_distiller.records.wording import equivalence_reason
from mlff_distiller.utils import provenance
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json, sha256_of, write_bytes, write_json, write_text

#: What makes two benchmark records replicates of one measurement.
BENCHMARK_KEY = ("variant", "task", "system", "batch", "device", "dtype")
#: Times of the first call of a turn (see :func:`mlff_distiller.benchmark.timing.interleaved`), the median of each process.
FIRST_CALL_FIELDS = ("first_call_ms", "baseline_first_call_ms")
#: Above this, others that keep so many cores busy during a timing are worth a word.
FEW_CORES = 0.1
#: Less work of others than this, s, is not told from rounding: the kernel counts in ticks of 10 ms, of each core by itself.
FEW_SECONDS = 0.04
#: Benchmark fields that belong to one replicate and are replaced by their summary.
REPLICATE_FIELDS = ("replicate", "samples_ms", "baseline_samples_ms", "bare_samples_ms")
#: Fields that hold curves: for the figures, not for a table.
SERIES = (
    "energy_trace",
    "fp64_energy_trace",
    "first_calls_ms",
    "learning_curve",
    "kinetic_histogram",
    "distributions",
    "kernels",
    "baseline",
    "parity",
    "curve",
    "vibrations",
    "volume_curve",
    "elastic",
    "phonons",
)
#: Every merged benchmark record has these, null where the measurement failed.
SUMMARY_FIELDS = tuple(Summary.__annotations__)


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``collect``."""
    parser.description = "Merge the records of all jobs into one table."
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="records written by the other stages")
    parser.add_argument("--checkpoint", type=Path, help="the student of the run: records of another one are left out")
    parser.add_argument("--output-json", type=Path, required=True, help="phase3_results.json to write")
    parser.add_argument("--output-csv", type=Path, required=True, help="phase3_results.csv to write")
    parser.add_argument(
        "--output-samples", type=Path, help="every single time, by which the intervals can be repeated (.json.gz)"
    )


def run(arguments: Namespace) -> int:
    """Merge the files named on the command line."""
    document = collect(arguments.files, sha256_of(arguments.checkpoint) if arguments.checkpoint else None)
    write_json(arguments.output_json, document)
    write_text(arguments.output_csv, to_table(document["records"]).to_csv(index=False))
    if arguments.output_samples:
        text = json.dumps(samples_of(arguments.files), separators=(",", ":"))
        write_bytes(arguments.output_samples, gzip.compress(text.encode(), mtime=0))
    counts = document["provenance"]["counts"]
    print(f"{sum(counts.values())} records ({', '.join(f'{n} {kind}' for kind, n in counts.items())})")
    for warning in document["provenance"]["warnings"]:
        print(f"warning: {warning}")
    return 0


def collect(files: Sequence[Path], student: str | None = None) -> dict[str, Any]:
    """The merged document ``{"provenance": {...}, "records": [...]}`` of the given files of records.

    A file that cannot be read, a record of unknown form, or one of another student is left out and named in
    ``provenance["left_out"]``.

    Args:
        files: records written by the other stages; one that is named twice counts once.
        student: hash of the run's checkpoint; None leaves records of any student in.

    Raises:
        UserError: not one file could be read.
    """
    files = list(dict.fromkeys(files))
    gathered: list[Record] = []
    origins: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for path, name in zip(files, _short_names(files), strict=True):
        try:
            document = schema.read_document(path)
        except UserError as error:
            left_out.append({"file": name, "reason": str(error).removeprefix(f"{path}: ").replace(str(path), name)})
            continue
        found = document["records"]
        # A student may have been trained elsewhere, long before: that says nothing about this run's measurements.
        if any(isinstance(entry, dict) and entry.get("task") != "training" for entry in found):
            origins.append(document.get("provenance") or {})
        node = _batch_job(document.get("provenance") or {}).get("node")
        problems: dict[str, list[int]] = {}
        for position, entry in enumerate(found):
            if problem := problem_of(entry) or _other_student(entry, student):
                problems.setdefault(problem, []).append(position)
            else:
                gathered.append(schema.COMMON_FIELDS | entry | ({"nodes": [node]} if node else {}))
        for problem, where in problems.items():
            counted = f"record {where[0]}" if len(where) == 1 else f"{len(where)} of {len(found)} records"
            left_out.append({"file": name, "reason": f"{counted}: {problem}"})
    if not origins:
        reasons = "; ".join(f"{entry['file']}: {entry['reason']}" for entry in left_out)
        raise UserError(f"no records could be read: {reasons}")
    merged = merge(gathered)
    return {"provenance": _merge_provenance(origins, left_out, merged, student), "records": merged}


def samples_of(files: Sequence[Path]) -> list[Record]:
    """The times of all processes, ms, as :func:`mlff_distiller.records.statistics.compare` takes them: what was measured, the
    replicate, ``samples_ms``, and ``baseline_samples_ms`` and ``bare_samples_ms`` where these took turns."""
    found = []
    for path in dict.fromkeys(files):
        try:
            entries = schema.read(path)
        except UserError:
            continue  # named among those left out
        found += [
            {key: entry[key] for key in (*BENCHMARK_KEY, *REPLICATE_FIELDS) if entry.get(key) is not None}
            for entry in entries
            if entry["kind"] == "benchmark" and entry.get("samples_ms")
        ]
    return found


def _short_names(files: Sequence[str | Path]) -> list[str]:
    """Paths relative to the common folder: they tell replicates apart, and show no path of the machine."""
    paths = [Path(path).absolute() for path in files]
    shared = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    return [path.relative_to(shared).as_posix() for path in paths]


def read(path: str | Path) -> dict[str, Any]:
    """The merged document in ``path`` as :func:`collect` made it.

    Raises:
        UserError: missing, damaged or not a merged document.
    """
    document = read_json(path)
    if (
        not isinstance(document, dict)
        or not isinstance(document.get("provenance", 0), dict | None)
        or not isinstance(document.get("records"), list)
    ):
        raise UserError(f"{path}: not a table of results; make it again with `python -m mlff_distiller collect`")
    for position, entry in enumerate(document["records"]):
        if wrong := problem_of(entry):
            raise UserError(
                f"{path}: record {position}: {wrong}; make the table again with `python -m mlff_distiller collect`"
            )
    return document | {"records": [schema.COMMON_FIELDS | entry for entry in document["records"]]}


def merge(entries: Iterable[Record]) -> list[Record]:
    """Job records in, merged records out: benchmark replicates become one, everything else passes through.

    A variant that fails equivalence on any system, or was never checked, keeps its times and loses its speed-up; one of 16 bits
    keeps both, marked as not equivalent.
    """
    entries = [dict(entry) for entry in entries]
    others = [entry for entry in entries if entry["kind"] != "benchmark"]
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for entry in entries:
        if entry["kind"] == "benchmark":
            groups.setdefault(tuple(entry[field] for field in BENCHMARK_KEY), []).append(entry)
    benchmarks = [
        merge_replicates(group) | _force_ratio(group, groups.get((key[0], "energy", *key[2:]), [])) if key[1] == "energy_forces"
        else merge_replicates(group)
        for key, group in groups.items()
    ]  # fmt: skip
    doubts = equivalence_failures(others)
    second = {(e["variant"], e["device"]) for e in others if e["kind"] == "equivalence" and is_second_class(e)}
    for entry in benchmarks:
        _judge_equivalence(entry, doubts, second)
    _add_break_even(benchmarks, others)
    rank = {kind: position for position, kind in enumerate(schema.KINDS)}
    return sorted(
        [schema.finite(entry) for entry in others + benchmarks],
        key=lambda entry: (
            rank[entry["kind"]],
            entry["variant"] not in (BASELINE, None),
            str(entry["variant"]),
            str(entry["task"]),
            entry["batch"] or 0,
            entry["n_atoms"] or 0,
            str(entry["system"]),
        ),
    )


def merge_replicates(group: Sequence[Record]) -> Record:
    """One merged benchmark record from the replicates (fresh processes) of one measurement.

    If a replicate did not succeed, neither did the measurement: the merged record has the status and the reason of the
    failure, the numbers of the replicates that did finish, and no speed-up.
    """
    group = sorted(group, key=lambda entry: (entry.get("replicate") is None, entry.get("replicate") or 0))
    good = [entry for entry in group if entry["status"] == "ok" and entry.get("samples_ms")]
    bad = [entry for entry in group if entry["status"] != "ok"]
    first = (good or group)[0]
    merged = {key: value for key, value in first.items() if key not in REPLICATE_FIELDS}
    merged |= dict.fromkeys(SUMMARY_FIELDS)
    merged["replicates"] = len(good)
    if nodes := sorted({node for entry in good or group for node in entry.get("nodes") or []}):
        merged["nodes"] = nodes
    if bad:
        merged["status"] = "failed" if good or any(entry["status"] == "failed" for entry in bad) else "unavailable"
        reasons = list(dict.fromkeys(entry["reason"] for entry in bad))
        prefix = f"{len(bad)} of {len(group)} replicates did not finish: " if good else ""
        merged["reason"] = prefix + "; ".join(reasons)
    elif not good:
        merged["status"], merged["reason"] = "failed", "the job wrote no samples"
    if good:
        _summarize_samples(merged, good)
    return merged


def _disturbed(entry: Record) -> bool:
    """Whether others worked beside a replicate, as far as that can be seen in the time that its calls took."""
    cores = entry.get("others_cores") or 0.0
    taken = sum(sum(entry.get(name) or []) for name in ("samples_ms", "baseline_samples_ms", "bare_samples_ms")) / 1e3
    return cores > FEW_CORES and cores * taken > FEW_SECONDS


def _summarize_samples(merged: Record, good: Sequence[Record]) -> None:
    samples = [entry["samples_ms"] for entry in good]
    pooled = statistics.summarize([value for series in samples for value in series])
    merged |= {
        "n_samples": sum(map(len, samples)),
        "median_ms": pooled.median,
        "mean_ms": pooled.mean,
        "std_ms": pooled.std,
        "p95_ms": pooled.p95,
        "p99_ms": pooled.p99,
        # Noise is the spread within a process; that between processes is in the interval.
        "noisy": any(statistics.is_noisy(series) for series in samples),
    }
    beside = [entry["others_cores"] for entry in good if entry.get("others_cores") is not None]
    if beside:
        merged["others_cores"] = max(beside)
        # Alone is what is known of every replicate.
        alone = not any(map(_disturbed, good))
        merged["alone"] = None if alone and len(beside) < len(good) else alone
    for name in FIRST_CALL_FIELDS:
        if all(entry.get(name) for entry in good):
            merged[name] = median(entry[name] for entry in good)
    baselines = [entry.get("baseline_samples_ms") or [] for entry in good]
    compared = statistics.compare(samples, baselines if all(baselines) else samples)
    merged["median_ci95_ms"] = [compared.median.low, compared.median.high]
    if all(baselines):
        merged |= {
            "baseline_median_ms": compared.baseline_median.value,
            "baseline_median_ci95_ms": [compared.baseline_median.low, compared.baseline_median.high],
            "speedup": compared.speedup.value,
            "speedup_ci95": [compared.speedup.low, compared.speedup.high],
            "verdict": compared.speedup.verdict,
        }
    if all(entry.get("bare_samples_ms") for entry in good):
        ase = statistics.compare([entry["bare_samples_ms"] for entry in good], samples)
        merged |= {
            "bare_median_ms": ase.median.value,
            "bare_median_ci95_ms": [ase.median.low, ase.median.high],
            "ase_ratio": ase.speedup.value,
            "ase_ratio_ci95": [ase.speedup.low, ase.speedup.high],
        }
    if merged["n_atoms"] and merged["task"] != "neighbors":
        steps_per_s = 1000 / pooled.median
        merged |= {"steps_per_s": steps_per_s, "atoms_per_s": steps_per_s * merged["n_atoms"]}


def _force_ratio(both: Sequence[Record], energy: Sequence[Record]) -> Record:
    """What forces cost: from the replicates that timed both tasks, as fields; empty where none did."""
    alone = {entry.get("replicate"): entry["samples_ms"] for entry in energy if entry.get("samples_ms")}
    pairs = [
        (alone[entry.get("replicate")], entry["samples_ms"])
        for entry in both
        if entry.get("samples_ms") and entry.get("replicate") in alone
    ]
    if not pairs or len(pairs) < len(both):
        return {}
    ratio = statistics.compare(*map(list, zip(*pairs, strict=True))).speedup
    return {"force_ratio": ratio.value, "force_ratio_ci95": [ratio.low, ratio.high]}


def equivalence_failures(entries: Iterable[Record]) -> dict[tuple[str, str], str | None]:
    """For each (variant, device) that was checked: null when equivalent on every system, else the first failure."""
    verdicts: dict[tuple[str, str], str | None] = {}
    for entry in entries:
        if entry["kind"] != "equivalence" or entry.get("another_network") or refuses(entry):
            continue
        key = (entry["variant"], entry["device"])
        failed = None
        if entry["status"] != "ok" or not entry.get("equivalent"):
            failed = equivalence_reason(entry)
        verdicts[key] = verdicts.get(key) or failed
    return verdicts


def _judge_equivalence(entry: Record, doubts: dict[tuple[str, str], str | None], second: set[tuple[str, str]]) -> None:
    if entry["variant"] == TEACHER:
        return
    if entry.get("another_network"):
        # Another network: its time can be shown, but is no speed-up of the student.
        entry |= {"equivalent": None, "speedup": None, "speedup_ci95": None, "verdict": None}
        return
    key = (entry["variant"], entry["device"])
    # The baseline sets the tolerance, so it needs no record of its own; one that says it failed still counts.
    reason = doubts.get(key, None if entry["variant"] == BASELINE else "equivalence was not checked in this run")
    entry["equivalent"] = reason is None
    if entry["status"] == "ok" and reason and key not in second:
        entry["status"], entry["reason"] = "failed", reason
    if entry["status"] != "ok":
        entry |= {"speedup": None, "speedup_ci95": None, "verdict": None, "atoms_per_s": None, "steps_per_s": None}


def _add_break_even(benchmarks: list[Record], others: list[Record]) -> None:
    compile_s = {
        (entry["variant"], entry["device"]): entry.get("compile_s")
        for entry in others
        if entry["kind"] == "compile" and entry["status"] == "ok"
    }
    for entry in benchmarks:
        seconds = compile_s.get((entry["variant"], entry["device"]))
        if seconds is None or entry["task"] != "energy_forces" or entry["speedup"] is None:
            continue
        entry["compile_s"] = seconds
        if entry["verdict"] == "faster":
            saving_ms = entry["baseline_median_ms"] - entry["median_ms"]
            entry["break_even_steps"] = math.ceil(seconds * 1000 / saving_ms)


def to_table(entries: Iterable[Record]) -> Any:
    """A flat :class:`pandas.DataFrame`, one row per record.

    Intervals become two columns, curves are left out, anything else that is nested becomes JSON text.
    """
    import pandas

    return pandas.DataFrame([_flat(entry) for entry in entries]).convert_dtypes()


def _flat(entry: Record) -> Record:
    row: Record = {}
    for key, value in entry.items():
        if key.endswith(("_ci95", "_ci95_ms")):
            low, high = value or (None, None)
            row |= {f"{key}_low": low, f"{key}_high": high}
        elif key not in SERIES:
            row[key] = json.dumps(value) if isinstance(value, dict | list) else value
    return row


def _other_student(entry: Record, student: str | None) -> str | None:
    found = entry.get("checkpoint_sha256")
    if student is None or found in (student, None):
        return None
    return f"measured with another student ({found[:10]}, this run's is {student[:10]}); run the stage again"


def _merge_provenance(
    origins: list[dict[str, Any]], left_out: list[dict[str, str]], merged: list[Record], student: str | None
) -> dict[str, Any]:
    # Cores and memory are what a job was given; processor and GPUs tell machines apart.
    machines = list(
        {json.dumps([m.get(key) for key in ("cpu", "architecture", "gpus")]): m for m in _machines(origins)}.values()
    )
    commits = _distinct((origin.get("git") or {}).get("commit") for origin in origins)
    packages: dict[str, list[str]] = {}
    for origin in origins:
        for name, version in (origin.get("packages") or {}).items():
            if version and version not in packages.setdefault(name, []):
                packages[name].append(version)
    times = sorted(origin["time_utc"] for origin in origins if origin.get("time_utc"))
    dirty = any((origin.get("git") or {}).get("dirty") for origin in origins)
    warnings = [
        f"records of {len(found)} different {what} are mixed: compare speed-ups, not times"
        for what, found in (("machines", machines), ("versions of torch", packages.get("torch", [])))
        if len(found) > 1
    ]
    warnings += _warnings_about_nodes(merged)
    if len(commits) > 1:
        warnings.append(f"records of {len(commits)} commits are mixed: {', '.join(c[:10] for c in commits)}")
    if dirty:
        warnings.append("made from a checkout with changes that were not committed")
    if left_out:
        names = list(dict.fromkeys(e["file"] for e in left_out))
        more = ", ..." if len(names) > 5 else ""
        warnings.append(f"{len(left_out)} inputs left out: {', '.join(names[:5])}{more}")
    counts: dict[str, int] = {}
    for entry in merged:
        counts[entry["kind"]] = counts.get(entry["kind"], 0) + 1
    return {
        "schema_version": schema.SCHEMA_VERSION,
        "machines": machines,
        "batch_systems": sorted({job["system"] for job in map(_batch_job, origins) if job.get("system")}),
        "nodes": sorted({job["node"] for job in map(_batch_job, origins) if job.get("node")}),
        "os": _distinct(origin.get("os") for origin in origins),
        "python": _distinct(origin.get("python") for origin in origins),
        "packages": packages,
        "commits": commits,
        "dirty": dirty,
        "measured_utc": [times[0], times[-1]] if times else None,
        "merged_by": provenance.collect(),
        "student_sha256": student,
        "files": len(origins),
        "counts": counts,
        "left_out": left_out,
        "warnings": warnings,
    }


def _batch_job(origin: dict[str, Any]) -> dict[str, Any]:
    """Of what wrote the records; empty without a batch system and in older records."""
    return origin.get("batch_job") or {}


def _warnings_about_nodes(merged: Sequence[Record]) -> list[str]:
    """What to mind when timings come from more than one node; empty otherwise."""
    timed = [entry for entry in merged if entry["kind"] == "benchmark" and entry["status"] == "ok"]
    nodes = sorted({node for entry in timed for node in entry.get("nodes") or []})
    if len(nodes) < 2:
        return []
    spread = sum(len(entry.get("nodes") or []) > 1 for entry in timed)
    which = ", ".join(nodes[:5]) + (", ..." if len(nodes) > 5 else "")
    repeated = f", {spread} of {len(timed)} repeated on more than one of them" if spread else ""
    return [f"timed on {len(nodes)} nodes ({which}){repeated}: compare speed-ups, not times"]


def _machines(origins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((o["machine"] for o in origins if o.get("machine")), key=lambda machine: machine.get("cores") or 0)


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({json.dumps(value, sort_keys=True): value for value in values if value}.values())
