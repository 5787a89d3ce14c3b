"""Compares another report's claims with this run: confirmed, refuted, or not testable here and why.

Each claim in a file of claims (``config/claims.yaml``) has an ``id``, the ``statement``, the ``number`` as its source
prints it, the machine that is needed to judge it (``needs``), and the ``rule``: one measure of :data:`MEASURES` and the
range that confirms the claim.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlff_distiller.decisions.causes import EVIDENCE, evidence
from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio, ratio_of
from mlff_distiller.records.vocabulary import SCALING_TASKS, TASKS
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.settings import refuse_unknown

#: Keys of a row of the source's table; times in ms, null where the source gives none.
TABLE_KEYS = ("label", "variant", "source_ms", "source_speedup", "source_note")

CONFIRMED, REFUTED, NOT_TESTABLE = "confirmed", "refuted", "not testable here"


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
    measured = "-" if value is None else f"{value.value:.3g}{unit}\u00a0[{value.low:.3g},\u00a0{value.high:.3g}]"
    found = evidence(claim.get("evidence") or [], run, rule.get("variant", "*"))

    def verdict(word: str, why: str) -> Verdict:
        return Verdict(claim["id"], claim["statement"], str(claim.get("number") or "-"), word, measured, why, found)

    if unmet := _unmet(claim.get("needs") or {}, run, machines):
        return verdict(NOT_TESTABLE, unmet)
    if value is None:
        return verdict(NOT_TESTABLE, missing)
    low, high = rule.get("at_least", 0.0), rule.get("at_most", float("inf"))
    wanted = _range(rule)
    if value.high < low or value.low > high:
        return verdict(REFUTED, f"the interval lies outside {wanted}")
    # A number is reproduced when the measured value is in the range; a bound must hold for the whole interval.
    both = "at_least" in rule and "at_most" in rule
    if low <= value.value <= high and (both or low <= value.low <= value.high <= high):
        return verdict(CONFIRMED, f"lies within {wanted}" if both else f"is {wanted}")
    return verdict(NOT_TESTABLE, f"not decided: the interval reaches across the edge of {wanted}")


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
        return f"an absolute time on one {needs['gpu']}; this machine: {', '.join(gpus) or 'no GPU'}"
    return None


Measured = tuple[Ratio | None, str]


def _mean_time(run: Run, rule: Mapping[str, Any]) -> Measured:
    value = run.arithmetic_mean_time(rule["variant"], rule["task"])
    return value, _lacking(run, rule["variant"], rule["task"])


def _speedup(run: Run, rule: Mapping[str, Any]) -> Measured:
    found = run.ranking(rule["task"], rule["variant"])
    return (found[0][1], "") if found else (None, _lacking(run, rule["variant"], rule["task"]))


def _speedup_over(run: Run, rule: Mapping[str, Any]) -> Measured:
    ours, why = _speedup(run, rule)
    theirs, why_not = _speedup(run, {**rule, "variant": rule["over"]})
    return (None, why or why_not) if ours is None or theirs is None else (ratio_of(ours, theirs), "")


def _force_ratio(run: Run, rule: Mapping[str, Any]) -> Measured:
    for task in TASKS:
        if not run.times(rule["variant"], task):
            return None, _lacking(run, rule["variant"], task)
    return run.force_ratio(rule["variant"]), ""


def _throughput_gain(run: Run, rule: Mapping[str, Any]) -> Measured:
    """The largest ratio of atoms per second in a batch to those of one molecule, of the same variant and system."""
    best: Ratio | None = None
    for entry in run.of("benchmark", task=rule["task"], status="ok"):
        singles = run.of("benchmark", variant=entry["variant"], task=rule["task"], system=entry["system"], batch=1)
        alone = next(iter(singles), None)
        if (entry["batch"] or 1) > 1 and alone and alone["status"] == "ok":
            batched, single = (Ratio(e["median_ms"], *e["median_ci95_ms"]) for e in (entry, alone))
            ratio = ratio_of(single, batched)
            gain = Ratio(*(bound * entry["batch"] for bound in (ratio.value, ratio.low, ratio.high)))
            best = gain if best is None or gain.value > best.value else best
    return best, "this run timed no batches of more than one molecule"


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


def _lacking(run: Run, pattern: str, task: str) -> str:
    problems = run.problems()
    if pattern in problems:
        status, reason = problems[pattern]
        return f"{pattern} {'is unavailable' if status == 'unavailable' else 'failed'}: {reason}"
    what = "no variant" if "*" in pattern else f"no {pattern}"
    return f"{what} timed on {task.replace('_', ' + ')} here" + (f" matches {pattern}" if "*" in pattern else "")


#: Optional keys of a rule: those of all measures (under ""), and those of one measure.
_OPTIONAL = {"": ("measure", "at_least", "at_most", "unit"), "field": ("max_atoms",)}
#: Measure -> (function of run and rule, the keys its rule must have).
_RULES: dict[str, tuple[Callable[[Run, Mapping[str, Any]], Measured], tuple[str, ...]]] = {
    "mean_time": (_mean_time, ("variant", "task")),
    "speedup": (_speedup, ("variant", "task")),
    "speedup_over": (_speedup_over, ("variant", "over", "task")),
    "force_ratio": (_force_ratio, ("variant",)),
    "throughput_gain": (_throughput_gain, ("task",)),
    "field": (_field, ("field", "variant", "task")),
}
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
    if not {"at_least", "at_most"} & rule.keys():
        raise UserError(f"{where}: rule: give at_least, at_most or both, the range that confirms the claim")
