"""Captions of the figures: what a figure shows in this run, from the records, and how to read it.

They are separate from the drawing, so that an edited caption redraws no figure.
"""

from collections.abc import Callable

from mlff_distiller.decisions.ladder import ladder
from mlff_distiller.records.outcome import FAILED, PASSED, TOO_SHORT, md_outcome
from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE, TASKS
from mlff_distiller.records.wording import drift, interval, times_as_fast, title
from mlff_distiller.report import acceptance_captions
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
    "accuracy": "Accuracy per split of the data",
    "force_parity": "Forces of student and teacher",
    "force_errors": "Where the force error lies",
    "learning_curve": "Learning curve of the student",
    **acceptance_captions.TITLES,
}
#: How to read each figure; the same for every run.
READING = {
    "ladder": "The winner on top, eager (timed against itself, a control) at the bottom, between them the fastest variant of "
    "each kind; below a name stands what it is. Diamonds: geometric mean over the molecules with 95 % interval. The gray line "
    "follows the best so far from the bottom up. Gray stars and bars: gains that the source report measured and projected.",
    "ladder_all": "As the first figure, with every variant that was timed or did not work.",
    "latency": "Both axes logarithmic. Named: eager, the winner, the best of PyTorch's own tools and of other kinds; the other "
    "variants are gray.",
    "energy_forces": "Geometric means over the molecules with 95 % interval. A cross marks a variant that is not equivalent to "
    "the student.",
    "neighbors": "Both axes logarithmic. Each search is timed as the model calls it.",
    "compile": "Steps to break even: compile time divided by the time saved per energy + forces evaluation.",
    "throughput": "Energy + forces of many molecules in one call, both axes logarithmic. A line ends at the limit of memory or "
    "time.",
    "system_size": "Boxes of a liquid, energy + forces. Eager uses the faster of its neighbor searches.",
    "ase_overhead": "One dot per molecule; the positions change at every call.",
    "kernel_times": "One energy + forces call of one molecule. Kernel times: torch.profiler; wall time: without it.",
    "roofline": "FLOP and bytes are from formulas; the roofs are measured on the same device (copy, matrix products).",
    "warm_up": "Every call after loading, in order, one molecule after the other. The other timings of this report begin "
    "after these calls.",
    "pareto": "Lower left is better. Hollow: not equivalent to the student. Named: what differs. Dashed: the student's own error "
    "on molecules that it has not seen, beside which the errors of the variants vanish.",
    "nve_drift": "One point per molecule, the smallest on top, of runs long enough to tell; the name says how long. A run passes "
    "when its bar lies within the limit.",
    "md_energy": "Total energy relative to the first frame: the winner, eager, and all other variants in gray.",
    "md_timestep": "NVE in fp64. With exact forces the fluctuation of the energy grows with the square of the time step.",
    "md_kinetic": "Langevin dynamics. p: Kolmogorov-Smirnov test on samples that are far enough apart to be independent.",
    "md_spectra": "The same Langevin dynamics with student and teacher. Vibrations: power spectrum of the mass-weighted "
    "velocities.",
    "accuracy": "Errors against the teacher's labels. val, test: molecules not used in training; larger: molecules larger "
    "than those; benchmark: the benchmark molecules; visited: frames of the student's own MD. Dashed lines: force errors up "
    "to which a model counts as excellent, good or usable on molecules not used in training (Amin et al., ICLR 2025).",
    "force_parity": "Each dot is one component of a force; on the line student and teacher agree. MAE and RMSE in meV/Å.",
    "force_errors": "The error axis is logarithmic. Forces are grouped by their length in the teacher's label; groups "
    "of fewer than 10 atoms are left out.",
    "learning_curve": "Both error axes logarithmic. The dot marks the weights of the final student.",
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
    steps = [e["break_even_steps"] for e in run.benchmarks(winner[0], "energy_forces").values()] if winner else []
    if steps and all(steps):
        text += (
            f"; {winner[0]} has saved that time after {min(steps):,} to {max(steps):,} steps, depending on the molecule"
        )
    return text + "."


def _throughput(run: Run) -> str:
    found = [e for e in run.of("benchmark", task="throughput", status="ok") if e.get("atoms_per_s")]
    if not found:
        return ""
    best = max(found, key=lambda e: e["atoms_per_s"])
    ratio = f", {best['speedup']:.1f}× eager" if best["speedup"] else ""
    return (
        f"The highest throughput is {best['atoms_per_s']:,.0f} atoms per second, by {best['variant']} with "
        f"{best['batch']:,} molecules ({title(best['system'])}) in one call{ratio}."
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
    return f"Through ASE {best['variant']} is up to {best['speedup']:.2f}× as fast as eager ({title(best['system'])})."


def _kernel_times(run: Run) -> str:
    found = [e for e in run.of("profile", status="ok") if e.get("kernels")]
    if not found:
        return ""
    first = min(found, key=lambda e: e["wall_ms"])
    largest = max(first["kernels"], key=lambda kernel: kernel["us"])
    text = f"One call of {first['variant']} takes {first['wall_ms']:.3g} ms and runs {first['n_kernels']:.0f} {first['unit']}s"
    busy = first.get("gpu_busy_percent")
    text += f"; the GPU is busy for {busy:.0f} % of that time" if busy is not None else ""
    name = largest["name"].partition("(")[0][:60]
    return f"{text}; the longest {first['unit']}, named {name}, takes {largest['us'] / 1e3:.2g} ms."


def _roofline(run: Run) -> str:
    roofs = [e["ceilings"] for e in run.of("profile", status="ok") if e.get("ceilings")]
    found = [e for t in ("throughput", "periodic") for e in run.of("benchmark", task=t, status="ok") if e.get("gflop")]
    if not roofs or not found:
        return ""
    best = max(found, key=lambda e: e["gflop"] / e["median_ms"])
    rate, roof = 1e3 * best["gflop"] / best["median_ms"], max(r["float32_gflop_per_s"] for r in roofs)
    return f"{best['variant']} reaches {rate:,.0f} GFLOP/s, {rate / roof:.0%} of the rate of a float32 matrix product here."


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
    return text + (f", with eager by {max(eager):.2g}." if eager else ".")


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
    return (
        f"{sum(bool(e.get('passed')) for e in entries)} of {len(entries)} runs passed; the smallest p is "
        f"{worst['p_value']:.2g} ({worst['variant']} on {title(worst['system'])}, mean temperature "
        f"{worst['mean_temperature_k']:.1f} ± {worst['temperature_stderr_k']:.1f} K for {worst['temperature_k']:g} K)."
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
    return f"Student and teacher have at least {', '.join(differences)} (mean Wasserstein distance)."


def _accuracy(run: Run) -> str:
    errors = {e["split"]: e["force_mae_mev_per_a"] for e in run.accuracy() if e.get("force_mae_mev_per_a")}
    if not errors:
        return ""
    split = next((name for name in ("test", "larger", "val") if name in errors), next(iter(errors)))
    others = {name: value for name, value in errors.items() if name != split}
    text = f"The mean absolute force error is {errors[split]:.3g} meV/Å on the split {split!r}"
    return text + (f" ({', '.join(f'{name} {value:.3g}' for name, value in others.items())})." if others else ".")


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
    return f"On {title(system)} the slowest of {name}'s first calls took {found[name]:.3g} times as long as the last of them."


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
        text += f", {own[0] / errors[name]:,.0f} times smaller than the student's error against its teacher ({own[0]:.3g} meV/Å)"
    return text + "."


def _force_parity(run: Run) -> str:
    found = {e["split"]: e["force_r2"] for e in run.accuracy() if e.get("force_r2") is not None}
    return f"R² of the forces: {', '.join(f'{split} {value:.4f}' for split, value in found.items())}." if found else ""


def _force_errors(run: Run) -> str:
    from ase.data import atomic_names

    entries = [e for e in run.accuracy() if e.get("by_element")]
    if not entries:
        return ""
    errors = {int(z): group["force_mae_mev_per_a"] for z, group in entries[0]["by_element"].items()}
    worst, best = max(errors, key=lambda z: errors[z]), min(errors, key=lambda z: errors[z])
    return (
        f"On the split {entries[0]['split']!r} the force error is largest on {atomic_names[worst].lower()} "
        f"({errors[worst]:.3g} meV/Å) and smallest on {atomic_names[best].lower()} ({errors[best]:.3g})."
    )


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
    "accuracy": _accuracy,
    "force_parity": _force_parity,
    "force_errors": _force_errors,
    "learning_curve": _learning_curve,
    **acceptance_captions.SENTENCES,
}
