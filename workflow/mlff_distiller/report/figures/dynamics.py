"""Figures of the MD validation."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.records.outcome import FAILED, TOO_SHORT, md_outcome
from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import spread, title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows, nothing, row_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def nve_drift(run: Run) -> "Figure":
    """Drift of the total energy in NVE, per variant one point with error bar per system, of runs that were long enough."""
    decided = {name: [e for e in _drifts(run, name) if md_outcome(e) != TOO_SHORT] for name in run.variants}
    short = [name for name in run.variants if _drifts(run, name) and not decided[name]]
    rows = [name for name, found in decided.items() if found]
    if not rows and not short:
        return nothing("MD")
    if not rows:
        return style.empty("every trajectory is too short to tell whether it conserves energy")
    rows.sort(key=lambda name: -max(abs(e["drift_mev_per_atom_ps"]) for e in decided[name]))
    figure, axes = row_axes(len(rows), columns=1)
    axis = axes[0]
    limit = max(e["gates"]["drift_mev_per_atom_ps"]["limit"] for name in rows for e in decided[name] if "gates" in e)
    axis.axvspan(-limit, limit, color=style.GOOD, alpha=0.08, lw=0)
    axis.axvline(0, color=style.INK, lw=0.9)
    for height, name in enumerate(rows):
        entries = sorted(decided[name], key=lambda entry: -(entry["n_atoms"] or 0))
        places = np.linspace(-0.28, 0.28, len(entries)) if len(entries) > 1 else [0.0]
        for offset, entry in zip(places, entries, strict=True):
            failed = md_outcome(entry) == FAILED
            axis.errorbar(
                entry["drift_mev_per_atom_ps"],
                height + offset,
                xerr=2 * (entry.get("drift_stderr_mev_per_atom_ps") or 0),
                fmt="X" if failed else "o",
                color=style.BAD if failed else style.color(name, run.families.get(name)),
                ms=4,
                capsize=1.5,
                lw=1,
            )
    reach = 1.1 * max(limit, *(abs(value) for value in axis.get_xlim()))
    if reach > 20 * limit:
        axis.set_xscale("symlog", linthresh=limit)
    axis.set_xlim(-reach, reach)
    axis.set_xlabel(
        f"drift of the total energy (meV/atom/ps), bars: two standard errors; shaded: the limit of {limit:g}"
    )
    if short:
        axis.set_title(f"not shown, too short to tell: {', '.join(short)}", fontweight="normal", fontsize=8, wrap=True)
    name_rows(axes, [f"{name}, {_lengths(decided[name])}" for name in rows])
    return figure


def _lengths(entries: list[dict[str, Any]]) -> str:
    return f"{spread(e['n_steps'] * e['timestep_fs'] / 1000 for e in entries)} ps"


def _drifts(run: Run, name: str) -> list[dict[str, Any]]:
    return [e for e in run.of("md", variant=name) if e.get("drift_mev_per_atom_ps") is not None]


def md_energy(run: Run) -> "Figure":
    """Total energy along each NVE trajectory relative to its start, a panel per system: winner, fp64, eager, all others."""
    traces: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(run.of("md"), key=lambda e: (e["n_atoms"] or 0, str(e["system"]))):
        if (entry.get("energy_trace") or {}).get("time_fs"):
            traces.setdefault(entry["system"], []).append(entry)
    if not traces:
        return nothing("MD")
    winner = run.winner() or next(((name, None) for name in run.equivalent if name != BASELINE), ("", None))
    columns = min(3, len(traces))
    rows = -(-len(traces) // columns)
    figure, axes = style.new(1.9 * rows + 0.6, columns=columns, rows=rows)
    handles: dict[str, Any] = {}
    for axis, (system, entries) in zip(axes.flat, traces.items(), strict=False):
        curves = [_curve(entry, winner[0], run) for entry in entries]
        if fp64 := [e["fp64_energy_trace"] for e in entries if e.get("fp64_energy_trace")]:
            longest = max(fp64, key=lambda trace: trace["time_fs"][-1])
            curves.append(("fp64", longest, {"color": style.INK, "lw": 0.9, "zorder": 2.3}))
        for name, trace, options in curves:
            time = np.array(trace["time_fs"]) / 1000
            (handles[name],) = axis.plot(time, trace["total_mev_per_atom"], **options)
        axis.axhline(0, color=style.QUIET, lw=0.7, zorder=1)
        axis.set_title(title(system))
    for axis in list(axes.flat)[len(traces) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("ΔE (meV/atom)")
    for column in range(columns):
        axes[(len(traces) - 1 - column) // columns, column].set_xlabel("time (ps)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


def _curve(entry: dict[str, Any], winner: str, run: Run) -> tuple[str, dict[str, list[float]], dict[str, Any]]:
    """Name in the legend, trace, and how it is drawn: the winner above fp64, eager below it, the others at the bottom."""
    name, options = "the others", {"color": style.FAINT, "lw": 0.8, "zorder": 2.1}
    if entry["variant"] == winner:
        name, options = winner, {"color": style.color(winner, run.families.get(winner)), "lw": 1.1, "zorder": 2.4}
    elif entry["variant"] == BASELINE:
        name, options = BASELINE, {"color": style.QUIET, "lw": 0.9, "zorder": 2.2}
    return name, entry["energy_trace"], options


FIGURES = {"nve_drift": nve_drift, "md_energy": md_energy}
