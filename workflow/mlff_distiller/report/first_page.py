"""First page of the report: the fastest variant, whether it is correct, whether to trust the numbers, what was measured where."""

from collections.abc import Mapping, Sequence
from typing import Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import drift, interval, machine_name
from mlff_distiller.report.captions import teacher_ratio

#: Version of torch that the results are meant for, unless the settings name another.
TORCH_VERSION = "2.5.1"


def first_lines(run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Question -> answer: speed, correctness, doubts about the numbers, what was measured, and where."""
    winner = run.winner()
    return {
        "Is it faster?": _winner_line(run, winner),
        "Is it right?": _correct_line(run, [winner[0]] if winner else _candidates(run)),
        "Can I trust it?": _trust_line(run, provenance, settings, winner),
        "What": _what(run),
        "Where": _where(run, provenance, settings),
    }


def _where(run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    machines = "; ".join(map(machine_name, provenance["machines"])) or "an unknown machine"
    versions = provenance["packages"].get("torch", [])
    wanted = wanted_torch(settings)
    note = "" if versions == [wanted] else f" (not the {wanted} that the results are meant for)" if versions else ""
    commit = ", ".join(commit[:10] for commit in provenance["commits"]) or "unknown"
    when = (provenance.get("measured_utc") or ["an unknown day"])[-1][:10]
    device = str(run.device or "no device").upper()
    return f"{machines}; on {device}, torch {', '.join(versions) or 'unknown'}{note}; {when}, commit {commit}."


def wanted_torch(settings: Mapping[str, Any]) -> str:
    """The version of torch that the results are meant for."""
    return (settings.get("torch") or {}).get("version") or TORCH_VERSION


def _what(run: Run) -> str:
    sizes = list(run.systems.values())
    problems = run.problems()
    statuses = [status for status, _ in problems.values()]
    counts = ", ".join(f"{statuses.count(word)} {word}" for word in ("failed", "unavailable") if word in statuses)
    molecules = f"{len(sizes)} molecules of {sizes[0]} to {sizes[-1]} atoms" if sizes else "no molecules"
    others = sum(run.equivalence(name) == "another network" for name in run.variants)
    ok = sum(name not in problems for name in run.variants) - others
    return (
        f"{len(run.variants)} variants on {molecules}{', energy and energy + forces' if run.timings() else ''}: "
        f"{ok} ran and passed every check"
        + (f", {others} {'is' if others == 1 else 'are'} of another network" if others else "")
        + (f", {counts} (reasons below)" if counts else "")
        + "."
    )


def _winner_line(run: Run, winner: tuple[str, Any] | None) -> str:
    ranking = run.ranking("energy_forces")
    if winner is None:
        if not run.timings():
            return "Not measured: this run timed nothing one molecule at a time."
        if not ranking:
            return "No variant is shown to be: none has a speed-up on every molecule."
        name, ratio = ranking[0]
        why = "failed MD" if run.md(name) == "failed" else "is not shown to be faster"
        return f"No variant is. The best is `{name}` with {interval(ratio)} on energy + forces, but it {why}."
    name, ratio = winner
    singles = [r.value for r in run.speedups(name, "energy_forces").values()]
    energy = run.overall(name, "energy")
    text = (
        f"Yes: `{name}` computes energy + forces {interval(ratio)} as fast as plain (eager) PyTorch "
        f"({min(singles):.2f} to {max(singles):.2f}× on single molecules)"
    )
    text += f", and the energy alone {interval(energy)} as fast" if energy else ""
    if teacher := teacher_ratio(run, name):
        text += f"; the teacher takes {teacher.value:,.0f} times as long on the largest molecule"
    faster = [other for other, r in ranking if r.value > ratio.value]
    return text + (
        f". Faster but not chosen: {', '.join(f'`{o}` (MD {run.md(o)})' for o in faster)}." if faster else "."
    )


def _candidates(run: Run) -> list[str]:
    """Variants to report on if there is no winner: eager; without timings, all equivalent variants."""
    return [BASELINE] if run.timings() else run.equivalent or [BASELINE]


def _correct_line(run: Run, variants: Sequence[str]) -> str:
    errors, moved = (
        [e for name in variants for e in run.of(kind, variant=name) if e.get(field) is not None]
        for kind, field in (("equivalence", "force_rmse_mev_per_a"), ("md", "drift_mev_per_atom_ps"))
    )
    checked = [name for name in run.variants if run.equivalence(name) in ("passed", "failed")]
    text = f"{len(variants)} of {len(checked)} variants agree with the same student in fp64"
    if len(variants) == 1:
        verdict = {"passed": "agrees", "failed": "does not agree"}.get(run.equivalence(variants[0]), "was not compared")
        text = f"`{variants[0]}` {verdict} with the same student in fp64"
    text += f" (largest force error {max(e['force_rmse_mev_per_a'] for e in errors):.2g} meV/Å)" if errors else ""
    verdicts = [run.md(name) for name in variants]
    alike = f"{verdicts.count('passed')} of {len(verdicts)} passed" if len(set(verdicts)) > 1 else verdicts[0]
    text += f"; MD: {alike}"
    if not moved:
        return text + "."
    worst = max(moved, key=lambda entry: abs(entry["drift_mev_per_atom_ps"]))
    # In a short run, slow exchange of energy between vibrations looks like a drift; the fp64 run then shows it too.
    too = "; the fp64 run from the same state drifts as much" if worst.get("drift_like_fp64") else ""
    picoseconds = worst["n_steps"] * worst["timestep_fs"] / 1000
    return f"{text} (largest drift {drift(worst)} in {picoseconds:.3g} ps of {worst['system']}{too})."


def _trust_line(
    run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any], winner: tuple[str, Any] | None
) -> str:
    doubts = doubts_about(run, provenance, settings, winner)
    if not doubts:
        return (
            "Yes: eager timed against itself shows no difference, every timing was repeated in several processes, few vary "
            "much, and the checks passed."
        )
    return f"With care: {'; '.join(doubts)}."


def doubts_about(
    run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any], winner: tuple[str, Any] | None
) -> list[str]:
    """Reasons not to trust the numbers, as text; empty if there are none."""
    doubts = []
    timed = [e for e in run.timings() if e["status"] == "ok" and e.get("replicates")]
    if not timed:
        return ["nothing was timed one molecule at a time"]
    control = run.overall(BASELINE, "energy_forces")
    if control is None:
        doubts.append("eager was not timed against itself as a control")
    elif control.verdict != "no difference shown":
        doubts.append(f"eager timed against itself shows {interval(control)}, so small differences mean nothing")
    fewest = min(entry["replicates"] for entry in timed)
    if fewest < 3:
        doubts.append(f"only {fewest} process{'es' if fewest > 1 else ''} per measurement")
    noisy = sum(bool(entry["noisy"]) for entry in timed)
    if noisy > len(timed) / 10:
        doubts.append(
            f"{noisy} of {len(timed)} timings vary by more than 10 % (interquartile range over median): rely on the intervals"
        )
    if winner and run.md(winner[0]) != "passed":
        doubts.append("MD was not run for the winner")
    versions = provenance["packages"].get("torch", [])
    if versions and versions != [wanted_torch(settings)]:
        doubts.append(f"torch {', '.join(versions)} rather than {wanted_torch(settings)}")
    return doubts + list(provenance["warnings"])
