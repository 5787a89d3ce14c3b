"""Figures of the timings: speed-up, time against size, cost of the forces, neighbor search, compilation."""

from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE, TASKS
from mlff_distiller.records.wording import TASK_TITLES
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import (
    labels_beside,
    marked_name,
    name_rows,
    nothing,
    place_interval,
    row_axes,
    size_axis,
    size_line,
    variants_with,
    why_no_speedup,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def speedup(run: Run) -> "Figure":
    """Per variant and task: speed-up on each system (dots), and geometric mean with interval (diamond)."""
    rows = variants_with(run, lambda name: any(run.speedups(name, task) for task in TASKS) or name in run.problems())
    if not any(run.speedups(name, task) for name in rows for task in TASKS):
        return nothing("benchmark")
    order = {name: run.overall(name, "energy_forces") or run.overall(name, "energy") for name in rows}
    rows.sort(key=lambda name: (order[name] is not None, order[name].value if order[name] else 0, name))
    figure, axes = row_axes(len(rows), columns=2, sharex=True)
    for axis, task in zip(axes, TASKS, strict=True):
        axis.set_xscale("log")
        for height, name in enumerate(rows):
            _speedup_row(run, axis, height, name, task)
        axis.axvline(1, color=style.INK, lw=0.9, zorder=1)
        axis.set_title(TASK_TITLES[task])
        axis.set_xlabel("speed-up over eager")
    name_rows(axes, rows)
    low, high = axes[0].get_xlim()
    low, high = min(low, 0.8), max(high, 1.25)
    axes[0].set_xlim(low, high * (high / low) ** 0.22)  # room for the number beside the rightmost point
    for axis in axes:
        style.times_axis(axis.xaxis)
    return figure


def _speedup_row(run: Run, axis: "Axes", height: int, name: str, task: str) -> None:
    shade = style.color(name, run.families.get(name))
    singles = [ratio.value for ratio in run.speedups(name, task).values()]
    if not singles:
        axis.annotate(why_no_speedup(run, name, task), (1, height), xytext=(5, 0), textcoords="offset points",
                      color=style.QUIET, va="center", fontsize=8, style="italic")  # fmt: skip
        return
    axis.plot(singles, [height] * len(singles), "o", color=shade, alpha=0.35, ms=3.5, mec="none", zorder=2)
    if overall := run.overall(name, task):
        place_interval(axis, overall, height, shade, beyond=max(singles))
    else:
        axis.annotate("not on all", (max(singles), height), xytext=(6, 0), textcoords="offset points", va="center",
                      fontsize=8, color=shade)  # fmt: skip


def latency(run: Run) -> "Figure":
    """Median time of one evaluation against the number of atoms, for both tasks; with the teacher."""
    appearance = style.appearance(run.families)
    if not any(run.times(name, task) for name in run.variants for task in TASKS):
        return nothing("benchmark")
    figure, axes = style.new(0.5 * style.WIDTH + 0.9, columns=2, sharey=True)
    axes = axes[0]
    ends: dict[int, list[tuple[float, float, str, str]]] = {0: [], 1: []}
    for column, task in enumerate(TASKS):
        for name in run.variants:
            times = run.times(name, task)
            size_line(run, axes[column], {s: t.value for s, t in times.items()}, appearance[name], ends[column], name)
    teacher = {e["system"]: e["median_ms"] for e in run.teacher() if e["system"] in run.systems and e["median_ms"]}
    options = {"color": style.color("teacher"), "marker": "*", "linestyle": (0, (2, 1))}
    size_line(run, axes[1], teacher, options, ends[1], "teacher")
    for axis, task in zip(axes, TASKS, strict=True):
        axis.set(xscale="log", yscale="log", title=TASK_TITLES[task], xlabel="atoms")
        size_axis(axis, run, apart=1.45)
    axes[0].set_ylabel("median time per evaluation (ms)")
    labels_beside(figure, axes, ends)
    return figure


def energy_forces(run: Run) -> "Figure":
    """Time for the energy alone and for energy + forces, geometric mean over the systems, and their ratio."""
    rows = variants_with(run, lambda name: all(run.mean_time(name, task) for task in TASKS))
    if not rows:
        return nothing("benchmark")
    rows.sort(key=lambda name: -run.mean_time(name, "energy_forces").value)
    figure, axes = row_axes(len(rows), columns=2, width_ratios=(1.5, 1))
    markers = {"energy": ("o", "white"), "energy_forces": ("o", None)}
    for height, name in enumerate(rows):
        shade = style.color(name, run.families.get(name))
        ends = [run.mean_time(name, task).value for task in TASKS]
        axes[0].plot(ends, [height, height], color=shade, lw=2, alpha=0.5, zorder=2)
        for value, (marker, face) in zip(ends, markers.values(), strict=True):
            axes[0].plot(value, height, marker, color=shade, mfc=face or shade, mew=1.4, ms=6, zorder=3)
        ratio = run.force_ratio(name)
        errors = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
        axes[1].errorbar(ratio.value, height, xerr=errors, fmt="D", color=shade, ms=5, capsize=3, zorder=3)
        axes[1].annotate(f"{ratio.value:.2f}×", (ratio.high, height), xytext=(6, 0), textcoords="offset points",
                         va="center", fontsize=8, color=shade)  # fmt: skip
    axes[0].set(xscale="log", xlabel="time per evaluation (ms)", title="○ energy   ● energy + forces")
    style.times_axis(axes[0].xaxis)
    axes[1].set(xlabel="(energy + forces) / energy", title="Cost of the forces")
    axes[1].axvline(1, color=style.INK, lw=0.9)
    left, right = axes[1].get_xlim()
    axes[1].set_xlim(min(left, 0.8), right + 0.22 * (right - left))
    name_rows(axes, [marked_name(run, name) for name in rows])
    return figure


def neighbors(run: Run) -> "Figure":
    """Median time of the neighbor search alone against the number of atoms, one line per backend."""
    appearance = style.appearance(run.families)
    shown: dict[str, str] = {}
    for name in run.variants:
        if run.times(name, "neighbors"):
            shown.setdefault(run.neighbor_backends.get(name, name), name)
    if not shown:
        return nothing("neighbor-search benchmark")
    figure, axes = style.new(0.5 * style.WIDTH + 0.3)
    ends: list[tuple[float, float, str, str]] = []
    for backend, name in shown.items():
        values = {system: time.value for system, time in run.times(name, "neighbors").items()}
        size_line(run, axes[0, 0], values, appearance[name], ends, backend)
    axes[0, 0].set(xscale="log", yscale="log", xlabel="atoms", ylabel="median time per search (ms)")
    size_axis(axes[0, 0], run, apart=1.2)
    labels_beside(figure, axes[0], {0: ends})
    return figure


def compile_cost(run: Run) -> "Figure":
    """Left: seconds to compile each variant. Right: steps after which compiling has saved time, per system."""
    seconds = {e["variant"]: e["compile_s"] for e in run.of("compile", status="ok") if e.get("compile_s")}
    if not seconds:
        return nothing("compile")
    rows = sorted(seconds, key=lambda name: -seconds[name])
    figure, axes = row_axes(len(rows), columns=2)
    for height, name in enumerate(rows):
        shade = style.color(name, run.families.get(name))
        axes[0].plot(seconds[name], height, "D", color=shade, ms=5.5)
        axes[0].annotate(f"{seconds[name]:.2g} s" if seconds[name] < 10 else f"{seconds[name]:.0f} s",
                         (seconds[name], height), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8,
                         color=shade)  # fmt: skip
        steps = [e["break_even_steps"] for e in run.benchmarks(name, "energy_forces").values() if e["break_even_steps"]]
        if steps:
            axes[1].plot(steps, [height] * len(steps), "o", color=shade, ms=4.5, alpha=0.7, mec="none")
        else:
            axes[1].text(0.04, height, "nothing saved" if name != BASELINE else "baseline", color=style.QUIET,
                         va="center", fontsize=8, style="italic", transform=axes[1].get_yaxis_transform())  # fmt: skip
    axes[0].set(xscale="log", xlabel="seconds", title="Compile time")
    axes[1].set(xscale="log", xlabel="energy + forces evaluations", title="Steps to break even, each system")
    left, right = axes[0].get_xlim()
    axes[0].set_xlim(left, right * (right / left) ** 0.25)
    for axis in axes:
        style.times_axis(axis.xaxis, dense=False)
    name_rows(axes, rows)
    return figure


FIGURES = {
    "speedup": speedup,
    "latency": latency,
    "energy_forces": energy_forces,
    "neighbors": neighbors,
    "compile": compile_cost,
}
