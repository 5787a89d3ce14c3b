"""Several runs beside one another: the same variants on other machines, with other versions, at other commits.

Times of two runs were measured apart, so nothing cancels; on one machine their ratio is still what tells a regression.
Its interval comes from the bootstrap intervals of the two medians (:func:`mlff_distiller.records.statistics.ratio_of`). Across
machines the speed-up over eager is what can be compared, since each was measured inside its own run.
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
        """System -> what tells it apart: number of atoms and of edges, and a hash of the geometry where one was written."""
        hashes = next((e["molecules"] for e in self.run.of("preflight") if e.get("molecules")), {})
        edges = {e["system"]: e["n_edges"] for e in self.run.of("benchmark") if e.get("n_edges") and e["batch"] == 1}
        return {
            name: {"geometry": hashes.get(name), "atoms": atoms or None, "neighbor pairs": edges.get(name)}
            for name, atoms in self.run.systems.items()
        }

    @property
    def hardware(self) -> list[tuple[Any, ...]]:
        """What tells one machine from another; the cores that a job was given do not."""
        return [
            (machine.get("cpu"), machine.get("architecture"), tuple(machine.get("gpus") or []))
            for machine in self.provenance.get("machines") or []
        ]

    @cached_property
    def threads(self) -> set[int]:
        """Threads of PyTorch in its timings."""
        return {e["threads"] for e in self.run.of("benchmark") if e.get("threads") and e["variant"] != collect.TEACHER}


@dataclass(frozen=True)
class Change:
    """One variant of a run against the same variant of the first run, over the molecules that both timed.

    ``time`` is the first run's time over this one's, ``speedup`` this run's speed-up over eager over the first one's:
    above 1 is better.
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
        """In words; only on the same machine is slower a regression.

        There, a smaller gain over eager is one too, even where times alone do not show it: inside a run variant and
        eager took turns, so that what the machine does else cancels.
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
        UserError: no merged results there, or damaged ones.
    """
    file = results_file(path)
    document = collect.read(file)
    folder = file.parent.parent if file.parent.name == "report" else file.parent
    provenance = {"machines": [], "packages": {}, "commits": [], "left_out": []} | (document["provenance"] or {})
    return Member(folder.name, Run(document["records"]), provenance)


def together(paths: Sequence[str | Path]) -> list[Member]:
    """The runs in ``paths``, which may be compared; the first is what the others are held against.

    Raises:
        UserError: fewer than two runs, or two that may not be compared; the message says which, and why.
    """
    if len(paths) < 2:
        raise UserError("compare: name two runs or more, such as `compare results/a results/b`")
    members = [load(path) for path in paths]
    labels = [member.label for member in members]
    if len(set(labels)) < len(labels):
        members = [
            Member(f"{member.label} ({position})", member.run, member.provenance)
            for position, member in enumerate(members, 1)
        ]
    for one, other in combinations(members, 2):
        if reason := not_comparable(one, other):
            raise UserError(f"compare: {one.label} and {other.label} may not be compared: {reason}")
    return members


def not_comparable(one: Member, other: Member) -> str | None:
    """Why the times of two runs say nothing about each other, in words; None when they do."""
    for member in (one, other):
        if not member.students:
            return f"{member.label} does not say which student it measured; make it again with this version"
        if len(member.students) > 1:
            return f"{member.label} holds records of {len(member.students)} students; make it again"
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
                return f"{name} is another molecule in each ({what}: {ours[what]} against {theirs[what]})"
    return None


def shared_systems(members: Sequence[Member]) -> list[str]:
    """The molecules that every run timed, smallest first."""
    return [name for name in members[0].run.systems if all(name in member.run.systems for member in members)]


def overall(member: Member, variant: str, task: str, systems: Sequence[str]) -> dict[str, Ratio | None]:
    """Geometric means of speed-up and time (ms) of a variant over ``systems``; null unless it has all of them."""
    speedups, times = member.run.speedups(variant, task), member.run.times(variant, task)
    return {
        name: geometric_mean([found[system] for system in systems]) if found and set(systems) <= found.keys() else None
        for name, found in (("speedup", speedups), ("time", times))
    }


def changes(members: Sequence[Member]) -> list[Change]:
    """Every variant of every later run against the first run, for both tasks, where both have times."""
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
                before, now = (overall(m, variant, task, systems)["speedup"] for m in (first, member))
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
    """What worked in the first run and does not in a later one, in words: another kind of regression."""
    first, found = members[0].run, []
    for member in members[1:]:
        gone = member.run.problems()
        for variant in first.variants:
            if variant in member.run.variants and variant in gone and variant not in first.problems():
                status, reason = gone[variant]
                found.append(f"`{variant}` worked in {members[0].label} and is {status} in {member.label}: {reason}")
    return found
