"""Compares another report's claims with this run: confirmed, exceeded, refuted, undecided, or not testable here, and why.

Each claim in a file of claims (``config/claims.yaml``) has an ``id``, the ``statement``, the ``number`` as its source
prints it, the machine that is needed to judge it (``needs``), and the ``rule``: one measure of :data:`MEASURES`, the range
that confirms the claim, and what it takes to be sure (``by``). What the run does not have, or another machine would have to
show, is "not testable here"; what was measured but not sharply enough is "undecided".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlff_distiller.decisions.causes import EVIDENCE, evidence
from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio, ratio_of
from mlff_distiller.records.vocabulary import BASELINE, SCALING_TASKS, TASKS
from mlff_distiller.records.wording import few_processes
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.settings import refuse_unknown

#: Keys of a row of the source's table; times in ms, null where the source gives none.
TABLE_KEYS = ("label", "variant", "source_ms", "source_speedup", "source_note")

CONFIRMED, EXCEEDED, REFUTED = "confirmed", "exceeded", "refuted"
UNDECIDED, NOT_TESTABLE = "undecided", "not testable here"
#: How a range is judged. ``value``: a number of the source is reproduced when the measured value lies in the range.
#: ``interval``: the whole interval must, as for every range that is open on one side and for claims that two things are equal.
#: ``projection``: as ``value``, and what lies above the range wholly exceeds it.
WAYS = ("value", "interval", "projection")


@dataclass(frozen=True)
class Verdict:
    """The verdict on one claim; ``measured``, ``why`` and ``evidence`` are text for the report."""

    id: str
    statement: str
    number: str
    verdict: str
    measured: str
    why: str
    evidence: str = ""


def load(path: str | Path) -> dict[str, Any]:
    """The claims in the YAML file at ``path``: ``{"source", "hardware", "claims": [...], "table": [...]}``.

    ``table`` (optional) is the source's own table of results, one row per configuration.

    Raises:
        UserError: missing or damaged file, a claim that lacks a key, an unknown measure or condition.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file of claims") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("claims"), list):
        raise UserError(f"{path}: expected a mapping with 'source', 'hardware' and a list 'claims'")
    for position, claim in enumerate(document["claims"]):
        _check(f"{path}: claim {claim.get('id', position) if isinstance(claim, dict) else position}", claim)
    for position, row in enumerate(document.get("table") or []):
        if not isinstance(row, dict) or set(row) != set(TABLE_KEYS):
            raise UserError(f"{path}: table: row {position} must have exactly the keys {', '.join(TABLE_KEYS)}")
    return document


def judge(document: Mapping[str, Any], run: Run, machines: list[Mapping[str, Any]]) -> list[Verdict]:
    """A verdict on every claim of ``document`` (as :func:`load` returns it) from the records of ``run``.

    Args:
        machines: the machines the run was measured on, as in the provenance of the merged results.
    """
    return [_judge(claim, run, machines) for claim in document["claims"]]


def _judge(claim: Mapping[str, Any], run: Run, machines: list[Mapping[str, Any]]) -> Verdict:
    rule = claim["rule"]
    value, missing = MEASURES[rule["measure"]](run, rule)
    unit = rule.get("unit", "×")
    measured = "-" if value is None else _shown(value, unit, rule["measure"])
    found = evidence(claim.get("evidence") or [], run, rule.get("variant", "*"))

    def verdict(word: str, why: str) -> Verdict:
        return Verdict(claim["id"], claim["statement"], str(claim.get("number") or "-"), word, measured, why, found)

    if unmet := _unmet(claim.get("needs") or {}, run, machines):
        return verdict(NOT_TESTABLE, unmet)
    if value is None:
        return verdict(NOT_TESTABLE, missing)
    return verdict(*_decided(value, rule))


def _shown(value: Ratio, unit: str, measure: str) -> str:
    text = f"{value.value:.3g}{unit}"
    if value.low == value.high:
        return text
    if not value.certain:
        return f"{text}{few_processes(value)}"
    low, high = f"{value.low:.3g}", f"{value.high:.3g}"
    return (
        f"{text} ({low} to {high} over the {SPREADS[measure]})"
        if measure in SPREADS
        else f"{text}\u00a0[{low},\u00a0{high}]"
    )


def _decided(value: Ratio, rule: Mapping[str, Any]) -> tuple[str, str]:
    """The verdict on a measured value and why, in words."""
    low, high, wanted = rule.get("at_least", 0.0), rule.get("at_most", float("inf")), _range(rule)
    by = rule.get("by", "value" if {"at_least", "at_most"} <= rule.keys() else "interval")
    if value.low > high:
        return (EXCEEDED, f"lies above {wanted}") if by == "projection" else (REFUTED, f"lies above {wanted}")
    if value.high < low:
        return REFUTED, f"lies below {wanted}"
    if by == "interval":
        if low <= value.low <= value.high <= high:
            return CONFIRMED, f"is {wanted}"
        among = SPREADS.get(rule["measure"])
        what = f"it holds for some {among} only" if among else "the interval reaches beyond it"
        return UNDECIDED, f"{wanted} is claimed, and {what}"
    if low <= value.value <= high:
        return CONFIRMED, f"lies within {wanted}"
    return UNDECIDED, f"the value lies outside {wanted}, but the interval reaches into it"


def _range(rule: Mapping[str, Any]) -> str:
    unit = rule.get("unit", "×")
    if "at_least" in rule and "at_most" in rule:
        return f"{rule['at_least']:g} to {rule['at_most']:g}{unit}"
    return f"at least {rule['at_least']:g}{unit}" if "at_least" in rule else f"at most {rule['at_most']:g}{unit}"


def _unmet(needs: Mapping[str, str], run: Run, machines: list[Mapping[str, Any]]) -> str | None:
    gpus = sorted({gpu for machine in machines for gpu in machine.get("gpus") or []})
    if "device" in needs and not str(run.device).startswith(needs["device"]):
        return f"the claim is about {needs['device'].upper()}; this run measured on {str(run.device).upper()}"
    if "gpu" in needs and not any(needs["gpu"].lower() in gpu.lower() for gpu in gpus):
        return f"an absolute time, most likely on one {needs['gpu']}; this machine: {', '.join(gpus) or 'no GPU'}"
    return None


Measured = tuple[Ratio | None, str]


def _mean_time(run: Run, rule: Mapping[str, Any]) -> Measured:
    value = run.arithmetic_mean_time(rule["variant"], rule["task"])
    return value, _lacking(run, rule["variant"], rule["task"])


def _speedup(run: Run, rule: Mapping[str, Any]) -> Measured:
    found = run.ranking(rule["task"], rule["variant"])
    return (found[0][1], "") if found else (None, _lacking(run, rule["variant"], rule["task"]))


def _speedup_over(run: Run, rule: Mapping[str, Any]) -> Measured:
    """From the times of both, or from their speed-ups over eager: whichever is known better."""
    chosen = [run.ranking(rule["task"], pattern) for pattern in (rule["variant"], rule["over"])]
    for found, pattern in zip(chosen, (rule["variant"], rule["over"]), strict=True):
        if not found:
            return None, _lacking(run, pattern, rule["task"])
    (name, ours), (other, theirs) = (found[0] for found in chosen)
    ratios = [ratio_of(ours, theirs)]
    times = run.mean_time(name, rule["task"]), run.mean_time(other, rule["task"])
    if times[0] is not None and times[1] is not None:
        ratios.append(ratio_of(times[1], times[0]))
    return min(ratios, key=lambda ratio: ratio.log_error), ""


def _force_ratio(run: Run, rule: Mapping[str, Any]) -> Measured:
    for task in TASKS:
        if not run.times(rule["variant"], task):
            return None, _lacking(run, rule["variant"], task)
    return run.force_ratio(rule["variant"]), ""


def _throughput_gain(run: Run, rule: Mapping[str, Any]) -> Measured:
    """The largest ratio of atoms per second in a batch to those of one molecule, of one variant and system."""
    # Where the baseline is no variant of its own in batches, its times stand beside those of the variants.
    own = run.of("benchmark", variant=rule["variant"], task=rule["task"], status="ok")
    prefix = "baseline_" if rule["variant"] == BASELINE and not own else ""
    timed = own or [e for e in run.of("benchmark", task=rule["task"]) if e.get(f"{prefix}median_ms")]
    best: Ratio | None = None
    for entry in timed:
        alone = next(
            (e for e in timed if (e["variant"], e["system"], e["batch"]) == (entry["variant"], entry["system"], 1)),
            None,
        )
        if (entry["batch"] or 1) == 1 or alone is None:
            continue
        batched, single = (Ratio.of(e, f"{prefix}median_ms") for e in (entry, alone))
        ratio = ratio_of(single, batched)
        value, low, high = (bound * entry["batch"] for bound in (ratio.value, ratio.low, ratio.high))
        gain = Ratio(value, low, high, ratio.processes)
        best = gain if best is None or gain.value > best.value else best
    return best, f"this run timed no batches of more than one molecule with {rule['variant']}"


def _field(run: Run, rule: Mapping[str, Any]) -> Measured:
    values = [
        entry[rule["field"]]
        for entry in run.of("benchmark", variant=rule["variant"], task=rule["task"], batch=1)
        if isinstance(entry.get(rule["field"]), int | float)
        and (entry["n_atoms"] or 0) <= rule.get("max_atoms", float("inf"))
    ]
    if not values:
        return None, f"this run did not measure {rule['field'].replace('_', ' ')}"
    return Ratio(sum(values) / len(values), min(values), max(values)), ""


def _kernels_over(run: Run, rule: Mapping[str, Any]) -> Measured:
    """Kernels of one call of ``variant`` over those of ``over``, mean and range over the molecules that both ran."""
    counts = [
        {
            e["system"]: e["n_kernels"]
            for e in run.of("benchmark", variant=name, task=rule["task"], batch=1)
            if e.get("n_kernels")
        }
        for name in (rule["variant"], rule["over"])
    ]
    ratios = [counts[0][system] / counts[1][system] for system in counts[0] if system in counts[1]]
    if not ratios:
        return None, f"this run did not count the kernels of {rule['variant']} and {rule['over']}"
    return Ratio(sum(ratios) / len(ratios), min(ratios), max(ratios)), ""


def _copy_rate_share(run: Run, rule: Mapping[str, Any]) -> Measured:
    """The memory traffic that one molecule needs by formula, over what a copy moves in the time of the call, percent."""
    rates = [e["ceilings"]["copy_gb_per_s"] for e in run.of("profile", status="ok") if e.get("ceilings")]
    # Where the baseline is no variant of its own in batches, its times stand beside those of the variants.
    timed = [e for e in run.of("benchmark", task="throughput", batch=1) if e.get("mbyte")]
    own = [(e, e["median_ms"]) for e in timed if e["variant"] == rule["variant"] and e.get("median_ms")]
    if rule["variant"] == BASELINE and not own:
        own = [(e, e["baseline_median_ms"]) for e in timed if e.get("baseline_median_ms")]
    if not rates or not own:
        return None, f"this run has no roofline of one molecule with {rule['variant']}"
    # MB per ms are GB per s.
    shares = [100 * entry["mbyte"] / ms / rate for entry, ms in own for rate in rates]
    return Ratio(sum(shares) / len(shares), min(shares), max(shares)), ""


def _build_minutes(run: Run, rule: Mapping[str, Any]) -> Measured:
    """How long torch-cluster took to build from source, in minutes."""
    seconds = next((e["build_s"] for e in run.of("torch_cluster") if e.get("build_s")), None)
    if seconds is None:
        return None, "this run did not build torch-cluster from source"
    return Ratio(seconds / 60, seconds / 60, seconds / 60), ""


def _lacking(run: Run, pattern: str, task: str) -> str:
    problems = run.problems()
    if pattern in problems:
        status, reason = problems[pattern]
        return f"{pattern} {'is unavailable' if status == 'unavailable' else 'failed'}: {reason}"
    what = "no variant" if "*" in pattern else f"no {pattern}"
    return f"{what} timed on {task.replace('_', ' + ')} here" + (f" matches {pattern}" if "*" in pattern else "")


#: Optional keys of a rule: those of all measures (under ""), and those of one measure.
_OPTIONAL = {"": ("measure", "at_least", "at_most", "by", "unit"), "field": ("max_atoms",)}
#: Measure -> (function of run and rule, the keys its rule must have).
_RULES: dict[str, tuple[Callable[[Run, Mapping[str, Any]], Measured], tuple[str, ...]]] = {
    "mean_time": (_mean_time, ("variant", "task")),
    "speedup": (_speedup, ("variant", "task")),
    "speedup_over": (_speedup_over, ("variant", "over", "task")),
    "force_ratio": (_force_ratio, ("variant",)),
    "throughput_gain": (_throughput_gain, ("variant", "task")),
    "field": (_field, ("field", "variant", "task")),
    "kernels_over": (_kernels_over, ("variant", "over", "task")),
    "copy_rate_share": (_copy_rate_share, ("variant",)),
    "build_minutes": (_build_minutes, ()),
}
#: Measures whose bounds are the least and the most of something, not a confidence interval; and of what.
SPREADS = {"field": "molecules", "kernels_over": "molecules", "copy_rate_share": "measurements"}
MEASURES = {name: function for name, (function, _) in _RULES.items()}


def _check(where: str, claim: Any) -> None:
    if not isinstance(claim, dict):
        raise UserError(f"{where}: expected a mapping")
    known = ("id", "statement", "number", "needs", "rule", "chart", "evidence")
    refuse_unknown(claim, known, where)
    for key in ("id", "statement", "rule"):
        if not claim.get(key):
            raise UserError(f"{where}: {key!r} is missing")
    for key in claim.get("needs") or {}:
        if key not in ("device", "gpu"):
            raise UserError(f"{where}: needs: unknown condition {key!r}{nearest(key, ('device', 'gpu'))}")
    rule = claim["rule"]
    measure = rule.get("measure") if isinstance(rule, dict) else None
    if measure not in _RULES:
        raise UserError(f"{where}: rule: unknown measure {measure!r}{nearest(str(measure), _RULES)}")
    wanted = _RULES[measure][1]
    allowed = (*wanted, *_OPTIONAL[""], *_OPTIONAL.get(measure, ()))
    for key in rule:
        if key not in allowed:
            raise UserError(f"{where}: rule: {measure} has no {key!r}{nearest(key, allowed)}")
    for key in wanted:
        if key not in rule:
            raise UserError(f"{where}: rule: {measure} needs {key!r}")
    tasks = (*TASKS, *SCALING_TASKS)
    if rule.get("task", "energy") not in tasks:
        raise UserError(f"{where}: rule: unknown task {rule['task']!r}{nearest(rule['task'], tasks)}")
    for word in claim.get("evidence") or []:
        if word not in EVIDENCE:
            raise UserError(f"{where}: evidence: unknown word {word!r}{nearest(word, EVIDENCE)}")
    chart = claim.get("chart")
    if chart is not None and not (
        isinstance(chart, dict) and {"low", "high"} <= chart.keys() <= {"low", "high", "variant"}
    ):
        raise UserError(f"{where}: chart: must have low and high, may have variant")
    if rule.get("by", WAYS[0]) not in WAYS:
        raise UserError(f"{where}: rule: by: cannot be {rule['by']!r}{nearest(str(rule['by']), WAYS)}")
    if rule.get("by") == "projection" and "at_most" not in rule:
        raise UserError(f"{where}: rule: a projection needs at_most, beyond which it is exceeded")
    if not {"at_least", "at_most"} & rule.keys():
        raise UserError(f"{where}: rule: give at_least, at_most or both, the range that confirms the claim")
