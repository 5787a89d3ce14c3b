"""Compares several runs: the same variants on other machines, with other versions or at other commits.

On one machine the ratio of times shows a regression. The two runs were not timed in turn, so slow changes of the machine
do not cancel; the interval combines the bootstrap intervals of the two medians
(:func:`mlff_distiller.records.statistics.ratio_of`). A speed-up over eager was measured within one run, but is of its machine
all the same: on a GPU eager waits for the host, so a slower host makes every speed-up larger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import results_file
from mlff_distiller.records.statistics import Ratio, geometric_mean, ratio_of
from mlff_distiller.records.vocabulary import TASKS
from mlff_distiller.utils.errors import UserError


@dataclass(frozen=True)
class Member:
    """One run of a comparison."""

    label: str
    run: Run
    provenance: Mapping[str, Any]

    @cached_property
    def students(self) -> set[str]:
        """Hashes of the checkpoints that its variants were compiled from."""
        found = {entry.get("checkpoint_sha256") for entry in self.run.of("compile")}
        return (found | {self.provenance.get("student_sha256")}) - {None}

    @cached_property
    def molecules(self) -> dict[str, dict[str, Any]]:
        """System -> what identifies it: numbers of atoms and neighbor pairs, and the geometry's hash if it was recorded."""
        hashes = next((e["molecules"] for e in self.run.of("preflight") if e.get("molecules")), {})
        edges = {e["system"]: e["n_edges"] for e in self.run.of("benchmark") if e.get("n_edges") and e["batch"] == 1}
        return {
            name: {"geometry": hashes.get(name), "atoms": atoms or None, "neighbor pairs": edges.get(name)}
            for name, atoms in self.run.systems.items()
        }

    @property
    def hardware(self) -> list[tuple[Any, ...]]:
        """What identifies a machine: CPU, architecture and GPUs, not the number of cores given to a job."""
        return [
            (machine.get("cpu"), machine.get("architecture"), tuple(machine.get("gpus") or []))
            for machine in self.provenance.get("machines") or []
        ]

    @cached_property
    def threads(self) -> set[int]:
        """Numbers of PyTorch threads in the timings of the run."""
        return {e["threads"] for e in self.run.of("benchmark") if e.get("threads") and e["variant"] != collect.TEACHER}


@dataclass(frozen=True)
class Change:
    """One variant of a run compared with the same variant of the first run, over the molecules that both timed.

    ``time`` is the time in the first run divided by the time in this one; ``speedup`` is the speed-up over eager in this
    run divided by that in the first one. Above 1 is better.
    """

    variant: str
    task: str
    label: str
    systems: int
    time: Ratio
    speedup: Ratio | None
    same_machine: bool

    @property
    def verdict(self) -> str:
        """The verdict as text; a slower variant is a regression only on the same machine.

        On the same machine a smaller gain over eager is a regression even if the times do not show it: variant and eager
        are timed in turn, so other load on the machine cancels.
        """
        if not self.same_machine and self.time.verdict in ("faster", "slower"):
            return f"{self.time.verdict} there"
        if not self.same_machine or self.time.verdict == "faster":
            return self.time.verdict
        if self.time.verdict == "slower":
            return "regression"
        lost = self.speedup is not None and self.speedup.verdict == "slower"
        return "regression against eager" if lost else self.time.verdict


def load(path: str | Path) -> Member:
    """The run in a folder (``results/<run>``, ``results/published/<machine>``) or a ``phase3_results.json``.

    Raises:
        UserError: the merged results are missing or damaged.
    """
    file = results_file(path)
    document = collect.read(file)
    folder = file.parent.parent if file.parent.name == "report" else file.parent
    provenance = {"machines": [], "packages": {}, "commits": [], "left_out": []} | (document["provenance"] or {})
    return Member(folder.name, Run(document["records"]), provenance)


def load_comparable(paths: Sequence[str | Path]) -> list[Member]:
    """The runs in ``paths``; all others are compared with the first.

    Raises:
        UserError: fewer than two runs, or two that cannot be compared; the message says which, and why.
    """
    if len(paths) < 2:
        raise UserError("compare: name at least two runs, such as `compare results/a results/b`")
    members = [load(path) for path in paths]
    labels = [member.label for member in members]
    if len(set(labels)) < len(labels):
        members = [
            Member(f"{member.label} ({position})", member.run, member.provenance)
            for position, member in enumerate(members, 1)
        ]
    for one, other in combinations(members, 2):
        if reason := not_comparable(one, other):
            raise UserError(f"compare: {one.label} and {other.label} cannot be compared: {reason}")
    return members


def not_comparable(one: Member, other: Member) -> str | None:
    """Why the times of two runs cannot be compared, as text; None if they can be."""
    for member in (one, other):
        if not member.students:
            return f"{member.label} does not say which student it measured; repeat that run with this version"
        if len(member.students) > 1:
            return f"{member.label} holds records of {len(member.students)} students; repeat that run"
        if not member.run.systems:
            return f"{member.label} has no timings"
    if one.students != other.students:
        hashes = " and ".join(next(iter(member.students))[:10] for member in (one, other))
        return f"they measured different students (checkpoints {hashes})"
    shared = [name for name in one.molecules if name in other.molecules]
    if not shared:
        return f"they have no molecule in common ({', '.join(one.molecules)} against {', '.join(other.molecules)})"
    for name in shared:
        ours, theirs = one.molecules[name], other.molecules[name]
        for what in ours:
            if None not in (ours[what], theirs[what]) and ours[what] != theirs[what]:
                return f"{name} is a different molecule in each ({what}: {ours[what]} against {theirs[what]})"
    return None


def shared_systems(members: Sequence[Member]) -> list[str]:
    """The molecules that every run timed, smallest first."""
    return [name for name in members[0].run.systems if all(name in member.run.systems for member in members)]


def overall(member: Member, variant: str, task: str, systems: Sequence[str]) -> dict[str, Ratio | None]:
    """Geometric means of speed-up and time (ms) of a variant over ``systems``; None unless it was timed on all of them."""
    speedups, times = member.run.speedups(variant, task), member.run.times(variant, task)
    return {"speedup": _mean_over(systems, speedups), "time": _mean_over(systems, times)}


def _mean_over(systems: Sequence[str], found: Mapping[str, Ratio]) -> Ratio | None:
    """Geometric mean over ``systems``; None unless all of them are there."""
    return geometric_mean([found[system] for system in systems]) if found and set(systems) <= found.keys() else None


def changes(members: Sequence[Member]) -> list[Change]:
    """Each variant of each later run compared with the first run, for both tasks, where both runs timed it."""
    first = members[0]
    made = []
    for member in members[1:]:
        alike = first.hardware == member.hardware and first.threads == member.threads
        for task in TASKS:
            for variant in first.run.variants:
                times = [m.run.times(variant, task) for m in (first, member)]
                systems = [system for system in times[0] if system in times[1]]
                if not systems or "failed" in (first.run.equivalence(variant), member.run.equivalence(variant)):
                    continue
                # In the same processes: a slower machine slows down eager, too.
                before, now = (_mean_over(systems, m.run.paired_speedups(variant, task)) for m in (first, member))
                made.append(
                    Change(
                        variant,
                        task,
                        member.label,
                        len(systems),
                        geometric_mean([ratio_of(*(found[system] for found in times)) for system in systems]),
                        ratio_of(now, before) if before and now else None,
                        alike,
                    )
                )
    return made


def lost(members: Sequence[Member]) -> list[str]:
    """A sentence for each variant that worked in the first run and does not work in a later one: also a regression."""
    first, found = members[0].run, []
    for member in members[1:]:
        problems = member.run.problems()
        for variant in first.variants:
            if variant in member.run.variants and variant in problems and variant not in first.problems():
                status, reason = problems[variant]
                found.append(f"`{variant}` worked in {members[0].label} and is {status} in {member.label}: {reason}")
    return found
