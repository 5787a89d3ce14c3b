"""Stage ``figure``: each figure of the report is one function from the records of a run to a matplotlib Figure.

What a run did not measure gives a figure that says so, never an error: a report can always be made.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller import results, style
from mlff_distiller.errors import UserError, nearest
from mlff_distiller.results import BASELINE
from mlff_distiller.summary import TASKS, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TASK_TITLES = {"energy": "Energy", "energy_forces": "Energy + forces", "neighbors": "Neighbor search"}
SYSTEM_TITLES = {"penicillin_g": "penicillin G", "ala9_capped": "capped (Ala)9"}
#: Bars for the drift of the total energy, meV/atom/ps: good, acceptable.
DRIFT_BARS = (0.01, 0.1)
#: Tiers for the force error on molecules never seen, meV/A.
FORCE_TIERS = {20: "excellent", 50: "good", 100: "usable"}


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``figure``."""
    parser.description = f"Draw one figure from merged results. Figures: {', '.join(FIGURES)}."
    parser.add_argument("--name", required=True, help="which figure")
    parser.add_argument("--results", type=Path, required=True, help="phase3_results.json")
    parser.add_argument(
        "--output", type=Path, required=True, nargs="+", help="files to write; the suffix decides: .png, .svg, .pdf"
    )


def run(arguments: Namespace) -> int:
    """Draw the figure named on the command line."""
    bad = [path.name for path in arguments.output if path.suffix not in (".png", ".svg", ".pdf")]
    if bad:
        raise UserError(f"--output {', '.join(bad)}: a figure is a .png, .svg or .pdf file")
    figure = draw(arguments.name, Run(results.read(arguments.results)["records"]))
    for path in arguments.output:
        style.save(figure, path)
    return 0


def draw(name: str, run: Run) -> "Figure":
    """The figure called ``name``.

    Raises:
        UserError: no figure has that name.
    """
    if name not in FIGURES:
        raise UserError(f"no figure is called {name!r}{nearest(name, FIGURES)}")
    with style.applied():
        figure = FIGURES[name](run)
        figure.canvas.draw()
    return figure


def speedup(run: Run) -> "Figure":
    """Per variant: speed-up on each system (small) and over all of them (large, with interval), for both tasks."""
    rows = _rows(run, lambda name: any(run.speedups(name, task) for task in TASKS) or name in run.problems())
    if not any(run.speedups(name, task) for name in rows for task in TASKS):
        return _nothing("benchmark")
    order = {name: run.overall(name, "energy_forces") or run.overall(name, "energy") for name in rows}
    rows.sort(key=lambda name: (order[name] is not None, order[name].value if order[name] else 0, name))
    figure, axes = _row_axes(len(rows), columns=2, sharex=True)
    for axis, task in zip(axes, TASKS, strict=True):
        axis.set_xscale("log")
        for height, name in enumerate(rows):
            _speedup_row(run, axis, height, name, task)
        axis.axvline(1, color=style.INK, lw=0.9, zorder=1)
        axis.set_title(TASK_TITLES[task])
        axis.set_xlabel("speed-up over eager")
    _name_rows(axes, rows)
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
        entries = list(run.benchmarks(name, task).values())
        problem = run.problems().get(name)
        text = problem[0] if problem and (entries or not run.speedups(name, TASKS[0])) else "not measured"
        text = "not equivalent" if run.equivalence(name) == "failed" else text
        axis.annotate(text, (1, height), xytext=(5, 0), textcoords="offset points", color=style.QUIET, va="center",
                      fontsize=8, style="italic")  # fmt: skip
        return
    axis.plot(singles, [height] * len(singles), "o", color=shade, alpha=0.35, ms=3.5, mec="none", zorder=2)
    if overall := run.overall(name, task):
        errors = [[overall.value - overall.low], [overall.high - overall.value]]
        axis.errorbar(overall.value, height, xerr=errors, fmt="D", color=shade, ms=5.5, capsize=3, lw=1.4, zorder=3)
    edge = max([*singles, overall.high if overall else 0])
    text = f"{overall.value:.2f}×" if overall else "in part"
    axis.annotate(text, (edge, height), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8, color=shade)


def latency(run: Run) -> "Figure":
    """Median time of one evaluation against the number of atoms, for both tasks; the teacher beside them."""
    looks = style.looks(run.families)
    if not any(run.times(name, task) for name in run.variants for task in TASKS):
        return _nothing("benchmark")
    figure, axes = style.new(0.5 * style.WIDTH + 0.9, columns=2, sharey=True)
    axes = axes[0]
    ends: dict[int, list[tuple[float, float, str, str]]] = {0: [], 1: []}
    for column, task in enumerate(TASKS):
        for name in run.variants:
            times = run.times(name, task)
            _size_line(run, axes[column], {s: t.value for s, t in times.items()}, looks[name], ends[column], name)
    teacher = {e["system"]: e["median_ms"] for e in run.teacher() if e["system"] in run.systems and e["median_ms"]}
    look = {"color": style.color("teacher"), "marker": "*", "linestyle": (0, (2, 1))}
    _size_line(run, axes[1], teacher, look, ends[1], "teacher")
    for axis, task in zip(axes, TASKS, strict=True):
        axis.set(xscale="log", yscale="log", title=TASK_TITLES[task], xlabel="atoms")
        _size_axis(axis, run, apart=1.45)
    axes[0].set_ylabel("median time per evaluation (ms)")
    _labels_beside(figure, axes, ends)
    return figure


def _size_line(
    run: Run,
    axis: "Axes",
    values: dict[str, float],
    look: dict[str, Any],
    ends: list[tuple[float, float, str, str]],
    name: str,
) -> None:
    points = sorted((run.systems[system], value) for system, value in values.items())
    if not points:
        return
    width = 2.2 if name == BASELINE else 1.5
    alpha = 0.5 if run.equivalence(name) == "failed" else 1
    axis.plot(*zip(*points, strict=True), lw=width, alpha=alpha, zorder=3 if name == BASELINE else 2, **look)
    ends.append((*points[-1], _name(run, name), look["color"]))


def _size_axis(axis: "Axes", run: Run, apart: float) -> None:
    """Ticks at the sizes that were measured, from the largest down, without those closer than a factor ``apart``."""
    kept: list[int] = []
    for size in sorted({size for size in run.systems.values() if size}, reverse=True):
        if not kept or kept[-1] / size > apart:
            kept.append(size)
    axis.set_xticks(kept, [str(size) for size in kept])
    axis.set_xticks([], minor=True)
    style.times_axis(axis.yaxis)


def _labels_beside(figure: "Figure", axes: Any, ends: dict[int, list[tuple[float, float, str, str]]]) -> None:
    """Names at the right end of the lines; with several axes only the last one names a line that several show."""
    named = {text for _, _, text, _ in ends[len(axes) - 1]}
    for column, axis in enumerate(axes):
        chosen = [end for end in ends[column] if column == len(axes) - 1 or end[2] not in named]
        axis.set_xlim(axis.get_xlim()[0], axis.get_xlim()[1])
        figure.canvas.draw()
        style.label_lines(axis, chosen)


def energy_forces(run: Run) -> "Figure":
    """Time for the energy alone and for energy + forces, geometric mean over the systems, and their ratio."""
    rows = _rows(run, lambda name: all(run.mean_time(name, task) for task in TASKS))
    if not rows:
        return _nothing("benchmark")
    rows.sort(key=lambda name: -run.mean_time(name, "energy_forces").value)
    figure, axes = _row_axes(len(rows), columns=2, width_ratios=(1.5, 1))
    looks = {"energy": ("o", "white"), "energy_forces": ("o", None)}
    for height, name in enumerate(rows):
        shade = style.color(name, run.families.get(name))
        ends = [run.mean_time(name, task).value for task in TASKS]
        axes[0].plot(ends, [height, height], color=shade, lw=2, alpha=0.5, zorder=2)
        for value, (marker, face) in zip(ends, looks.values(), strict=True):
            axes[0].plot(value, height, marker, color=shade, mfc=face or shade, mew=1.4, ms=6, zorder=3)
        ratio = run.force_ratio(name)
        errors = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
        axes[1].errorbar(ratio.value, height, xerr=errors, fmt="D", color=shade, ms=5, capsize=3, zorder=3)
        axes[1].annotate(f"{ratio.value:.2f}×", (ratio.high, height), xytext=(6, 0), textcoords="offset points",
                         va="center", fontsize=8, color=shade)  # fmt: skip
    axes[0].set(xscale="log", xlabel="time per evaluation (ms)", title="○ energy   ● energy + forces")
    style.times_axis(axes[0].xaxis)
    axes[1].set(xlabel="(energy + forces) / energy", title="Price of the forces")
    axes[1].axvline(1, color=style.INK, lw=0.9)
    left, right = axes[1].get_xlim()
    axes[1].set_xlim(min(left, 0.8), right + 0.22 * (right - left))
    _name_rows(axes, [_name(run, name) for name in rows])
    return figure


def neighbors(run: Run) -> "Figure":
    """Median time of the neighbor search alone against the number of atoms, one line per way of searching."""
    looks = style.looks(run.families)
    shown: dict[str, str] = {}
    for name in run.variants:
        if run.times(name, "neighbors"):
            shown.setdefault(run.neighbor_backends.get(name, name), name)
    if not shown:
        return _nothing("neighbor-search benchmark")
    figure, axes = style.new(0.5 * style.WIDTH + 0.3)
    ends: list[tuple[float, float, str, str]] = []
    for backend, name in shown.items():
        values = {system: time.value for system, time in run.times(name, "neighbors").items()}
        _size_line(run, axes[0, 0], values, looks[name], ends, backend)
    axes[0, 0].set(xscale="log", yscale="log", xlabel="atoms", ylabel="median time per search (ms)")
    _size_axis(axes[0, 0], run, apart=1.2)
    _labels_beside(figure, axes[0], {0: ends})
    return figure


def compile_cost(run: Run) -> "Figure":
    """Left: seconds to compile each variant. Right: steps after which compiling has paid for itself, per system."""
    seconds = {e["variant"]: e["compile_s"] for e in run.of("compile", status="ok") if e.get("compile_s")}
    if not seconds:
        return _nothing("compile")
    rows = sorted(seconds, key=lambda name: -seconds[name])
    figure, axes = _row_axes(len(rows), columns=2)
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
    _name_rows(axes, rows)
    return figure


def nve_drift(run: Run) -> "Figure":
    """Drift of the total energy in NVE per variant, one point with error bar per system."""
    rows = _rows(run, lambda name: _drifts(run, name))
    if not rows:
        return _nothing("MD")
    rows.sort(key=lambda name: -max(abs(e["drift_mev_per_atom_ps"]) for e in _drifts(run, name)))
    figure, axes = _row_axes(len(rows), columns=1)
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
            look = {"fmt": "o" if entry.get("passed") else "X", "color": shade, "ms": 4.5, "capsize": 2, "lw": 1}
            axis.errorbar(entry["drift_mev_per_atom_ps"], height + offset, xerr=error, **look)
    axis.set_xscale("symlog", linthresh=good, linscale=0.7)
    reach = max(acceptable * 2, 1.5 * max(abs(value) for value in axis.get_xlim()))
    ticks = [sign * 10.0**power for power in range(-2, 6) for sign in (-1, 1) if 10.0**power <= reach]
    axis.set_xlim(-reach, reach)
    axis.set_xticks([0, *ticks], [f"{tick:g}" for tick in (0, *ticks)])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("drift of the total energy (meV/atom/ps), bars: two standard errors")
    axis.set_title(
        "● passed its gates   ✕ failed   dark band: good, light: acceptable", fontweight="normal", fontsize=8.5
    )
    _name_rows(axes, rows)
    return figure


def _drifts(run: Run, name: str) -> list[dict[str, Any]]:
    return [e for e in run.of("md", variant=name) if e.get("drift_mev_per_atom_ps") is not None]


def accuracy(run: Run) -> "Figure":
    """Force and energy error of the student against its teacher, per split of the data."""
    entries = [e for e in run.accuracy() if e.get("force_mae_mev_per_a") is not None]
    if not entries:
        return _nothing("accuracy")
    several = len({entry["variant"] for entry in entries}) > 1
    rows = [f"{e['split']} ({e['variant']})" if several else str(e["split"]) for e in entries]
    rows, entries = rows[::-1], entries[::-1]
    figure, axes = _row_axes(len(rows), columns=2)
    fields = (("force_mae_mev_per_a", "Force error, mean absolute", "meV/Å"),
              ("energy_mae_mev_per_atom", "Energy error, mean absolute", "meV/atom"))  # fmt: skip
    for axis, (field, title, unit) in zip(axes, fields, strict=True):
        values = [entry.get(field) for entry in entries]
        for height, value in enumerate(values):
            if value is not None:
                axis.plot([0, value], [height, height], color="#0072B2", lw=5, alpha=0.35, solid_capstyle="butt")
                axis.plot(value, height, "o", color="#0072B2", ms=6)
                axis.annotate(f"{value:.3g}", (value, height), xytext=(7, 0), textcoords="offset points", va="center",
                              fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.85})  # fmt: skip
        axis.set(title=title, xlabel=unit)
        axis.set_xlim(0, 1.25 * max([value for value in values if value is not None], default=1))
    for tier, word in FORCE_TIERS.items():
        if tier < axes[0].get_xlim()[1]:
            axes[0].axvline(tier, color=style.GOOD, lw=1, ls=(0, (4, 2)), zorder=1)
            axes[0].text(tier, len(rows) - 0.2, f"{word} ", color=style.GOOD, fontsize=7.5, va="center", ha="right")
    _name_rows(axes, rows, headroom=0.5)
    return figure


def md_energy(run: Run) -> "Figure":
    """Total energy along each NVE trajectory relative to its start, one panel per system."""
    traces: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(run.of("md"), key=lambda e: (e["n_atoms"] or 0, str(e["system"]))):
        if (entry.get("energy_trace") or {}).get("time_fs"):
            traces.setdefault(entry["system"], []).append(entry)
    if not traces:
        return _nothing("MD")
    columns = min(3, len(traces))
    rows = -(-len(traces) // columns)
    looks = style.looks(run.families)
    figure, axes = style.new(1.9 * rows + 0.6, columns=columns, rows=rows)
    handles: dict[str, Any] = {}
    for axis, (system, entries) in zip(axes.flat, traces.items(), strict=False):
        for entry in entries:
            trace = entry["energy_trace"]
            time = np.array(trace["time_fs"]) / 1000
            look = {key: looks[entry["variant"]][key] for key in ("color", "linestyle")}
            (handles[entry["variant"]],) = axis.plot(time, trace["total_mev_per_atom"], lw=1.0, alpha=0.9, **look)
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


def title(system: str | None) -> str:
    """A system's name for people."""
    return SYSTEM_TITLES.get(str(system), str(system).replace("_", " "))


def _name(run: Run, variant: str) -> str:
    """A variant's name, with a cross where its results are not those of the student."""
    return f"{variant} ✕" if run.equivalence(variant) == "failed" else variant


def _nothing(what: str) -> "Figure":
    return style.empty(f"no {what} records in this run")


def _rows(run: Run, wanted: Callable[[str], Any]) -> list[str]:
    return [name for name in run.variants if wanted(name)]


def _row_axes(rows: int, columns: int, **options: Any) -> tuple["Figure", Any]:
    """Axes whose rows are variants: a height that gives each row the same room."""
    ratios = options.pop("width_ratios", None)
    figure, axes = style.new(1.0 + 0.3 * max(rows, 2), columns=columns, sharey=True, width_ratios=ratios, **options)
    return figure, axes[0]


def _name_rows(axes: Any, rows: list[str], headroom: float = 0.0) -> None:
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(-0.6, len(rows) - 0.4 + headroom)
    for axis in axes:
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)


#: Name -> function, in the order of the report.
FIGURES: dict[str, Callable[[Run], "Figure"]] = {
    "speedup": speedup,
    "latency": latency,
    "energy_forces": energy_forces,
    "neighbors": neighbors,
    "compile": compile_cost,
    "nve_drift": nve_drift,
    "md_energy": md_energy,
    "accuracy": accuracy,
}
