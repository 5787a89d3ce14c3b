"""Figures of the MD validation."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows, nothing, row_axes, variants_with

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Limits of a good and of an acceptable drift of the total energy, meV/atom/ps.
DRIFT_BARS = (0.01, 0.1)


def nve_drift(run: Run) -> "Figure":
    """Drift of the total energy in NVE per variant, one point with error bar per system."""
    rows = variants_with(run, lambda name: _drifts(run, name))
    if not rows:
        return nothing("MD")
    rows.sort(key=lambda name: -max(abs(e["drift_mev_per_atom_ps"]) for e in _drifts(run, name)))
    figure, axes = row_axes(len(rows), columns=1)
    axis = axes[0]
    good, acceptable = DRIFT_BARS
    axis.axvspan(-acceptable, acceptable, color=style.GOOD, alpha=0.08, lw=0)
    axis.axvspan(-good, good, color=style.GOOD, alpha=0.13, lw=0)
    axis.axvline(0, color=style.INK, lw=0.9)
    for height, name in enumerate(rows):
        shade = style.color(name, run.families.get(name))
        entries = sorted(_drifts(run, name), key=lambda entry: entry["n_atoms"] or 0)
        spread = np.linspace(0.24, -0.24, len(entries)) if len(entries) > 1 else [0.0]
        for offset, entry in zip(spread, entries, strict=True):
            error = 2 * (entry.get("drift_stderr_mev_per_atom_ps") or 0)
            options = {"fmt": "o" if entry.get("passed") else "X", "color": shade, "ms": 4.5, "capsize": 2, "lw": 1}
            axis.errorbar(entry["drift_mev_per_atom_ps"], height + offset, xerr=error, **options)
    axis.set_xscale("symlog", linthresh=good, linscale=0.7)
    reach = max(acceptable * 2, 1.5 * max(abs(value) for value in axis.get_xlim()))
    ticks = [sign * 10.0**power for power in range(-2, 6) for sign in (-1, 1) if 10.0**power <= reach]
    axis.set_xlim(-reach, reach)
    axis.set_xticks([0, *ticks], [f"{tick:g}" for tick in (0, *ticks)])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("drift of the total energy (meV/atom/ps), bars: two standard errors")
    axis.set_title(
        "● passed all gates   ✕ failed   dark band: good, light: acceptable", fontweight="normal", fontsize=8.5
    )
    name_rows(axes, rows)
    return figure


def _drifts(run: Run, name: str) -> list[dict[str, Any]]:
    return [e for e in run.of("md", variant=name) if e.get("drift_mev_per_atom_ps") is not None]


def md_energy(run: Run) -> "Figure":
    """Total energy along each NVE trajectory relative to its start, one panel per system."""
    traces: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(run.of("md"), key=lambda e: (e["n_atoms"] or 0, str(e["system"]))):
        if (entry.get("energy_trace") or {}).get("time_fs"):
            traces.setdefault(entry["system"], []).append(entry)
    if not traces:
        return nothing("MD")
    columns = min(3, len(traces))
    rows = -(-len(traces) // columns)
    appearance = style.appearance(run.families)
    figure, axes = style.new(1.9 * rows + 0.6, columns=columns, rows=rows)
    handles: dict[str, Any] = {}
    for axis, (system, entries) in zip(axes.flat, traces.items(), strict=False):
        for entry in entries:
            trace = entry["energy_trace"]
            time = np.array(trace["time_fs"]) / 1000
            options = {key: appearance[entry["variant"]][key] for key in ("color", "linestyle")}
            (handles[entry["variant"]],) = axis.plot(time, trace["total_mev_per_atom"], lw=1.0, alpha=0.9, **options)
        axis.axhline(0, color=style.QUIET, lw=0.7, zorder=1)
        axis.set_title(title(system))
    for axis in list(axes.flat)[len(traces) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("ΔE (meV/atom)")
    for column in range(columns):
        axes[(len(traces) - 1 - column) // columns, column].set_xlabel("time (ps)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
    return figure


FIGURES = {"nve_drift": nve_drift, "md_energy": md_energy}
