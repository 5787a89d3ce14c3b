"""First page of the report: how fast, how wrong, whether to trust the numbers, what was measured where."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ase.data import chemical_symbols

from mlff_distiller.records.outcome import FAILED, PASSED, TOO_SHORT, of_the_run
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.statistics import Ratio, geometric_mean, ratio_of
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import (
    about,
    drift,
    equivalence_reason,
    few_processes,
    interval,
    machine_name,
    number,
    spread,
    times_as_fast,
    title,
)
from mlff_distiller.report.names import batch_title, molecule_name, teacher_method, teacher_threads
from mlff_distiller.report.need_a_gpu import need_a_gpu
from mlff_distiller.report.tables import WIDE, half_width, ns_per_day

#: Version of torch that the results are meant for, unless the settings name another.
TORCH_VERSION = "2.5.1"
#: What the molecules of a split are called.
WHICH = {"larger": "molecules larger than any trained on,", "benchmark": "those molecules of this report"}


def first_lines(run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Question -> answer: speed, correctness, doubts about the numbers, what was measured, and where."""
    winner = run.winner()
    lines = {
        "How fast is it?": _winner_line(run, winner),
        "Over its teacher": _over_teacher(run, winner[0]) if winner else "",
        "Without ASE": _beyond_ase(run, *winner) if winner else "",
        "Do I need a GPU?": need_a_gpu(run, winner[0]) if winner else "",
        "Many molecules at once": _batches(run, winner[0]) if winner else "",
        "Is it right?": _correct_line(run, [winner[0]] if winner else _candidates(run)),
        "What is it for?": _domain(run, winner[0] if winner else BASELINE),
        "Does it conserve energy?": _dynamics(run, [winner[0]] if winner else _candidates(run)),
        "Can I trust the numbers?": _trust_line(run, provenance, settings, winner),
        "What": _what(run),
        "Where": _where(run, provenance, settings),
    }
    return {question: answer for question, answer in lines.items() if answer}


def _where(run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    machines = "; ".join(map(machine_name, provenance["machines"])) or "an unknown machine"
    versions = provenance["packages"].get("torch", [])
    wanted = wanted_torch(settings)
    note = "" if versions == [wanted] else f" (not the {wanted} that the results are meant for)" if versions else ""
    commit = ", ".join(commit[:10] for commit in provenance["commits"]) or "unknown"
    when = (provenance.get("measured_utc") or ["an unknown day"])[-1][:10]
    device = str(run.device or "no device").upper()
    if nodes := provenance.get("nodes"):
        named = f"{', '.join(nodes[:5])}{', ...' if len(nodes) > 5 else ''}"
        machines += f"; node{'s' if len(nodes) > 1 else ''} {named} ({', '.join(provenance['batch_systems'])})"
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
    molecules += ", energy and energy + forces" if run.timings() else ""
    others = sum(run.equivalence(name) == "another network" for name in run.variants)
    ok = sum(name not in problems for name in run.variants) - others
    students = {
        e["checkpoint_sha256"] for kind in ("compile", "md") for e in run.of(kind) if e.get("checkpoint_sha256")
    }
    hashes = ", ".join(sorted(digest[:10] for digest in students))
    student = f"Student {hashes}; " if students else ""
    return (
        f"{student}{len(run.variants) - others} variants of it on {molecules}: "
        f"{ok} ran and passed every check"
        + (f", {counts} ([why](#what-failed-or-was-unavailable))" if counts else "")
        + (f"; {others} more of another network" if others else "")
        + "."
    )


def _winner_line(run: Run, winner: tuple[str, Any] | None) -> str:
    if winner is None:
        return _no_winner(run)
    name, ratio = winner
    text = f"`{name}` is the fastest way to run it. {through_ase(run, name) or _bare(run, name, ratio)}"
    usable = [entry for entry in run.candidates() if entry[0] not in run.same_code]
    level = [other for other, _ in run.level_with_fastest(usable) if other != name]
    if level:
        text += f" No difference is shown to {_named(level)}; the more precise, then the faster, is preferred."
    unproven = [
        f"`{other}` (MD {run.md(other)})"
        for other, r in run.proven("energy_forces")
        if r.value > ratio.value and run.md(other) != PASSED
    ]
    return text + (f" Faster but not chosen: {', '.join(unproven)}." if unproven else "")


def _beyond_ase(run: Run, name: str, ratio: Any) -> str:
    if not through_ase(run, name):
        return ""
    return " ".join(part for part in (_bare(run, name, ratio), _over_stock(run, name), _own_loop(run, name)) if part)


def _no_winner(run: Run) -> str:
    ranking = run.ranking("energy_forces")
    if not run.timings():
        return "Not measured: this run timed nothing one molecule at a time."
    if not ranking:
        return "No variant is shown to be faster than eager PyTorch: none has a speed-up on every molecule."
    name, ratio = (run.proven("energy_forces") or ranking)[0]
    why = {
        ratio.verdict != "faster": "it is not shown to be faster",
        run.md(name) == FAILED: "it failed MD",
        run.md(name) == TOO_SHORT: "its MD is too short to tell whether it conserves energy",
        run.equivalence(name) != "passed": "it is not equivalent to the student",
    }.get(True, "its MD was not run")
    return f"No variant is faster than eager PyTorch. The best is `{name}` with {interval(ratio)} on energy + forces, but {why}."


def _named(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def by_size(run: Run, variant: str) -> list[dict[str, Any]]:
    """One row per molecule, smallest first: what a chemist asks first, by size; empty where ASE was not timed.

    Times are of the class :class:`Ratio` (ms); None where there is no time.
    """
    calls = {e["system"]: Ratio.of(e, "median_ms") for e in run.scaling(variant, "calculator") if e.get("median_ms")}
    teacher = {e["system"]: Ratio.of(e, "median_ms") for e in run.teacher() if e.get("median_ms")}
    times = run.times(variant, "energy_forces")
    return [
        {
            "molecule": f"{title(system)} ({run.systems[system]})",
            "ase_ms": calls[system],
            "ns_per_day": ns_per_day(calls[system].value),
            "call_ms": times.get(system),
            "teacher_ms": teacher.get(system),
        }
        for system in run.systems
        if system in calls
    ]


def _over_teacher(run: Run, variant: str) -> str:
    """How much faster than its teacher a student is that was distilled here, and at what error; empty of any other."""
    tested = _tested(run)
    rows = [row for row in by_size(run, variant) if row["teacher_ms"]]
    if not rows or tested is None or tested.get("trained_molecules") is None:
        return ""
    times = spread(row["teacher_ms"].value / row["ase_ms"].value for row in rows)
    return (
        f"A step through ASE is {times} times as fast as one of {teacher_method(run) or 'the teacher'} "
        f"({teacher_threads(run)}), "
        f"at {number(tested['force_mae_mev_per_a'], 2)} meV/Å from it{_of_rms(tested)}."
    )


def _tested(run: Run) -> Record | None:
    """The errors on the split ``test``, else ``val``; None where neither was measured."""
    splits = {e["split"]: e for e in run.accuracy() if e.get("force_mae_mev_per_a") is not None}
    return next((splits[name] for name in ("test", "val") if name in splits), None)


def _of_rms(entry: Record) -> str:
    """The error in parts of the forces' own root mean square."""
    rms = entry.get("force_rms_mev_per_a")
    return f", {entry['force_mae_mev_per_a'] / rms:.1%} of the size of its forces" if rms else ""


def through_ase(run: Run, variant: str) -> str:
    """What the code printed on the first page takes: a call through the ASE calculator; empty where it was not timed."""
    found = [e for e in run.scaling(variant, "calculator") if e.get("median_ms") and e["status"] == "ok"]
    if not found:
        return ""
    sizes = [e["n_atoms"] for e in found]
    text = f"A step of MD through ASE, as below, takes {spread(e['median_ms'] for e in found)} ms for {spread(sizes, 3)} atoms"
    middle = next((e for e in found if e["system"] == "caffeine"), found[len(found) // 2])
    text += (
        f": {number(ns_per_day(middle['median_ms']), 2)} ns a day for {title(middle['system'])} with steps of 0.5 fs"
    )
    if ratios := [Ratio.of(e, "speedup") for e in found if e.get("speedup") is not None]:
        text += f", {times_as_fast(geometric_mean(ratios))} as fast as eager PyTorch"
    return f"{text}."


def _bare(run: Run, name: str, ratio: Any) -> str:
    times = [time.value for time in run.times(name, "energy_forces").values()]
    text = (
        f"One call from Python, neighbor search included: {spread(times)} ms, {times_as_fast(ratio)} as fast as eager"
    )
    if energy := run.overall(name, "energy"):
        text += f" (the energy alone {times_as_fast(energy)})"
    return f"{text}."


def _batches(run: Run, name: str) -> str:
    """The most that a batch gets out of the machine; empty where none was timed."""
    found = [e for e in run.scaling(name, "throughput") if e.get("atoms_per_s") and e["status"] == "ok"]
    if not found:
        return ""
    best = max(found, key=lambda e: e["atoms_per_s"])
    return (
        f"{about(best['atoms_per_s'], 2)} atoms a second, {best['batch']:,} molecules "
        f"({batch_title(run, best['system'])}) in a call."
    )


def _domain(run: Run, variant: str) -> str:
    """Which elements the accuracy was measured on, what is refused, and whether there is a stress; empty where the accuracy was
    not measured."""
    elements = {int(z) for e in run.accuracy() for z in e.get("by_element") or {}}
    if not elements:
        return ""
    named = [chemical_symbols[z] for z in sorted(elements)]
    return (
        "Neutral closed-shell systems like those that it was trained on ([accuracy](#accuracy-of-the-student): here of "
        f"{', '.join(named)}). Elements that it never learned, charges and spins are refused." + _stress(run, variant)
    )


def _stress(run: Run, variant: str) -> str:
    """Whether a variant serves constant pressure; empty in runs from before that was recorded."""
    gives = next((e.get("gives_stress") for e in run.of("compile", variant=variant)), None)
    if gives is None:
        return ""
    return (
        f" `{variant}` gives the stress, too."
        if gives
        else f" `{variant}` gives no stress: constant pressure takes another."
    )


def _own_loop(run: Run, name: str) -> str:
    found = next((e for e in run.scaling(name, "md_steps") if e.get("median_ms") and e["status"] == "ok"), None)
    if found is None or found.get("loop") != "device":
        return ""
    return (
        f"MD that stays on the GPU, positions read every 100 steps or so: {about(1000 / found['median_ms'])} steps a "
        f"second, {number(ns_per_day(found['median_ms'], found.get('timestep_fs') or 0.5), 2)} ns a day for "
        f"{title(found['system'])}{few_processes(Ratio.of(found, 'median_ms'))}."
    )


def _over_stock(run: Run, name: str) -> str:
    """The gain over the best of what PyTorch itself offers: Inductor, TorchScript, CUDA graphs of eager."""
    stock = [entry for entry in run.proven("energy_forces") if run.is_stock(entry[0])]
    ours = run.mean_time(name, "energy_forces")
    if not stock or ours is None or run.is_stock(name):
        return ""
    theirs = run.mean_time(stock[0][0], "energy_forces")
    if theirs is None:
        return ""
    return (
        f"That is {times_as_fast(ratio_of(theirs, ours))} as fast as the best of PyTorch's own tools, `{stock[0][0]}`."
    )


def _candidates(run: Run) -> list[str]:
    """Variants to report on if there is no winner: eager; without timings, all equivalent variants."""
    return [BASELINE] if run.timings() else run.equivalent or [BASELINE]


def _correct_line(run: Run, variants: Sequence[str]) -> str:
    return f"{_equal(run, variants)} {_teacher_error(run)}"


def _equal(run: Run, variants: Sequence[str]) -> str:
    """How far the variants are from the same network in fp64."""
    found = [e for name in variants for e in run.of("equivalence", variant=name)]
    errors = [e["force_rmse_mev_per_a"] for e in found if e.get("force_rmse_mev_per_a") is not None]
    alike = [name for name in variants if run.equivalence(name) == "passed"]
    if not errors:
        return f"{_named(variants)} {'was' if len(variants) == 1 else 'were'} not compared with the model in fp64."
    what = f"`{variants[0]}`" if len(variants) == 1 else f"{len(alike)} of {len(variants)} variants"
    others = sorted({e["system"] for e in found if not of_the_run(e) and e["status"] == "ok"})
    where = "molecules" + (f", {', '.join(others)}" if others else " alone")
    if len(variants) == 1 and not alike:
        wrong = next(e for e in found if not e.get("equivalent"))
        return f"No: `{variants[0]}` is not equal to the model: {equivalence_reason(wrong)}."
    verb = "matches" if len(variants) == 1 else "match"
    return f"{what} {verb} the model in fp64: force error at most {max(errors):.2g} meV/Å, on {where}."


def _teacher_error(run: Run) -> str:
    """How far the model is from its teacher, on molecules that it has not seen, and where it is worst."""
    splits = {e["split"]: e for e in run.accuracy() if e.get("force_mae_mev_per_a") is not None}
    seen = _tested(run)
    if seen is None:
        return "How far the model is from its teacher was not measured in this run."
    count = f"{number(seen['n_molecules'])} " if seen.get("n_molecules") else ""
    energy = seen.get("energy_mae_mev_per_atom")
    where = f"{count}molecules that it has not seen"
    if seen.get("n_molecules") and seen.get("trained_molecules") == seen["n_molecules"]:
        where = f"{number(seen['n_configurations'])} geometries, held out, of what it was trained on"
    text = (
        f"The model is {number(seen['force_mae_mev_per_a'], 2)} meV/Å (mean absolute error"
        f"{f'; energies {number(energy, 2)} meV/atom' if energy is not None else ''}) from "
        f"{teacher_method(run) or 'its teacher'} on {where}"
    )
    worst, where = max(_groups(splits), default=(0.0, ""))
    if worst > 1.5 * seen["force_mae_mev_per_a"]:
        text += f"; the mean error is largest, {number(worst, 2)} meV/Å, on {where}"
    return f"{text}."


def _groups(splits: Mapping[str, Any]) -> Iterator[tuple[float, str]]:
    """The force error of each group of molecules, meV/A, and which they are."""
    for split in {"test", "val", "larger", "benchmark"} & splits.keys():
        entry = splits[split]
        if split == "benchmark" and entry.get("by_molecule"):
            yield from (
                (group["force_mae_mev_per_a"], title(molecule_name(name)))
                for name, group in entry["by_molecule"].items()
            )
            continue
        for size, group in (entry.get("by_size") or {}).items():
            high = size.partition(" to ")[2]
            where = f"{WHICH.get(split, 'molecules')} with {size} atoms"
            if split == "benchmark" and size.startswith("1 to ") and high.isdigit():
                where = f"the smallest molecules of this report ({int(high) - 1} atoms or fewer)"
            yield group["force_mae_mev_per_a"], where


def _dynamics(run: Run, variants: Sequence[str]) -> str:
    verdicts = [run.md(name) for name in variants]
    moved = [e for name in variants for e in run.of("md", variant=name) if e.get("drift_mev_per_atom_ps") is not None]
    alike = f"{verdicts.count(PASSED)} of {len(verdicts)} passed" if len(set(verdicts)) > 1 else verdicts[0]
    if not moved:
        return f"{alike.capitalize()}."
    worst = max(moved, key=lambda entry: abs(entry["drift_mev_per_atom_ps"]))
    # In a short run, slow exchange of energy between vibrations looks like a drift; the fp64 run then shows it too.
    too = "; the fp64 run from the same state has the same" if worst.get("drift_like_fp64") else ""
    length = worst["n_steps"] * worst["timestep_fs"] / 1000
    limit = ((worst.get("gates") or {}).get("drift_mev_per_atom_ps") or {}).get("limit")
    where = f"{length:.3g} ps of {title(worst['system'])}"
    allowed = f", allowed {limit:g}" if limit else ""
    return f"{alike.capitalize()}: the largest NVE drift is {drift(worst)} (standard error{allowed}), in {where}{too}."


def _trust_line(
    run: Run, provenance: Mapping[str, Any], settings: Mapping[str, Any], winner: tuple[str, Any] | None
) -> str:
    doubts = doubts_about(run, provenance, settings, winner)
    if not doubts:
        return (
            "Yes: eager timed against itself shows no difference, every timing was repeated in several processes, most are "
            "known to a few per cent, and the checks passed."
        )
    return f"With care: {'; '.join(doubts)}."


def _others(run: Run) -> list[str]:
    """What else kept the machine busy during timings, as text; empty where nothing did or it was not counted."""
    # On a CPU the teacher's timings are among both.
    timed = {id(e): e for e in (*run.of("benchmark"), *run.teacher()) if e["status"] == "ok"}
    known = [e for e in timed.values() if e.get("alone") is not None]
    beside = [e.get("others_cores") or 0.0 for e in known if not e["alone"]]
    if not beside:
        return []
    return [
        f"{len(beside)} of {len(known)} timings had other work beside them, of up to {number(max(beside), 2)} cores"
    ]


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
    doubts += _others(run)
    wide = sum(half_width(entry) > WIDE for entry in timed)
    if wide > len(timed) / 10:
        share = f"{100 * wide / len(timed):.0f}\u00a0% of the median times"
        doubts.append(
            f"{share} have a 95\u00a0% interval wider than ±{100 * WIDE:.0f}\u00a0%: rely on the intervals in brackets"
        )
    if winner and run.md(winner[0]) != PASSED:
        doubts.append("MD was not run for the winner")
    return doubts + list(provenance["warnings"])
