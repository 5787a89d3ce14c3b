"""Rows of the report's tables, from the records, in the order in which they are printed."""

import math
from collections.abc import Mapping
from statistics import median
from typing import Any

from mlff_distiller.records.outcome import PASSED, TOO_SHORT, md_outcome, refuses
from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.vocabulary import BASELINE, TASKS, TEACHER
from mlff_distiller.records.wording import drift, few_processes, interval, number, title
from mlff_distiller.variants.equivalence import TOLERANCES, limits

#: Fields of an NVE record about its drift.
DRIFT_FIELDS = ("drift_mev_per_atom_ps", "drift_stderr_mev_per_atom_ps", "fp64_drift_mev_per_atom_ps")
#: Tasks whose records are of NVE.
NVE_TASKS = ("nve", "liquid")
#: Half an interval wider than this share of the median time is worth a word.
WIDE = 0.10
#: Scaling task -> heading of its table.
SCALING_TITLES = {
    "throughput": "Batches of molecules",
    "periodic": "Large periodic systems",
    "calculator": "Through the ASE calculator",
    "md_steps": "MD steps",
}


def half_width(entry: Mapping[str, Any]) -> float:
    """Half of the 95 % interval of a median time, as a share of it; 0 where there is none."""
    if not entry.get("median_ci95_ms"):
        return 0.0
    low, high = entry["median_ci95_ms"]
    return float((high - low) / 2 / entry["median_ms"])


def overview(run: Run) -> list[dict[str, Any]]:
    """One row per variant, fastest first, those without a speed-up last."""
    rows = []
    problems = run.problems()
    for name in run.variants:
        ratios = {task: run.overall(name, task) for task in TASKS}
        compiled = [e["compile_s"] for e in run.of("compile", variant=name) if e.get("compile_s") is not None]
        rows.append(
            {
                "variant": name,
                "dtype": next((e["dtype"] for e in run.of("benchmark", variant=name) if e["dtype"]), "-"),
                **{task: interval(ratio) if ratio else "-" for task, ratio in ratios.items()},
                "verdict": ratios["energy_forces"].verdict
                if ratios["energy_forces"]
                else problems.get(name, ("-",))[0],
                "time": run.mean_time(name, "energy_forces"),
                "equivalence": run.equivalence(name),
                "md": run.md(name),
                "compile_s": compiled[0] if compiled else None,
                "break_even": _break_even(run, name) if any(compiled) else "-",
                "rank": ratios["energy_forces"].value if ratios["energy_forces"] else 0.0,
            }
        )
    return sorted(rows, key=lambda row: -row["rank"])


def _break_even(run: Run, name: str) -> str:
    """Steps after which compiling has paid: the median over the molecules on which it pays, and on how many it does."""
    timed = run.times(name, "energy_forces")
    steps = [e["break_even_steps"] for e in run.benchmarks(name, "energy_forces").values() if e["break_even_steps"]]
    if not timed:
        return "not timed"
    if not steps:
        return f"never ({len(timed)} molecules)"
    partly = "" if len(steps) == len(timed) else f" ({len(steps)} of {len(timed)} molecules)"
    return f"{number(median(steps))}{partly}"


def times(run: Run, task: str) -> list[dict[str, Any]]:
    """One row per variant: median time on each system, speed-up in brackets, ``~`` if the time is not known to 10 %."""
    rows = []
    for name in run.variants:
        found, speedups = run.benchmarks(name, task), run.speedups(name, task)
        cells = []
        for system in run.systems:
            entry = found.get(system) or {}
            if not entry.get("median_ms"):
                cells.append("-")
                continue
            noise = " ~" if half_width(entry) > WIDE else ""
            ratio = f" ({number(speedups[system].value)}×)" if system in speedups and name != BASELINE else ""
            cells.append(f"{number(entry['median_ms'])}{ratio}{noise}")
        if any(cell != "-" for cell in cells):
            rows.append({"variant": name, "cells": cells})
    return rows


def equivalence(run: Run) -> list[dict[str, Any]]:
    """One row per variant: the case that comes nearest to a limit (force, energy, stress), or exceeds one most."""
    rows = []
    for name in run.variants:
        found = [e for e in run.of("equivalence", variant=name) if e.get("eager_force_rmse_mev_per_a") is not None]
        checked = [with_limits(entry, run.options(name)) for entry in found if not refuses(entry)]
        if checked:
            rows.append(
                {
                    "variant": name,
                    "cases": len(checked),
                    "worst": max(checked, key=_share_of_limit),
                    "stress": _stress(run, name, checked),
                    "refused": [entry["system"] for entry in found if refuses(entry)],
                    "verdict": run.equivalence(name),
                }
            )
    return rows


def _stress(run: Run, name: str, checked: list[Record]) -> str:
    """The error of the stress and its limit, on the case that comes nearest to it; or why there is none."""
    found = [entry for entry in checked if "virial_limit_mev_per_atom" in entry]
    if not found:
        gives = next((e.get("gives_stress") for e in run.of("compile", variant=name)), None)
        return "gives none" if gives is False else "not compared"
    worst = max(found, key=lambda entry: _of_limit(entry, "virial_error_mev_per_atom", "virial_limit_mev_per_atom"))
    error, limit = (number(worst.get(f"virial_{what}_mev_per_atom")) for what in ("error", "limit"))
    return f"{error} of {limit} ({worst['system']})"


def with_limits(entry: Record, options: Mapping[str, Any]) -> Record:
    """An equivalence record with the limits that were applied, which older ones lack.

    Args:
        entry: that has the errors of eager.
        options: of the variant, which tell its precision.
    """
    if "force_limit_mev_per_a" in entry:
        return entry
    sixteen_bit = {"float16", "bfloat16", "bf16"} & {options.get("dtype"), options.get("precision")}
    of_class = "16bit" if sixteen_bit else "float32" if entry["tolerance_mev_per_a"] < 1 else "tf32"
    eager = {
        "force_rmse": entry["eager_force_rmse_mev_per_a"] / 1e3,
        "energy_rmse": entry["eager_energy_error_mev_per_atom"] / 1e3,
    }
    allowed = limits(eager, TOLERANCES[of_class])
    return entry | {
        "force_limit_mev_per_a": 1e3 * allowed["force_rmse"],
        "energy_limit_mev_per_atom": 1e3 * allowed["energy_rmse"],
    }


def _share_of_limit(entry: Record) -> float:
    shares = [
        _of_limit(entry, "force_rmse_mev_per_a", "force_limit_mev_per_a"),
        _of_limit(entry, "energy_error_mev_per_atom", "energy_limit_mev_per_atom"),
    ]
    if "virial_limit_mev_per_atom" in entry:
        shares.append(_of_limit(entry, "virial_error_mev_per_atom", "virial_limit_mev_per_atom"))
    return max(shares)


def _of_limit(entry: Record, error: str, limit: str) -> float:
    """An error over its limit; infinite where it is not finite."""
    return math.inf if entry.get(error) is None else entry[error] / entry[limit]


def md(run: Run) -> list[dict[str, Any]]:
    """One row per variant: the trajectory with the largest drift, and how many trajectories passed."""
    rows = []
    for name in run.variants:
        found = [e for e in run.of("md", variant=name) if e["status"] != "unavailable" and e["task"] in NVE_TASKS]
        if not found or run.md(name) == "not run":
            continue
        worst = max(found, key=lambda e: abs(e.get("drift_mev_per_atom_ps") or 0))
        rows.append(
            {
                "variant": name,
                "passed": sum(md_outcome(e) == PASSED for e in found),
                "too_short": sum(md_outcome(e) == TOO_SHORT for e in found),
                "count": len(found),
                # A run that failed before its first step has no drift.
                "worst": dict.fromkeys(DRIFT_FIELDS) | worst,
                "speed": run.md_speed(name),
                "bonds_broken": sum(e.get("bonds_broken") or 0 for e in found),
                **{
                    field: max((e[field] for e in found if e.get(field) is not None), default=None)
                    for field in ("force_rmse_mev_per_a", "max_momentum")
                },
            }
        )
    return rows


def drift_unlike_fp64(run: Run) -> dict[str, Any]:
    """Number of drifts that differ from the fp64 run from the same state, of how many, and the largest difference."""
    found = [e for e in run.of("md", status="ok") if e.get("drift_like_fp64") is not None]
    beyond = [e["gates"]["drift_beyond_fp64_mev_per_atom_ps"]["value"] for e in found if not e["drift_like_fp64"]]
    return {"count": len(beyond), "of": len(found), "most": max(beyond, default=0.0)}


def teacher(run: Run) -> list[dict[str, Any]]:
    """One row per system: the times of the teacher, of eager and of the winner."""
    winner = run.winner()
    columns = [BASELINE, *([winner[0]] if winner else [])]
    rows = []
    for entry in sorted(run.teacher(), key=lambda e: e["n_atoms"] or 0):
        ours = {name: run.times(name, "energy_forces").get(entry["system"]) for name in columns}
        rows.append(
            {
                "system": title(entry["system"]),
                "n_atoms": entry["n_atoms"],
                "teacher_ms": entry["median_ms"],
                "students": [
                    {"name": name, "ms": time.value, "times": entry["median_ms"] / time.value} if time else None
                    for name, time in ours.items()
                ],
                "columns": columns,
            }
        )
    return rows


#: Fields in the table of accuracy; None if a record lacks one (no labels of that split, an older file).
ACCURACY_FIELDS = (
    *("split", "n_configurations", "n_molecules", "force_mae_mev_per_a", "force_rmse_mev_per_a"),
    *("force_rms_mev_per_a", "force_r2"),
    *("force_cosine", "energy_mae_mev_per_atom", "card", "status", "reason"),
    *("n_stresses", "stress_mae_gpa", "stress_rmse_gpa", "stress_rms_gpa"),
)


def accuracy(run: Run) -> list[dict[str, Any]]:
    """One row per split: errors of the student against its teacher."""
    rows = [{field: entry.get(field) for field in ACCURACY_FIELDS} for entry in run.accuracy()]
    return [
        row
        | {"relative_error": _share(row["force_rmse_mev_per_a"], row["force_rms_mev_per_a"])}
        | {"relative_stress_error": _share(row["stress_rmse_gpa"], row["stress_rms_gpa"])}
        for row in rows
    ]


def rounds(run: Run) -> list[dict[str, Any]]:
    """One row per round of labels on the student's own frames and kind of held-out frames: errors before and after."""
    errors = ("force_mae_mev_per_a", "energy_mae_mev_per_atom")
    return [
        {name: entry.get(name) for name in ("round", "frames", "n_configurations", "n_molecules", "reason", *errors)}
        | {f"{name}_before": (entry.get("before") or {}).get(name) for name in errors}
        | {"trajectories": entry.get("trajectories"), "diverged": entry.get("diverged") or {}}
        for entry in run.rounds()
    ]


def _share(part: float | None, whole: float | None) -> str:
    """``3.1 %``, or a dash where one of them was not recorded."""
    return "-" if part is None or not whole else f"{number(100 * part / whole, 2)} %"


def week_1(run: Run, known_claims: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The source's table (energy only), one row per configuration, with the measurements of this run; the key ``forces``
    has those for energy + forces."""
    return [
        row
        | _measured(run, row["variant"], "energy")
        | {"forces": _measured(run, row["variant"], "energy_forces") | {"ratio": run.force_ratio(row["variant"])}}
        for row in (known_claims or {}).get("table") or []
    ]


def week_1_best(run: Run, known_claims: Mapping[str, Any] | None, gate: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fastest on the energy of the configurations that the source's table has, and whether it passes ``gate``."""
    names = {row["variant"] for row in (known_claims or {}).get("table") or []} - {BASELINE}
    found = next(((name, ratio) for name, ratio in run.ranking("energy") if name in names), None)
    if found is None or "energy_speedup" not in gate:
        return None
    return {"variant": found[0], "speedup": found[1], "passed": found[1].low >= gate["energy_speedup"]}


def _measured(run: Run, variant: str, task: str) -> dict[str, Any]:
    found = run.overall(variant, task)
    status, reason = run.problems().get(variant, ("not in this run", "not among the variants of the configuration"))
    return {
        # The source averages by the arithmetic mean.
        "time": run.arithmetic_mean_time(variant, task),
        "speedup": found,
        "verdict": found.verdict if found else status,
        "reason": "" if found else reason,
    }


def scaling(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Heading -> rows of each scaling task that has records; one row per variant and size, failed ones too."""
    made = {}
    for task, heading in SCALING_TITLES.items():
        rows = [
            entry
            | {"memory_mib": _memory_mib(entry), "speedup_text": _speedup_text(entry)}
            | (_of_steps(entry) if task == "md_steps" else {})
            | (_of_bare_call(entry) if task == "calculator" else {})
            for entry in run.of("benchmark", task=task)
            if entry["variant"] != TEACHER
        ]
        rows.sort(key=lambda e: (e["variant"] != BASELINE, e["variant"], e["batch"] or 0, e["n_atoms"] or 0))
        if rows:
            made[heading] = rows
    return made


def ns_per_day(milliseconds: float, timestep_fs: float = 0.5) -> float:
    """Simulated time per day of steps that take so long each."""
    return timestep_fs * 1e-6 * 86_400_000 / milliseconds


def _of_steps(entry: Mapping[str, Any]) -> dict[str, float | None]:
    """What a step of a simulation means for a day and for a nanosecond; None for what was not measured."""
    step, joule, baseline = (entry.get(field) for field in ("median_ms", "joule_per_step", "baseline_joule_per_step"))
    # Runs of before the step's length was recorded have no rate.
    length = entry.get("timestep_fs")
    kj_per_joule = 1e3 / length if length else None  # 1e6 fs are a nanosecond
    return {
        "ns_per_day": ns_per_day(step, length) if step and length else None,
        "mj_per_step": 1e3 * joule if joule else None,
        "kj_per_ns": joule * kj_per_joule if joule and kj_per_joule else None,
        "baseline_kj_per_ns": baseline * kj_per_joule if baseline and kj_per_joule else None,
    }


def _of_bare_call(entry: Mapping[str, Any]) -> dict[str, str]:
    """What ASE adds to the bare call that took turns with the one through ASE; dashes in records from before it did."""
    if not entry.get("ase_ratio"):
        return {"bare": "-", "ase_adds": "-"}
    bare, ratio = entry["bare_median_ms"], Ratio.of(entry, "ase_ratio")
    added, low, high = (number((share - 1) * bare, 2) for share in (ratio.value, ratio.low, ratio.high))
    return {
        "bare": number(bare),
        "ase_adds": f"{added}{f' [{low}, {high}]' if ratio.certain else few_processes(ratio)}",
    }


def energy_meter(run: Run) -> dict[str, Any]:
    """Whether the energy of MD steps was ``measured``, and as ``text`` what counted it or why nothing did."""
    entries = run.of("benchmark", task="md_steps")
    if meters := sorted({entry["energy_meter"] for entry in entries if entry.get("energy_meter")}):
        return {
            "measured": True,
            "text": f"Energy: {', '.join(meters)}, its idle share and other processes included.",
        }
    reasons = sorted({entry["energy_reason"] for entry in entries if entry.get("energy_reason")})
    return {"measured": False, "text": f"Energy: not measured{': ' + '; '.join(reasons) if reasons else ''}."}


def memory(run: Run) -> list[dict[str, Any]]:
    """One row per variant: the largest periodic box that ran, what it takes, and why there is no larger one."""
    rows = []
    for name in run.variants:
        found = [e for e in run.of("benchmark", variant=name, task="periodic") if e["n_atoms"]]
        ran = [e for e in found if e["status"] == "ok" and _memory_mib(e)]
        if not ran:
            continue
        largest = max(ran, key=lambda e: e["n_atoms"])
        beyond = [e for e in found if e["n_atoms"] > largest["n_atoms"]]
        rows.append(
            {
                "variant": name,
                "n_atoms": largest["n_atoms"],
                "gib": largest["peak_memory_mib"] / 1024,
                "kib_per_atom": 1024 * largest["peak_memory_mib"] / largest["n_atoms"],
                "next": min(beyond, key=lambda e: e["n_atoms"])["reason"] if beyond else "none was asked for",
            }
        )
    return rows


def _memory_mib(entry: Mapping[str, Any]) -> float | None:
    """Memory of a call on a GPU; on a CPU what is recorded is by how much the process grew, which memory in reserve hides."""
    return None if entry["device"] == "cpu" else entry.get("peak_memory_mib")


def _speedup_text(entry: Mapping[str, Any]) -> str:
    if entry["status"] != "ok":
        return f"{entry['status']}: {entry['reason']}"
    return interval(Ratio.of(entry, "speedup")) if entry.get("speedup") is not None else "-"


def causes(run: Run) -> list[dict[str, Any]]:
    """One row per profiled variant: operations, launches, share of the time in which the GPU was busy, graphs."""
    rows = []
    for name in run.variants:
        found = [e for e in run.benchmarks(name, "energy_forces").values() if e.get("n_operations") is not None]
        compiled = next((e for e in run.of("compile", variant=name) if e.get("n_graphs") is not None), {})
        if found or compiled:
            busy = [e["gpu_busy_percent"] for e in found if e.get("gpu_busy_percent") is not None]
            first = found[0] if found else {}
            counts = {field: first.get(field) for field in ("n_operations", "n_launches", "n_kernels")}
            graphs = {field: compiled.get(field) for field in ("n_graphs", "n_graph_breaks", "n_recompiles")}
            rows.append({"variant": name, **counts, **graphs, "busy": (min(busy), max(busy)) if busy else None})
    return rows


def md_checks(run: Run) -> list[dict[str, str]]:
    """One row per MD check other than NVE of molecules, with the result as text."""
    rows = []
    for entry in run.of("md"):
        if entry["task"] not in MD_CHECKS:
            continue
        check, found = MD_CHECKS[entry["task"]]
        rows.append(
            {
                "check": check,
                "variant": entry["variant"],
                "dtype": entry["dtype"],
                "system": entry["system"],
                "found": found(entry) if entry["status"] == "ok" else entry["reason"],
                "verdict": ("passed" if entry["passed"] else "failed") if entry["status"] == "ok" else entry["status"],
            }
        )
    order = [name for name, _ in MD_CHECKS.values()]
    return sorted(rows, key=lambda row: order.index(row["check"]))


def _timestep_found(entry: Mapping[str, Any]) -> str:
    ratios = ", ".join(f"{ratio:.2f}" for ratio in entry["ratios"])
    return f"ratios {ratios} on halving from {entry['timesteps_fs'][0]:g} fs (4 expected)"


def _nvt_found(entry: Mapping[str, Any]) -> str:
    first = entry.get("first_p_value")
    repeated = (
        "" if first is None
        else f" of two trajectories of different seeds together, since the first alone had p = {first:.2g}"
    )  # fmt: skip
    return (
        f"{entry['mean_temperature_k']:.1f} ± {entry['temperature_stderr_k']:.1f} K for {entry['temperature_k']:g} K, "
        f"p = {entry['p_value']:.2g} on {entry['independent_samples']} samples{repeated}"
    )


def _spectra_found(entry: Mapping[str, Any]) -> str:
    distances = [
        f"{name} {entry[field]:.2g} {unit} ({entry['floor'][field]:.2g})"
        for name, field, unit in (("bonds", "bond_distance_a", "Å"), ("angles", "angle_distance_deg", "°"))
        if entry.get(field) is not None
    ]
    common, floor = 1 - entry["spectrum_difference"], 1 - entry["floor"]["spectrum_difference"]
    return ", ".join([*distances, f"spectrum {common:.0%} in common ({floor:.0%})"])


def _pairs_found(entry: Mapping[str, Any]) -> str:
    def both(field: str, error: str, unit: str) -> str:
        values = [f"{entry[p + field]:.2f} ± {entry[p + error]:.2f}" for p in ("", "teacher_")]
        return f"{values[0]} {unit} (teacher {values[1]})"

    found = [
        f"pair distributions {1 - entry['pair_difference']:.0%} in common ({1 - entry['floor']:.0%}; {entry['worst_pair']})",
        "diffusion " + both("diffusion_e9_m2_s", "diffusion_stderr_e9_m2_s", "10⁻⁹ m²/s"),
    ]
    if entry.get("teacher_pressure_gpa") is not None:
        found.append("pressure " + both("pressure_gpa", "pressure_stderr_gpa", "GPa"))
    speeds = [number(ns_per_day(1e3 / entry[p + "steps_per_s"], entry["timestep_fs"]), 2) for p in ("nvt_", "teacher_")]
    return ", ".join([*found, f"{speeds[0]} ns a day (teacher {speeds[1]})"])


def _liquid_found(entry: Mapping[str, Any]) -> str:
    picoseconds = entry["n_steps"] * entry["timestep_fs"] / 1000
    return f"drift {drift(entry)} over {picoseconds:g} ps, {entry['bonds_broken']} bonds broken"


#: Task -> name of the check, and a function that returns its result as text.
MD_CHECKS = {
    "timestep": ("time step", _timestep_found),
    "nvt": ("NVT, kinetic energy", _nvt_found),
    "spectra": ("spectra against the teacher", _spectra_found),
    "pairs": ("liquid against the teacher", _pairs_found),
    "liquid": ("NVE of a liquid", _liquid_found),
}
