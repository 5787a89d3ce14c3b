"""Captions of the figures: what a figure shows in this run, from the records, and how to read it.

They are separate from the drawing, so that an edited caption redraws no figure.
"""

from collections.abc import Callable

from mlff_distiller.decisions.ladder import ladder
from mlff_distiller.records.outcome import FAILED, PASSED, TOO_SHORT, md_outcome
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.vocabulary import BASELINE, TASKS
from mlff_distiller.records.wording import about, drift, interval, number, spread, times_as_fast, title
from mlff_distiller.report import acceptance_captions
from mlff_distiller.report.bands import largest_shift
from mlff_distiller.report.figures.accuracy import Group, group_name, groups, split_title, worst
from mlff_distiller.report.figures.ase_overhead import through_ase
from mlff_distiller.report.figures.checks import UNLIKELY
from mlff_distiller.report.figures.uncertainty import judged
from mlff_distiller.report.names import batch_title, kernel_name
from mlff_distiller.report.render import slower_or_faster

TITLES = {
    "ladder": "The ladder, from eager to fused kernels",
    "ladder_all": "All variants",
    "latency": "Latency against size",
    "energy_forces": "What forces cost",
    "neighbors": "Neighbor search against size",
    "compile": "Compile cost and break-even",
    "throughput": "Throughput of batches",
    "system_size": "Cost of large systems",
    "ase_overhead": "Calls through ASE",
    "kernel_times": "Where the time of a call goes",
    "roofline": "Roofline",
    "warm_up": "The first calls",
    "pareto": "Accuracy against speed",
    "nve_drift": "Energy conservation in MD",
    "md_energy": "Energy along the trajectories",
    "md_timestep": "Order of the integrator",
    "md_kinetic": "Kinetic energy at constant temperature",
    "md_spectra": "Bonds, angles and vibrations against the teacher",
    "md_pairs": "Liquids against the teacher",
    "accuracy": "Accuracy per split of the data",
    "force_parity": "Forces of student and teacher",
    "force_errors": "Where the force error lies",
    "learning_curve": "Learning curve of the student",
    "uncertainty": "Errors that the student expects",
    **acceptance_captions.TITLES,
}
#: How to read each figure; the same for every run.
READING = {
    "ladder": "At the bottom eager, timed against itself, at the top the winner, between them the fastest of each kind: "
    "geometric means over the molecules with 95 % interval. Gray stars and bars: gains that the source report measured and "
    "projected.",
    "ladder_all": "As the first figure, with every variant that was timed or did not work. Hollow: not equivalent to the "
    "student; the gray steps pass it over.",
    "latency": "Both axes logarithmic. Named: eager, the winner, the best of PyTorch's own tools and of other kinds; the other "
    "variants are gray.",
    "energy_forces": "Geometric means over the molecules with 95 % interval. A cross marks a variant that is not equivalent to "
    "the student.",
    "neighbors": "Both axes logarithmic. Each search is timed as the model calls it.",
    "compile": "Calls until it has paid: compile time divided by the time saved per energy + forces call. On molecules on "
    "which a variant is not shown to be faster it never pays. What pays soonest is on top.",
    "throughput": "Energy + forces of many molecules in one call, both axes logarithmic. A line ends at the limit of memory or "
    "time; a mix has at least one of each molecule.",
    "system_size": "Boxes of a liquid, energy + forces. Eager uses the faster of its neighbor searches. A line ends at the "
    "limit of memory or time.",
    "ase_overhead": "The positions change at every call. Bare calls and calls through ASE take turns in the same processes; "
    "where the 95 % interval of the ratio of their times spans 1, what ASE adds is not measurable. Each panel has its own scale.",
    "kernel_times": "Kernel times: torch.profiler; wall time: without it. Operators that take longer under the profiler than the "
    "whole call without it are shares of their sum. One-launch kernel: the whole network in one kernel.",
    "roofline": "FLOP and bytes are from formulas for the network, so work that a kernel avoids counts as done, and a point may "
    "lie above a roof. Slope and roofs are measured on the same device (copy, matrix products).",
    "warm_up": "Every call after loading, in order, one molecule after the other; rings: the first. The other timings of this "
    "report begin after these calls.",
    "pareto": "Lower left is better. Hollow: not equivalent to the student. Named: what differs. Dashed: the student's own error "
    "on molecules that it has not seen, beside which the errors of the variants vanish.",
    "nve_drift": "One point per molecule, the smallest molecule on top, of runs long enough to tell; the name says how long. "
    "A run passes "
    "when its bar lies within the limit.",
    "md_energy": "Total energy relative to the first frame: the winner, the same start in fp64, eager, all others in light gray.",
    "md_timestep": "NVE in fp64. With exact forces the fluctuation of the energy grows with the square of the time step.",
    "md_kinetic": "Langevin dynamics. p: Kolmogorov-Smirnov test on samples that are far enough apart to be independent; "
    f"orange: below {UNLIKELY:g}, as it is by chance in one run of {1 / UNLIKELY:.0f}.",
    "md_spectra": "The same Langevin dynamics with student and teacher. Vibrations: power spectrum of the mass-weighted "
    "velocities.",
    "md_pairs": "Pair distributions from the same Langevin dynamics with student and teacher, without pairs of one molecule; "
    "the pair that differs most comes first.",
    "accuracy": "Mean absolute errors against the teacher's labels. Unseen: molecules not used in training; larger than "
    "trained: molecules larger than any of those; own MD: frames of the student's own MD; the benchmark molecules, of which "
    "the model card says which were trained on; clusters and droplets: other configurations of what is always trained on.",
    "force_parity": "Error of each force component against the teacher's force, one panel per split of the data; the darker, "
    "the more components (logarithmic). Between the dashed lines the error is smaller than the mean absolute error (MAE). The "
    "axes hold 99 % of all forces and of all errors; how many components lie outside is written below.",
    "force_errors": "One dot per group of atoms, sorted by the size of their molecule, their element, and the length of the "
    "teacher's force; groups of fewer than 10 atoms are left out. Named: benchmark molecules, and the largest error of all in "
    "bold.",
    "learning_curve": "Both error axes start at zero. The dot marks the weights of the final student, the dashed line their "
    "error.",
    "uncertainty": "On molecules that the student has not seen. Left: root mean square errors of force components in groups of "
    "equally many atoms, sorted by the error expected; dashed: as expected. Right: the same configurations, changed into "
    "others unlike any trained; the area is the chance that such a one looks stranger than one that was not changed.",
    **acceptance_captions.READING,
}


def caption(name: str, run: Run) -> str:
    """One sentence on what figure ``name`` shows in this run."""
    return SENTENCES[name](run) or "This run has nothing to show here."


def _ladder_all(run: Run) -> str:
    per_task = []
    for task, words in zip(TASKS, ("on the energy alone", "on energy + forces"), strict=True):
        if ranking := run.ranking(task):
            name, ratio = ranking[0]
            slower = sum(r.verdict == "slower" for _, r in ranking)
            open_ = sum(r.verdict == "no difference shown" for _, r in ranking)
            rest = [f"{slower} slower" if slower else "", f"{open_} with no difference shown" if open_ else ""]
            counted = ", ".join(
                [f"{len(ranking) - slower - open_} of {len(ranking)} variants faster", *filter(None, rest)]
            )
            per_task.append(f"{words}, {name} leads, {times_as_fast(ratio)} as fast as eager ({counted})")
    text = "; ".join(per_task)
    return text[:1].upper() + text[1:] + "." if text else ""


def _latency(run: Run) -> str:
    times = run.times(BASELINE, "energy_forces")
    if len(times) < 2:
        return ""
    small, large = next(iter(times)), list(times)[-1]
    atoms = run.systems[large] / max(run.systems[small], 1)
    growth = times[large].value / times[small].value
    text = f"From {title(small)} to {title(large)} ({atoms:.0f} times the atoms) eager takes {growth:.1f} times as long"
    if winner := run.winner():
        ours = run.times(winner[0], "energy_forces")
        text += f", {winner[0]} {ours[large].value / ours[small].value:.1f} times"
    teacher = {e["system"]: e["median_ms"] for e in run.teacher()}
    if large in teacher:
        text += f"; on {title(large)} the teacher is {slower_or_faster(teacher[large] / times[large].value)} than eager"
    return text + "."


def _energy_forces(run: Run) -> str:
    ratios = {name: ratio for name in run.variants if (ratio := run.force_ratio(name))}
    if BASELINE not in ratios:
        return ""
    cheapest = min(ratios, key=lambda name: ratios[name].value)
    dearest = max(ratios, key=lambda name: ratios[name].value)
    text = f"With eager, energy + forces take {interval(ratios[BASELINE])} the time of the energy alone"
    if cheapest != dearest:
        text += (
            f"; this ratio is smallest for {cheapest} ({ratios[cheapest].value:.2f}×) "
            f"and largest for {dearest} ({ratios[dearest].value:.2f}×)"
        )
    return text + "."


def _neighbors(run: Run) -> str:
    search, whole = (run.times(BASELINE, task) for task in ("neighbors", "energy_forces"))
    shared = [system for system in search if system in whole]
    if not shared:
        return ""
    shares = {system: search[system].value / whole[system].value for system in (shared[0], shared[-1])}
    text = ", ".join(f"{share:.0%} on {title(system)}" for system, share in shares.items())
    return f"Share of the neighbor search in the time of eager's energy + forces: {text}."


def _compile(run: Run) -> str:
    seconds = {e["variant"]: e["compile_s"] for e in run.of("compile", status="ok") if e.get("compile_s")}
    if not seconds:
        return ""
    dearest = max(seconds, key=lambda name: seconds[name])
    text = f"{dearest} takes longest to compile ({seconds[dearest]:.3g} s)"
    winner = run.winner()
    found = run.benchmarks(winner[0], "energy_forces").values() if winner else []
    steps = [e["break_even_steps"] for e in found if e["break_even_steps"]]
    if winner and steps:
        on = "depending on the molecule" if len(steps) == len(found) else f"on {len(steps)} of {len(found)} molecules"
        text += f"; {winner[0]} has saved its own compile time after {min(steps):,} to {max(steps):,} calls, {on}"
    return text + "."


def _throughput(run: Run) -> str:
    found = [e for e in run.of("benchmark", task="throughput", status="ok") if e.get("atoms_per_s")]
    if not found:
        return ""
    best = max(found, key=lambda e: e["atoms_per_s"])
    ratio = f", {best['speedup']:.1f}× eager" if best["speedup"] else ""
    return (
        f"The highest throughput is {best['atoms_per_s']:,.0f} atoms per second, by {best['variant']} with "
        f"{best['batch']:,} molecules ({batch_title(run, best['system'])}) in one call{ratio}."
    )


def _system_size(run: Run) -> str:
    found = [e for e in run.of("benchmark", task="periodic", status="ok") if e.get("median_ms")]
    if not found:
        return ""
    largest = max(found, key=lambda e: (e["n_atoms"], -e["median_ms"]))
    ours = [e for e in found if e["variant"] == largest["variant"]]
    smallest = min(ours, key=lambda e: e["n_atoms"])
    costs = [1e3 * e["median_ms"] / e["n_atoms"] for e in (smallest, largest)]
    text = (
        f"{largest['variant']} takes {costs[0]:.3g} µs per atom for {smallest['n_atoms']:,} atoms and {costs[1]:.3g} µs per "
        f"atom for {largest['n_atoms']:,}"
    )
    errors = [e["force_rmse_mev_per_a"] for e in found if e.get("force_rmse_mev_per_a") is not None]
    return text + (f"; the largest force error against fp64 is {max(errors):.2g} meV/Å." if errors else ".")


def _ase_overhead(run: Run) -> str:
    found = [e for e in run.of("benchmark", task="calculator", status="ok") if e.get("speedup")]
    if not found:
        return ""
    best = max(found, key=lambda e: e["speedup"])
    text = f"Through ASE {best['variant']} is up to {best['speedup']:.3g}× as fast as eager ({title(best['system'])})"
    calls = through_ase(run, best["variant"])
    added = [call.added for call in calls.values() if call.added is not None]
    if added:
        text += f"; ASE adds {spread(added)} ms to a call"
    if len(added) < len(calls):
        text += f"; on {len(calls) - len(added)} of {len(calls)} molecules what it adds is not measurable"
    if not all(call.together for call in calls.values()):
        text += (
            "; in this run the bare calls were timed in other processes than those through ASE, and are told apart only where "
            "the intervals of both times do not overlap"
        )
    return text + "."


def _kernel_times(run: Run) -> str:
    found = [e for e in run.of("profile", status="ok") if e.get("kernels")]
    if not found:
        return ""
    first = min(found, key=lambda e: e["wall_ms"])
    largest = max(first["kernels"], key=lambda kernel: kernel["us"])
    text = f"One call of {first['variant']} takes {first['wall_ms']:.3g} ms and runs {first['n_kernels']:.0f} {first['unit']}s"
    busy = first.get("gpu_busy_percent")
    text += f"; the GPU is busy for {busy:.0f} % of that time" if busy is not None else ""
    outside = 1 - sum(kernel["us"] for kernel in first["kernels"]) / 1e3 / first["wall_ms"]
    if busy is None and outside > 0.5:
        return f"{text}; {outside:.0%} of that time is outside PyTorch's operators."
    return f"{text}; the longest is the {kernel_name(largest['name'])}, {largest['us'] / 1e3:.2g} ms."


def _roofline(run: Run) -> str:
    roofs = [e["ceilings"] for e in run.of("profile", status="ok") if e.get("ceilings")]
    found = [e for t in ("throughput", "periodic") for e in run.of("benchmark", task=t, status="ok") if e.get("gflop")]
    if not roofs or not found:
        return ""
    best = max(found, key=lambda e: e["gflop"] / e["median_ms"])
    rate = 1e3 * best["gflop"] / best["median_ms"]
    shares = spread(100 * rate / roof["float32_gflop_per_s"] for roof in roofs)
    return (
        f"By formula {best['variant']} computes at {rate:,.0f} GFLOP/s: as fast as if it did all of that work at {shares} % of "
        "the rate of a float32 matrix product here; work that a kernel avoids is counted as done."
    )


def _nve_drift(run: Run) -> str:
    entries = [e for e in run.of("md") if e.get("drift_mev_per_atom_ps") is not None]
    if not entries:
        return ""
    worst = max(entries, key=lambda e: abs(e["drift_mev_per_atom_ps"]))
    outcomes = [md_outcome(e) for e in entries]
    failed = list(
        dict.fromkeys(e["variant"] for e, outcome in zip(entries, outcomes, strict=True) if outcome == FAILED)
    )
    text = f"{outcomes.count(PASSED)} of {len(entries)} trajectories passed all gates"
    text += f", {outcomes.count(TOO_SHORT)} are too short to tell" if TOO_SHORT in outcomes else ""
    text += f" (failed: {', '.join(failed)})" if failed else ""
    # Of one system, equal drifts to the last bit are one trajectory: variants that run the same code.
    distinct = len({(e["system"], e.get("task"), e["drift_mev_per_atom_ps"]) for e in entries})
    text += (
        f"; {len(entries) - distinct} are those of another variant to the last bit" if distinct < len(entries) else ""
    )
    where = f"{worst['variant']} on {title(worst['system'])}"
    return f"{text}; the largest drift is {drift(worst)}, {where}."


def _md_energy(run: Run) -> str:
    entries = [e for e in run.of("md") if e.get("max_energy_excursion_mev_per_atom") is not None]
    if not entries:
        return ""
    worst = max(entries, key=lambda e: e["max_energy_excursion_mev_per_atom"])
    eager = [e["max_energy_excursion_mev_per_atom"] for e in entries if e["variant"] == BASELINE]
    text = (
        f"The total energy deviates from its first value by at most {worst['max_energy_excursion_mev_per_atom']:.2g} "
        f"meV/atom ({worst['variant']} on {title(worst['system'])})"
    )
    text += f", with eager by {max(eager):.2g}" if eager else ""
    excursions = [
        max(map(abs, e["fp64_energy_trace"]["total_mev_per_atom"])) for e in entries if e.get("fp64_energy_trace")
    ]
    return text + (f", in fp64 by {max(excursions):.2g}." if excursions else ".")


def _md_timestep(run: Run) -> str:
    entries = [e for e in run.of("md", task="timestep") if e.get("ratios")]
    if not entries:
        return ""
    finest = [e["ratios"][-1] for e in entries]
    step = entries[0]["timesteps_fs"][-2:]
    return (
        f"Halving the time step from {step[0]:g} to {step[1]:g} fs divides the fluctuation by {min(finest):.2f} to "
        f"{max(finest):.2f}; 4 is expected of a second-order integrator."
    )


def _md_kinetic(run: Run) -> str:
    entries = [e for e in run.of("md", task="nvt") if e.get("p_value") is not None]
    if not entries:
        return ""
    worst = min(entries, key=lambda e: e["p_value"])
    unlikely = sum(e["p_value"] < UNLIKELY for e in entries)
    return (
        f"{sum(bool(e.get('passed')) for e in entries)} of {len(entries)} runs passed; p is below {UNLIKELY:g} in "
        f"{unlikely or 'none'} of them; the smallest p is {worst['p_value']:.2g} ({worst['variant']} on "
        f"{title(worst['system'])}, mean temperature {worst['mean_temperature_k']:.1f} ± "
        f"{worst['temperature_stderr_k']:.1f} K for {worst['temperature_k']:g} K).{_second_seeds(entries)}"
    )


def _second_seeds(entries: list[Record]) -> str:
    """On the runs of which a second seed was judged together with the first."""
    again = [e for e in entries if e.get("first_p_value") is not None]
    if not again:
        return ""
    which = ", ".join(f"{e['variant']} on {title(e['system'])} ({e['first_p_value']:.2g})" for e in again)
    return (
        f" Where the first trajectory was unlikely (p in brackets), a second of another seed ran, and histogram, temperature and "
        f"p are of both together: {which}."
    )


def _md_spectra(run: Run) -> str:
    entries = [e for e in run.of("md", task="spectra") if e.get("spectrum_difference") is not None]
    if not entries:
        return ""
    worst = max(entries, key=lambda e: e["spectrum_difference"])
    differences = [f"{1 - worst['spectrum_difference']:.0%} of the area of the vibrational spectra in common"]
    for field, unit in (("bond_distance_a", "Å between bond lengths"), ("angle_distance_deg", "° between angles")):
        if found := [e[field] for e in entries if e.get(field) is not None]:
            differences.append(f"at most {max(found):.2g} {unit}")
    text = f"Student and teacher have at least {', '.join(differences)} (mean Wasserstein distance)"
    return f"{text}{_shifted_band(entries)}."


def _md_pairs(run: Run) -> str:
    entries = [e for e in run.of("md", task="pairs") if e.get("pair_difference") is not None]
    if not entries:
        return ""
    worst = max(entries, key=lambda e: e["pair_difference"])
    return (
        f"Student and teacher have at least {1 - worst['pair_difference']:.0%} of each pair distribution in common "
        f"({worst['worst_pair']} in {title(worst['system'])}; the teacher's halves {1 - worst['floor']:.0%}); molecules diffuse "
        f"at {worst['diffusion_e9_m2_s']:.2g} ± {worst['diffusion_stderr_e9_m2_s']:.1g} with {worst['variant']} and "
        f"{worst['teacher_diffusion_e9_m2_s']:.2g} ± {worst['teacher_diffusion_stderr_e9_m2_s']:.1g} 10⁻⁹ m²/s with the teacher."
    )


def _shifted_band(entries: list[Record]) -> str:
    """On the band shifted most, of the spectrum that differs most beyond what the halves of the teacher's differ by."""
    beyond = [e for e in entries if e.get("distributions") and e["spectrum_difference"] > _of_halves(e)]
    if not beyond:
        return ""
    found = max(beyond, key=lambda e: e["spectrum_difference"] - _of_halves(e))
    shift = largest_shift(found["distributions"])
    if shift is None or abs(shift.by) < 5:  # the spectra have a point every 10 1/cm
        return ""
    at, by, side = round(shift.at, -1), round(abs(shift.by), -1), "higher" if shift.by > 0 else "lower"
    return (
        f"; the band of {title(found['system'])} near {at:.0f} 1/cm lies {by:.0f} 1/cm {side} with {found['variant']} than "
        "with the teacher"
    )


def _of_halves(entry: Record) -> float:
    floor: float = entry["floor"]["spectrum_difference"]
    return floor


def _accuracy(run: Run) -> str:
    entries = [e for e in run.accuracy() if e.get("force_mae_mev_per_a")]
    if not entries:
        return ""
    errors = [f"{_split(e)} {e['force_mae_mev_per_a']:.3g}" for e in entries]
    text = f"Mean absolute force error in meV/Å: {', '.join(errors)}."
    benchmark = next((e for e in entries if e["split"] == "benchmark"), None)
    named = [group for group in (groups(run, benchmark) if benchmark else []) if group.molecules]
    if benchmark and named:
        far = worst(named)
        energy = benchmark["by_size"][far.name]["energy_mae_mev_per_atom"]
        text += f" Worst of {_split(benchmark)}: {_molecules(far)} ({far.error:.3g} meV/Å, {energy:.3g} meV/atom)."
    return text


def _split(entry: Record) -> str:
    """A split of the data within a sentence."""
    return split_title(entry) + (" benchmark molecules" if entry["split"] == "benchmark" else "")


def _molecules(group: Group) -> str:
    return " and ".join(map(title, group.molecules))


def _ladder(run: Run) -> str:
    names = [name for name, _ in ladder(run)]
    if not names:
        return ""
    best = {name: ratio for name, ratio in run.ranking("energy_forces") if name in names}
    faster = [name for name in names if name in best and best[name].verdict == "faster"]
    missing = sum(name in run.problems() for name in names)
    text = f"Of {len(names)} variants {len(faster)} are faster than eager on energy + forces"
    if faster:
        top = max(faster, key=lambda name: best[name].value)
        text += f", the fastest of them {top}, {times_as_fast(best[top])} as fast"
    return text + (f"; {missing} failed or were unavailable (reasons in the table of failures)." if missing else ".")


def _warm_up(run: Run) -> str:
    found = {}
    for name, calls in run.first_calls().items():
        times = next(iter(calls.values()), [])
        if len(times) > 2 and (name == BASELINE or run.families.get(name) == "torchscript"):
            found[name] = max(times) / times[-1]
    if not found:
        return ""
    name = max(found, key=lambda key: found[key])
    system = next(iter(run.first_calls()[name]))
    text = f"On {title(system)} the slowest of {name}'s first calls took {found[name]:.3g} times as long as the last of them"
    eager = next(iter(run.first_calls().get(BASELINE, {}).values()), [])
    return f"{text}; eager's took {eager[0]:.3g} ms, then {eager[-1]:.3g} ms." if len(eager) > 1 else f"{text}."


def _pareto(run: Run) -> str:
    errors = {name: run.reference_error(name) for name in run.equivalent}
    errors = {name: error for name, error in errors.items() if error and run.mean_time(name, "energy_forces")}
    if not errors:
        return ""
    winner = run.winner()
    name = winner[0] if winner else min(errors, key=lambda key: run.mean_time(key, "energy_forces").value)
    text = (
        f"{name} takes {run.mean_time(name, 'energy_forces').value:.3g} ms; its force error against fp64 is "
        f"{errors[name]:.2g} meV/Å"
    )
    if own := run.teacher_error(BASELINE):
        apart = about(own[0] / errors[name], 2)
        text += f", some {apart} times smaller than the student's error against its teacher ({own[0]:.3g} meV/Å)"
    return text + "."


def _force_parity(run: Run) -> str:
    found = [f"{_split(e)} {e['force_r2']:.4f}" for e in run.accuracy() if e.get("force_r2") is not None]
    return f"R² of the forces: {', '.join(found)}." if found else ""


def _force_errors(run: Run) -> str:
    entries = [e for e in run.accuracy() if e.get("by_element")]
    found = [group for entry in entries for group in groups(run, entry)]
    if not found:
        return ""
    names = {str(e["split"]): _split(e) for e in entries}
    largest, first = worst(found), str(entries[0]["split"])
    text = f"The force error is largest, {largest.error:.3g} meV/Å, on {_group(largest)} ({names[largest.split]})"
    if elements := [g for g in found if g.grouping == "by_element" and g.split == first]:
        far, near = worst(elements), min(elements, key=lambda g: g.error)
        text += f"; among elements ({names[first]}) on {_group(far)} ({far.error:.3g}), smallest on {_group(near)} "
        text += f"({near.error:.3g})"
    return text + "."


def _group(group: Group) -> str:
    """The atoms of a group in words."""
    from ase.data import atomic_names

    if group.molecules:
        return _molecules(group)
    if group.grouping == "by_element":
        return str(atomic_names[int(group.name)]).lower()
    name = group_name(group.grouping, group.name)
    return f"molecules of {name} atoms" if group.grouping == "by_size" else f"atoms with forces of {name} eV/Å"


def _learning_curve(run: Run) -> str:
    training = run.training()
    if training is None:
        return ""
    curve, made = training["learning_curve"], training["training"]
    best = min(curve, key=lambda entry: entry["val_force_mae_mev_per_a"])
    return (
        f"{made['n_training']:,} configurations, {made['steps']:,} steps in {made['seconds'] / 60:.3g} min on "
        f"{made['device']}: the force error on held-out molecules ended at {best['val_force_mae_mev_per_a']:.3g} meV/Å."
    )


def _uncertainty(run: Run) -> str:
    entry = judged(run)
    if entry is None:
        return ""
    expected, found = (entry["reliability"][key] for key in ("expected_mev_per_a", "found_mev_per_a"))
    apart = [max(e / f, f / e) for e, f in zip(expected, found, strict=True) if e and f]
    detection = entry["reliability"]["detection"]
    text = (
        f"Expected errors of {spread([e for e in expected if e])} meV/Å are at most {number(max(apart), 2)} times off"
    )
    if detection:
        worst = min(detection, key=lambda name: detection[name])
        text += f"; hardest to recognize: {worst} ({number(detection[worst], 2)})"
    return f"{text}."


SENTENCES: dict[str, Callable[[Run], str]] = {
    "ladder": _ladder,
    "ladder_all": _ladder_all,
    "latency": _latency,
    "energy_forces": _energy_forces,
    "neighbors": _neighbors,
    "compile": _compile,
    "throughput": _throughput,
    "system_size": _system_size,
    "ase_overhead": _ase_overhead,
    "kernel_times": _kernel_times,
    "roofline": _roofline,
    "warm_up": _warm_up,
    "pareto": _pareto,
    "nve_drift": _nve_drift,
    "md_energy": _md_energy,
    "md_timestep": _md_timestep,
    "md_kinetic": _md_kinetic,
    "md_spectra": _md_spectra,
    "md_pairs": _md_pairs,
    "accuracy": _accuracy,
    "force_parity": _force_parity,
    "force_errors": _force_errors,
    "learning_curve": _learning_curve,
    "uncertainty": _uncertainty,
    **acceptance_captions.SENTENCES,
}
