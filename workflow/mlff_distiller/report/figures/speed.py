"""Figures of the timings: time against size, cost of the forces, neighbor search."""

from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import TASKS
from mlff_distiller.records.wording import TASK_TITLES
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import (
    highlighted,
    labels_beside,
    marked_name,
    name_rows,
    nothing,
    place_interval,
    row_axes,
    size_axis,
    size_line,
    variants_with,
)
from mlff_distiller.report.names import teacher_method, teacher_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Look of a line without a name.
UNNAMED = {"color": style.FAINT, "marker": "", "linestyle": "-"}


def latency(run: Run) -> "Figure":
    """Median time of one evaluation against the number of atoms, for both tasks; with the teacher. A few lines are named."""
    appearance, named = style.appearance(run.families), highlighted(run)
    if not any(run.times(name, task) for name in run.variants for task in TASKS):
        return nothing("benchmark")
    figure, axes = style.new(0.5 * style.WIDTH + 0.9, columns=2, sharey=True)
    axes = axes[0]
    ends: dict[int, list[tuple[float, float, str, str]]] = {0: [], 1: []}
    for column, task in enumerate(TASKS):
        for name in run.variants:
            times = {s: t.value for s, t in run.times(name, task).items()}
            if name in named:
                size_line(run, axes[column], times, appearance[name], ends[column], name)
            else:
                size_line(run, axes[column], times, UNNAMED, [], name)
    teacher = {e["system"]: e["median_ms"] for e in run.teacher() if e["system"] in run.systems and e["median_ms"]}
    options = {"color": style.color("teacher"), "marker": "*", "linestyle": (0, (2, 1))}
    label = f"{teacher_method(run) or 'teacher'}, {teacher_threads(run) or 'CPU'}"
    size_line(run, axes[1], teacher, options, ends[1], label)
    for axis, task in zip(axes, TASKS, strict=True):
        axis.set(xscale="log", yscale="log", title=TASK_TITLES[task], xlabel="atoms")
        size_axis(axis, run, apart=1.45)
    axes[0].set_ylabel("median time per evaluation (ms)")
    labels_beside(figure, axes, ends)
    return figure


def energy_forces(run: Run) -> "Figure":
    """What forces cost: time for energy + forces over time for the energy alone, geometric mean over the systems."""
    rows = variants_with(run, lambda name: all(run.mean_time(name, task) for task in TASKS))
    if not rows:
        return nothing("benchmark")
    rows.sort(key=lambda name: -run.force_ratio(name).value)
    figure, axes = row_axes(len(rows), columns=1)
    axis = axes[0]
    for height, name in enumerate(rows):
        place_interval(axis, run.force_ratio(name), height, style.color(name, run.families.get(name)))
    axis.set(xscale="log", xlabel="time of energy + forces over time of the energy alone")
    axis.axvline(1, color=style.INK, lw=0.9)
    left, right = axis.get_xlim()
    axis.set_xlim(min(left, 0.8), right * (right / left) ** 0.12)
    style.times_axis(axis.xaxis)
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


FIGURES = {
    "latency": latency,
    "energy_forces": energy_forces,
    "neighbors": neighbors,
}
