"""Decision gates: thresholds from the configuration, compared with the records.

Settings, as in the configuration's ``gates`` section::

    week_1: {energy_speedup: 3.0}
    week_2: {force_speedup: 3.0, energy_forces_speedup: 3.0, md_passes: true}
    project: {energy_forces_speedup: 5.0}

A gate passes when all its measures pass. A measure passes when its whole interval lies at or above the threshold. A
measure without a value fails, or is "not measured" if the run has no such records at all.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlff_distiller.records.outcome import FAILED, TOO_SHORT
from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.wording import interval
from mlff_distiller.utils.errors import UserError, nearest


@dataclass(frozen=True)
class Finding:
    """One measure of a gate: its threshold, and what was found (text for the report)."""

    measure: str
    threshold: float | bool
    passed: bool
    variant: str | None
    found: str
    measured: bool = True

    @property
    def decision(self) -> str:
        """``passed``, ``failed`` or ``not measured``."""
        return "passed" if self.passed else "failed" if self.measured else "not measured"


@dataclass(frozen=True)
class Gate:
    """One gate and the findings that decide it."""

    name: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every measure passed; a gate without measures fails."""
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    @property
    def decision(self) -> str:
        """``passed``, ``failed`` (at least one measure failed) or ``not measured``."""
        found = {finding.decision for finding in self.findings}
        return "passed" if self.passed else "failed" if "failed" in found or not found else "not measured"

    @property
    def title(self) -> str:
        """The gate's name in the report."""
        return self.name.replace("_", " ").capitalize()


def decide(settings: Mapping[str, Mapping[str, Any]], run: Run) -> list[Gate]:
    """Every gate in ``settings``, decided from the records of ``run``.

    Raises:
        UserError: an unknown measure, or a threshold of the wrong type.
    """
    return [
        Gate(
            name,
            tuple(
                _judge(f"gates: {name}", measure, threshold, run)
                for measure, threshold in measures.items()
                if threshold is not False  # md_passes: false asks for nothing
            ),
        )
        for name, measures in settings.items()
    ]


def _judge(where: str, measure: str, threshold: Any, run: Run) -> Finding:
    if measure not in MEASURES:
        raise UserError(f"{where}: unknown measure {measure!r}{nearest(measure, MEASURES)}")
    wanted = bool if measure == "md_passes" else (int, float)
    if not isinstance(threshold, wanted) or (wanted is not bool and isinstance(threshold, bool)):
        kind = "true or false" if wanted is bool else "a number"
        raise UserError(f"{where}: {measure} must be {kind}, not {threshold!r}")
    variant, value = MEASURES[measure](run)
    if value is None and not _was_made(measure, run):
        return Finding(measure, threshold, False, variant, "not measured in this run", measured=False)
    if value is None:
        return Finding(measure, threshold, False, variant, "no figure" if variant else "no variant that may be used")
    if isinstance(value, str):
        return Finding(measure, threshold, value.startswith("passed"), variant, f"MD {value}")
    if value.low >= threshold:
        return Finding(measure, threshold, True, variant, interval(value))
    shortfall = "; the interval reaches below" if value.value >= threshold else ""
    return Finding(measure, threshold, False, variant, interval(value) + shortfall)


def _was_made(measure: str, run: Run) -> bool:
    """Whether the run has any record of the tasks of a measure."""
    if measure == "md_passes":
        return bool(run.of("md"))
    return TIMED[measure] <= {entry["task"] for entry in run.timings()}


def _best(task: str) -> Callable[[Run], tuple[str | None, Ratio | None]]:
    def measure(run: Run) -> tuple[str | None, Ratio | None]:
        # Without a winner, take the fastest variant that did not fail MD: it shows how far the gate is missed.
        rest = (entry for entry in run.proven(task) if run.md(entry[0]) != FAILED)
        return run.winner(task) or next(rest, (None, None))

    return measure


def _force_speedup(run: Run) -> tuple[str | None, Ratio | None]:
    """Speed-up of the forces alone (time of energy + forces minus time of energy), summed over the systems."""
    winner, _ = _best("energy_forces")(run)
    if winner is None:
        return None, None
    ours, eager = run.force_time(winner), run.force_time(winner, baseline=True)
    if not ours:
        return winner, None
    # A difference of medians can be zero or negative if the forces cost little; the speed-up then has only a lower bound.
    (value, low, high), (base, base_low, base_high) = (
        tuple(max(sum(cost[i] for cost in costs.values()), 0.0) for i in range(3)) for costs in (ours, eager)
    )
    return winner, Ratio(_over(base, value), _over(base_low, high), _over(base_high, low))


def _over(one: float, other: float) -> float:
    return one / other if other > 0.0 else math.inf


def _md(run: Run) -> tuple[str | None, str | None]:
    winner, _ = _best("energy_forces")(run)
    if winner is not None or run.timings():
        verdict = None if winner is None else run.md(winner)
        return winner, None if verdict in ("not run", TOO_SHORT) else verdict
    # Without timings there is no winner: judge all equivalent variants together.
    verdicts = [run.md(name) for name in run.equivalent]
    if "passed" not in verdicts:
        return None, "failed" if "failed" in verdicts else None
    if all(verdict == "passed" for verdict in verdicts):
        return None, f"passed with all {len(verdicts)} variants equivalent to the student"
    return None, f"failed: passed with {verdicts.count('passed')} of {len(verdicts)} variants equivalent to the student"


#: Measure -> function of the run that returns (variant, value); the value is None if the run does not have it.
MEASURES: dict[str, Callable[[Run], tuple[str | None, Any]]] = {
    "energy_speedup": _best("energy"),
    "energy_forces_speedup": _best("energy_forces"),
    "force_speedup": _force_speedup,
    "md_passes": _md,
}
#: Measure of speed -> the tasks that must have been timed for it.
TIMED = {
    "energy_speedup": {"energy"},
    "energy_forces_speedup": {"energy_forces"},
    "force_speedup": {"energy", "energy_forces"},
}
#: Measure -> the condition as text for the report.
STATEMENTS = {
    "energy_speedup": "energy alone: speed-up over eager at least",
    "energy_forces_speedup": "energy + forces: speed-up over eager at least",
    "force_speedup": "forces alone (energy + forces minus energy): speed-up over eager at least",
    "md_passes": "MD validation passes",
}
