"""Chooses the variant to deploy: for each kind of work the fastest that is equivalent to the student and passed MD.

Where intervals overlap, the more precise variant is preferred.
"""

from dataclasses import dataclass, field
from typing import Any

from mlff_distiller.records.outcome import PASSED, TOO_SHORT
from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio, geometric_mean
from mlff_distiller.records.vocabulary import BASELINE, TASKS, WORK
from mlff_distiller.records.wording import WORK_CONTENTS

#: Share of the points at which a variant must have been timed. How many of the largest batches and boxes eager finishes
#: within the time limit varies between runs; single molecules must all be there.
COVERAGE = {"one_molecule": 1.0, "many_molecules": 0.75, "large_systems": 0.75}
#: (system, batch size, number of atoms): identifies one measurement of a task, the same for all variants.
Point = tuple[str | None, int | None, int | None]


@dataclass(frozen=True)
class Choice:
    """The variant chosen for one kind of work, or the reason why none is.

    ``speedups`` holds each measurement of the chosen variant; ``passed_over`` maps faster variants to the reason why they
    were not chosen.
    """

    work: str
    variant: str | None
    speedup: Ratio | None
    speedups: dict[Point, Ratio]
    reason: str
    passed_over: dict[str, str] = field(default_factory=dict)


def choose(run: Run, work: str) -> Choice:
    """The variant for ``work`` (a key of :data:`~mlff_distiller.records.vocabulary.WORK`), from the records of ``run``.

    Only equivalent variants have speed-ups. A variant is a candidate if it has a speed-up at enough of the points at which
    any variant has one (:data:`COVERAGE`). Candidates are compared at the points that all of them have. The fastest by
    geometric mean wins if its interval lies above 1 and its MD passed; of several whose intervals overlap the most precise.
    """
    task = WORK[work]
    found = {name: _speedups(run, name, task) for name in run.variants}
    points = set().union(*found.values())
    found.pop(BASELINE, None)
    found = {name: own for name, own in found.items() if own and len(own) >= COVERAGE[work] * len(points)}
    if not found:
        return Choice(work, None, None, {}, _nothing_measured(run, work))
    shared = set.intersection(*map(set, found.values())) or points
    speedups = {name: {point: ratio for point, ratio in own.items() if point in shared} for name, own in found.items()}
    ranking = sorted(
        ((name, geometric_mean(list(own.values()))) for name, own in speedups.items()),
        key=lambda entry: -entry[1].value,
    )
    faster = [
        (name, ratio) for name, ratio in ranking if ratio.verdict == "faster" and run.equivalence(name) == "passed"
    ]
    sound = [(name, ratio) for name, ratio in faster if run.md(name) == PASSED]
    passed_over = {
        name: f"is {ratio} times as fast, but MD {'is ' if run.md(name) == TOO_SHORT else ''}{run.md(name)}"
        for name, ratio in faster
        if run.md(name) != PASSED and (not sound or ratio.value > sound[0][1].value)
    }
    if sound:
        # Eager is timed anew beside every variant: where molecules were timed one at a time, compare times.
        reach = [entry for entry in sound if entry[1].high >= sound[0][1].low]
        level = run.level_with_fastest(sound, task) if task in TASKS else reach
        name, ratio = run.best(level) or sound[0]
        return Choice(work, name, ratio, speedups[name], "", passed_over)
    if passed_over:
        reasons = "; ".join(f"{name} {reason}" for name, reason in passed_over.items())
        return Choice(work, None, None, {}, f"no variant that is faster than eager passed MD: {reasons}", passed_over)
    name, ratio = ranking[0]
    return Choice(
        work,
        None,
        None,
        {},
        f"no variant is shown to be faster than eager; the best is {name} at {ratio} times its speed",
    )


def _speedups(run: Run, variant: str, task: str) -> dict[Point, Ratio]:
    if task in TASKS:
        return {(system, 1, run.systems[system]): ratio for system, ratio in run.speedups(variant, task).items()}
    return {
        (entry["system"], entry["batch"], entry["n_atoms"]): Ratio.of(entry, "speedup")
        for entry in run.of("benchmark", variant=variant, task=task)
        if entry.get("speedup") is not None and entry.get("speedup_ci95")
    }


def _nothing_measured(run: Run, work: str) -> str:
    what = WORK_CONTENTS[work]
    entries = [entry for entry in run.of("benchmark", task=WORK[work]) if entry["variant"] != BASELINE]
    if not entries:
        return f"this run did not time {what}; benchmark.tasks, replicates and scaling in the configuration ask for it"
    reasons = dict.fromkeys(f"{e['variant']}: {e['reason']}" for e in entries if e["reason"])
    text = f"no variant has a speed-up over eager on {what}"
    return f"{text} ({'; '.join(list(reasons)[:3])})" if reasons else text


def evidence(run: Run, choice: Choice) -> dict[str, Any]:
    """Measured speed, equivalence and MD of the chosen variant, for the bundle's metadata."""
    name = choice.variant
    checked = [e for e in run.of("equivalence", variant=name) if e.get("force_rmse_mev_per_a") is not None]
    moved = run.of("md", variant=name)
    drifts = [e for e in moved if e.get("drift_mev_per_atom_ps") is not None]
    worst = max(checked, key=lambda e: e["force_rmse_mev_per_a"], default={})
    drift = max(drifts, key=lambda e: abs(e["drift_mev_per_atom_ps"]), default={})
    sizes = [atoms for _, _, atoms in choice.speedups if atoms]
    by_size = [
        choice.speedups[point].value
        for point in sorted(choice.speedups, key=lambda point: (point[1] or 0, point[2] or 0))
    ]
    return {
        "speedup": choice.speedup.value,
        "speedup_ci95": [choice.speedup.low, choice.speedup.high],
        "processes": choice.speedup.processes,
        "atoms_per_s": max(
            (
                e["atoms_per_s"]
                for e in run.of("benchmark", variant=name, task=WORK[choice.work])
                if e.get("atoms_per_s")
            ),
            default=None,
        ),
        "first_and_last_speedup": [by_size[0], by_size[-1]],
        "measured": WORK_CONTENTS[choice.work],
        "points": len(choice.speedups),
        "smallest_speedup": min(ratio.value for ratio in choice.speedups.values()),
        "largest_speedup": max(ratio.value for ratio in choice.speedups.values()),
        "smallest_atoms": min(sizes, default=None),
        "largest_atoms": max(sizes, default=None),
        "largest_batch": max((batch or 1 for _, batch, _ in choice.speedups), default=None),
        "equivalence": {
            "verdict": run.equivalence(name),
            "systems": len(checked),
            "worst_system": worst.get("system"),
            "force_rmse_mev_per_a": worst.get("force_rmse_mev_per_a"),
            "eager_force_rmse_mev_per_a": worst.get("eager_force_rmse_mev_per_a"),
            "energy_error_mev_per_atom": worst.get("energy_error_mev_per_atom"),
        },
        "md": {
            "verdict": run.md(name),
            "systems": list(dict.fromkeys(e["system"] for e in drifts)),
            "worst_system": drift.get("system"),
            "drift_mev_per_atom_ps": drift.get("drift_mev_per_atom_ps"),
            "drift_stderr_mev_per_atom_ps": drift.get("drift_stderr_mev_per_atom_ps"),
            "n_steps": max((e["n_steps"] for e in drifts if e.get("n_steps")), default=None),
        },
        "passed_over": choice.passed_over,
    }
