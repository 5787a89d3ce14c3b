"""Questions to all merged records: speed-ups over all systems, verdicts, the winner. Figures, gates, claims and report
use these answers, so that they agree."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from mlff_distiller.records.outcome import FAILED, PASSED, TOO_SHORT, md_outcome, of_the_run, refuses
from mlff_distiller.records.schema import Record
from mlff_distiller.records.statistics import Ratio, geometric_mean, mean_of, ratio_of
from mlff_distiller.records.vocabulary import BASELINE, SCALING_TASKS, STAGES, STOCK, TASKS, TEACHER
from mlff_distiller.records.wording import equivalence_reason, md_failure


class Run:
    """Questions to the merged records of one run, on one device.

    Args:
        entries: merged records.
        device: which device to look at; by default the one with the most benchmark records, or those of another stage where
            nothing was timed; an accelerator in a draw.
        ledger: claims of another report that figures show beside the run, as :func:`mlff_distiller.decisions.claims.load` gives.
    """

    def __init__(
        self, entries: Iterable[Record], device: str | None = None, ledger: Mapping[str, Any] | None = None
    ) -> None:
        self.records = list(entries)
        self.ledger = ledger
        counts = next(filter(None, map(self._devices_of, STAGES)), Counter())
        self.devices = sorted(counts, key=lambda name: (-counts[name], name == "cpu", name))
        self.device = device or (self.devices[0] if self.devices else None)

    def _devices_of(self, kind: str) -> Counter[str]:
        entries = (e for e in self.records if e["kind"] == kind and e["variant"] != TEACHER)
        return Counter(e["device"] for e in entries if e["device"])

    def of(self, kind: str, **fields: Any) -> list[Record]:
        """Records of ``kind`` whose fields equal those given, on this device (records without a device included)."""
        return [
            entry
            for entry in self.records
            if entry["kind"] == kind
            and entry["device"] in (self.device, None)
            and all(entry.get(name) == value for name, value in fields.items())
        ]

    def teacher(self) -> list[Record]:
        """The teacher's own timings, whatever device the student ran on."""
        return [e for e in self.records if e["kind"] == "benchmark" and e["variant"] == TEACHER and e["status"] == "ok"]

    def accuracy(self) -> list[Record]:
        """The student's errors per split, whatever device they were computed on.

        A training's own estimate counts only where the accuracy stage did not run.
        """
        found = [e for e in self.records if e["kind"] == "accuracy" and e["task"] not in ("round", "round_limit")]
        return [e for e in found if e["task"] != "training"] or found

    def rounds(self) -> list[Record]:
        """Errors before and after each round of labels on the student's own frames, in their order."""
        found = [e for e in self.records if e["kind"] == "accuracy" and e["task"] == "round"]
        return sorted(found, key=lambda e: e.get("round") or 0)

    def why_rounds_ended(self) -> str | None:
        """The limit by which no further round was begun; None where as many were made as the settings name."""
        found = [e for e in self.records if e["kind"] == "accuracy" and e["task"] == "round_limit"]
        last = max(found, key=lambda e: e["round"], default=None)
        return None if last is None else last["enough"]

    def timings(self) -> list[Record]:
        """Benchmark records of the tasks that every variant is ranked by: one molecule at a time; none of the teacher."""
        return [e for e in self.of("benchmark") if e["task"] not in SCALING_TASKS and e["variant"] != TEACHER]

    def scaling(self, variant: str, task: str) -> list[Record]:
        """Benchmark records of a scaling task, by size, whatever their status."""
        found = self.of("benchmark", variant=variant, task=task)
        return sorted(found, key=lambda e: (e["batch"] or 0, e["n_atoms"] or 0))

    def training(self) -> Record | None:
        """The record of the student's training, with its learning curve."""
        return next((e for e in self.records if e["kind"] == "accuracy" and e.get("learning_curve")), None)

    @cached_property
    def variants(self) -> list[str]:
        """Every variant met, the baseline first, then as the records come; the teacher is none."""
        names = dict.fromkeys(e["variant"] for kind in STAGES for e in self.of(kind) if e["variant"] != TEACHER)
        return sorted(names, key=lambda name: name != BASELINE)

    @cached_property
    def systems(self) -> dict[str, int]:
        """System -> number of atoms, in order of size, of everything timed one at a time; or, untimed, looked at."""
        timed = [e for e in self.timings() if e["batch"] == 1]
        met = timed or [*self.of("equivalence"), *self.of("md", task="nve")]
        found = {e["system"]: e["n_atoms"] or 0 for e in met}
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    @cached_property
    def families(self) -> dict[str, str]:
        """Variant -> family as the compile stage wrote it; a variant without one is its own family."""
        known = {e["variant"]: e["family"] for e in self.of("compile") if e.get("family")}
        return {name: known.get(name, name) for name in self.variants}

    def is_stock(self, variant: str) -> bool:
        """Whether PyTorch's own tools make the variant of eager: its forces are those that autograd derives."""
        return self.families.get(variant) in STOCK and self.options(variant).get("forces", "autograd") == "autograd"

    def options(self, variant: str) -> Mapping[str, Any]:
        """Family and options of a variant as the compile stage wrote them; empty where it wrote none."""
        return next((e.get("options") or {} for e in self.of("compile", variant=variant)), {})

    @cached_property
    def neighbor_backends(self) -> dict[str, str]:
        """Variant -> its neighbor search, where its options name one."""
        options = {e["variant"]: e.get("options") or {} for e in self.of("compile")}
        return {name: options[name]["neighbors"] for name in self.variants if options.get(name, {}).get("neighbors")}

    def benchmarks(self, variant: str, task: str, batch: int = 1) -> dict[str, Record]:
        """System -> benchmark record, whatever its status, in order of size."""
        found = {e["system"]: e for e in self.of("benchmark", variant=variant, task=task, batch=batch)}
        return {system: found[system] for system in self.systems if system in found}

    def speedups(self, variant: str, task: str) -> dict[str, Ratio]:
        """System -> speed-up over the baseline, where one may be stated.

        Over the baseline in the same processes, or over the baseline's times beside all variants, pooled: whichever is known
        better. The first where what slows the host down slows down both; the second where a variant waits for a GPU and the
        baseline for the host, so that nobody wins by its baseline's luck. Of the baseline itself it is the first, a control.
        """
        paired = self.paired_speedups(variant, task)
        pooled = {system: self._pooled_baseline.get((system, task)) for system in paired}
        if variant == BASELINE or not paired or None in pooled.values():
            return paired
        times = self.times(variant, task)
        apart = {system: ratio_of(eager, times[system]) for system, eager in pooled.items() if eager}
        return min((paired, apart), key=lambda found: geometric_mean(list(found.values())).log_error)

    def paired_speedups(self, variant: str, task: str) -> dict[str, Ratio]:
        """System -> speed-up over the baseline in the same processes: what slowed both down cancels."""
        return {
            system: Ratio.of(entry, "speedup")
            for system, entry in self.benchmarks(variant, task).items()
            if entry["speedup"] is not None
        }

    @cached_property
    def _pooled_baseline(self) -> dict[tuple[str, str], Ratio]:
        """(system, task) -> median time of the baseline in ms, over what was timed beside at least three variants."""
        times: dict[tuple[str, str], list[float]] = {}
        for entry in self.timings():
            if entry["batch"] == 1 and entry.get("baseline_median_ms"):
                times.setdefault((entry["system"], entry["task"]), []).append(entry["baseline_median_ms"])
        return {key: mean_of(found) for key, found in times.items() if len(found) >= 3}

    def overall(self, variant: str, task: str) -> Ratio | None:
        """Geometric mean of the speed-ups over all systems; null unless every system that the baseline ran is there."""
        found = self.speedups(variant, task)
        wanted = self.speedups(BASELINE, task)
        if not found or wanted.keys() - found.keys():
            return None
        return geometric_mean(list(found.values()))

    def mean_time(self, variant: str, task: str) -> Ratio | None:
        """Geometric mean of the median times over all systems of the baseline, in ms, with its interval."""
        found = self.times(variant, task)
        if not found or self.times(BASELINE, task).keys() - found.keys():
            return None
        return geometric_mean(list(found.values()))

    def arithmetic_mean_time(self, variant: str, task: str) -> Ratio | None:
        """Arithmetic mean of the median times over all systems, in ms: the source report's way to average."""
        found = list(self.times(variant, task).values())
        if not found or len(found) < len(self.times(BASELINE, task)):
            return None
        value, low, high = (
            sum(getattr(time, bound) for time in found) / len(found) for bound in ("value", "low", "high")
        )
        return Ratio(value, low, high, min(time.processes for time in found))

    def times(self, variant: str, task: str) -> dict[str, Ratio]:
        """System -> median time in ms with its interval, where the measurement succeeded (equivalent or not)."""
        return {
            system: Ratio.of(entry, "median_ms")
            for system, entry in self.benchmarks(variant, task).items()
            if entry.get("median_ms")
        }

    def force_time(self, variant: str, *, baseline: bool = False) -> dict[str, tuple[float, float, float]]:
        """System -> (value, low, high): what forces cost on top of the energy, in ms; can be negative."""
        prefix = "baseline_" if baseline else ""
        energy, both = (self.benchmarks(variant, task) for task in TASKS)
        costs = {}
        for system in energy.keys() & both.keys():
            pair = (energy[system], both[system])
            if all(entry["speedup"] is not None for entry in pair):
                (e, (e_low, e_high)), (f, (f_low, f_high)) = (
                    (entry[f"{prefix}median_ms"], entry[f"{prefix}median_ci95_ms"]) for entry in pair
                )
                below, above = (
                    ((f - f_low) ** 2 + (e_high - e) ** 2) ** 0.5,
                    ((f_high - f) ** 2 + (e - e_low) ** 2) ** 0.5,
                )
                costs[system] = (f - e, f - e - below, f - e + above)
        return costs

    def force_ratio(self, variant: str) -> Ratio | None:
        """Time for energy + forces over time for the energy alone, geometric mean over systems.

        Of the baseline every variant's processes timed both tasks; from three variants on the interval is that of their
        mean (Student's t). Of other variants it is that of the ratio within their processes. Older records do not have that:
        there the intervals of the two times are combined as if they were independent.
        """
        if variant == BASELINE and len(repeated := self._baseline_force_ratios()) >= 3:
            return mean_of(repeated)
        energy, both = (self.times(variant, task) for task in TASKS)
        shared = [system for system in energy if system in both]
        timed = self.benchmarks(variant, "energy_forces")
        within = [Ratio.of(timed[system], "force_ratio") for system in shared if timed[system].get("force_ratio")]
        if shared and len(within) == len(shared):
            return geometric_mean(within)
        return geometric_mean([ratio_of(both[system], energy[system]) for system in shared]) if shared else None

    def _baseline_force_ratios(self) -> list[float]:
        """Geometric means over all systems of the baseline's ratio, one from the processes of each variant."""
        found = []
        for name in self.variants:
            energy, both = (
                {
                    s: e["baseline_median_ms"]
                    for s, e in self.benchmarks(name, task).items()
                    if e.get("baseline_median_ms")
                }
                for task in TASKS
            )
            if self.systems and energy.keys() == both.keys() == self.systems.keys():
                found.append(math.exp(sum(math.log(both[s] / energy[s]) for s in energy) / len(energy)))
        return found

    def reference_error(self, variant: str) -> float | None:
        """Force error against the fp64 student, meV/A: root of the mean square over the molecules of the run."""
        errors = [e["force_rmse_mev_per_a"] for e in self.of("equivalence", variant=variant)
                  if of_the_run(e) and e.get("force_rmse_mev_per_a") is not None]  # fmt: skip
        return math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None

    def teacher_error(self, variant: str) -> list[float]:
        """The force error (RMSE) against the teacher that a variant should have, meV/A: from, to.

        An estimate: the student is compared with its teacher in eager form, on held-out molecules; any other variant is
        taken to differ from that by no more than both differ from the fp64 student on the benchmark molecules. Of several
        splits the one of molecules never seen counts. Empty without such a comparison.
        """
        errors = {e["split"]: e["force_rmse_mev_per_a"] for e in self.accuracy() if e.get("force_rmse_mev_per_a")}
        split = next((name for name in ("test", "larger", "val") if name in errors), next(iter(errors), None))
        ours, eager = self.reference_error(variant), self.reference_error(BASELINE)
        if split is None or ours is None or eager is None:
            return []
        apart = 0.0 if variant == BASELINE else ours + eager
        return [max(0.0, errors[split] - apart), errors[split] + apart]

    def teacher_time(self) -> float | None:
        """Geometric mean of the teacher's median times over the systems of the baseline, ms; null unless all are there."""
        times = {e["system"]: e["median_ms"] for e in self.teacher() if e["median_ms"]}
        wanted = self.times(BASELINE, "energy_forces").keys()
        if not wanted or wanted - times.keys():
            return None
        return math.exp(sum(math.log(times[system]) for system in wanted) / len(wanted))

    def first_calls(self) -> dict[str, dict[str, list[float]]]:
        """Variant -> system -> times of the first energy + forces calls after loading, ms, in the order of the calls."""
        return {e["variant"]: e.get("first_calls_ms") or {} for e in self.of("compile")}

    def equivalence(self, variant: str) -> str:
        """``passed``, ``failed``, ``not checked`` or ``another network``, over all that was compared."""
        found = [e for e in self.of("equivalence", variant=variant) if e["status"] != "unavailable"]
        if found and all(e.get("another_network") for e in found):
            return "another network"
        if not found:
            return "not checked"
        return "passed" if all(e["status"] == "ok" and e.get("equivalent") for e in found) else "failed"

    def precision(self, variant: str) -> float:
        """The tolerance that a variant is held to, meV/A: smaller is more precise; infinite where it was not checked."""
        return min(
            (e.get("tolerance_mev_per_a") or math.inf for e in self.of("equivalence", variant=variant)),
            default=math.inf,
        )

    @cached_property
    def same_code(self) -> dict[str, str]:
        """Variant -> an earlier one of the same artifact whose answers are the same to the last bit on every system checked."""
        artifacts = {e["variant"]: e.get("artifact_sha256") for e in self.of("compile")}
        answers: dict[tuple[Any, ...], str] = {}
        found = {}
        for name in self.variants:
            checked = [e for e in self.of("equivalence", variant=name) if e.get("force_max_mev_per_a") is not None]
            if not artifacts.get(name) or not checked:
                continue
            fields = ("system", "force_rmse_mev_per_a", "force_max_mev_per_a", "energy_error_mev_per_atom")
            key = (
                artifacts[name],
                self.families[name],
                *sorted(tuple(e.get(field) for field in fields) for e in checked),
            )
            if key in answers:
                found[name] = answers[key]
            answers.setdefault(key, name)
        return found

    @cached_property
    def equivalent(self) -> list[str]:
        """The variants that passed their equivalence check."""
        return [name for name in self.variants if self.equivalence(name) == "passed"]

    def md(self, variant: str) -> str:
        """``passed``, ``failed``, ``too short to tell`` or ``not run``, over all systems.

        What is not equivalent is not simulated.
        """
        found = [e for e in self.of("md", variant=variant) if e["status"] != "unavailable"]
        if not found or self.equivalence(variant) == "failed":
            return "not run"
        if all(e.get("another_network") for e in found):
            return "another network"
        outcomes = {md_outcome(entry) for entry in found}
        return next(word for word in (FAILED, TOO_SHORT, PASSED) if word in outcomes)

    def md_speed(self, variant: str) -> float | None:
        """MD steps per second over those of the baseline, geometric mean over the systems that both ran.

        Each is one run, apart from the other: a number without an interval.
        """
        ours, eager = (
            {e["system"]: e["steps_per_s"] for e in self.of("md", variant=name) if e.get("steps_per_s")}
            for name in (variant, BASELINE)
        )
        ratios = [ours[system] / eager[system] for system in ours if system in eager]
        return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None

    def problems(self) -> dict[str, tuple[str, str]]:
        """Variant -> (status, reason) of what did not work, one reason each: the first stage that stopped it."""
        found: dict[str, tuple[str, str]] = {}
        for kind in ("compile", "equivalence", "benchmark", "md"):
            for entry in self.timings() if kind == "benchmark" else self.of(kind):
                if entry.get("another_network") or (kind == "equivalence" and refuses(entry)):
                    continue
                if entry["variant"] in found or entry["variant"] == TEACHER:
                    continue
                if kind == "equivalence" and entry["status"] != "unavailable" and not entry.get("equivalent"):
                    found[entry["variant"]] = ("failed", equivalence_reason(entry))
                elif entry["status"] != "ok":
                    found[entry["variant"]] = (entry["status"], entry["reason"])
                elif kind == "md" and not entry.get("passed"):
                    found[entry["variant"]] = ("failed", f"MD on {entry['system']}: {md_failure(entry)}")
        return found

    def ranking(self, task: str, pattern: str = "*") -> list[tuple[str, Ratio]]:
        """Variants but the baseline that match ``pattern`` and have a speed-up on every system, the least time first."""
        found = [
            (name, ratio)
            for name in self.variants
            if name != BASELINE and fnmatchcase(name, pattern) and (ratio := self.overall(name, task))
        ]
        times = {name: self.mean_time(name, task) for name, _ in found}
        return sorted(found, key=lambda item: (time.value if (time := times[item[0]]) else math.inf, -item[1].value))

    def proven(self, task: str) -> list[tuple[str, Ratio]]:
        """The :meth:`ranking` of the variants that passed their equivalence check."""
        return [entry for entry in self.ranking(task) if self.equivalence(entry[0]) == "passed"]

    def winner(self, task: str = "energy_forces") -> tuple[str, Ratio] | None:
        """The variant to use among those shown to be faster, equivalent, and valid in MD (:meth:`best`).

        Where no variant ran MD, MD is not asked for; :meth:`md` then says so.
        """
        return self.best(self.level_with_fastest(self.candidates(task), task))

    def candidates(self, task: str = "energy_forces") -> list[tuple[str, Ratio]]:
        """Variants that may win: equivalent, shown to be faster, and passed in MD; if none passed, those that ran none."""
        faster = [entry for entry in self.proven(task) if entry[1].verdict == "faster"]
        passed = [entry for entry in faster if self.md(entry[0]) == PASSED]
        return passed or [entry for entry in faster if self.md(entry[0]) == "not run"]

    def best(self, level: Iterable[tuple[str, Ratio]]) -> tuple[str, Ratio] | None:
        """Of variants that no interval tells apart, the most precise; of these the first."""
        others = [entry for entry in level if entry[0] not in self.same_code]
        return min(others, key=lambda entry: self.precision(entry[0]), default=None)

    def level_with_fastest(
        self, candidates: Iterable[tuple[str, Ratio]], task: str = "energy_forces"
    ) -> list[tuple[str, Ratio]]:
        """Those whose mean time on single molecules no interval tells apart from the least, the least first.

        By time, not by speed-up: what the baseline took beside a variant says nothing about the variant.
        """
        timed = [(time, entry) for entry in candidates if (time := self.mean_time(entry[0], task))]
        timed.sort(key=lambda item: item[0].value)
        return [entry for time, entry in timed if time.low <= timed[0][0].high]
