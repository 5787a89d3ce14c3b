"""Figures of the scaling tasks: throughput of batches, large systems."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import labels_beside, nothing
from mlff_distiller.report.names import batch_title, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Lines that a figure names; what is beyond them is gray.
MOST_NAMED = 6


def throughput(run: Run) -> "Figure":
    """Atoms per second against the number of molecules in one call, one panel per molecule or mix; with eager."""
    kinds = dict.fromkeys(e["system"] for name in run.variants for e in timed(run, name, "throughput"))
    if not kinds:
        return nothing("batch")
    from matplotlib.ticker import FuncFormatter

    figure, axes = style.new(0.5 * style.WIDTH + 0.2, columns=len(kinds), sharex=True, sharey=True)
    ends: dict[int, list[tuple[float, float, str, str]]] = {}
    for column, kind in enumerate(kinds):
        axis = axes[0, column]
        lines = {}
        for name in run.variants:
            entries = [e for e in timed(run, name, "throughput") if e["system"] == kind]
            lines[name] = [(e["batch"], 1e3 * e["n_atoms"] / e["median_ms"]) for e in entries]
        lines.setdefault(BASELINE, [])
        lines[BASELINE] = lines[BASELINE] or _baseline(
            [e for name in run.variants for e in timed(run, name, "throughput") if e["system"] == kind],
            lambda e: (e["batch"], 1e3 * e["n_atoms"] / e["baseline_median_ms"]),
        )
        ends[column] = _draw(run, axis, lines)
        axis.set(xscale="log", yscale="log", title=batch_title(run, kind), xlabel="molecules in one call")
        style.times_axis(axis.xaxis, dense=False)
    axes[0, 0].set_ylabel("atoms per second")
    style.times_axis(axes[0, 0].yaxis)
    axes[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    labels_beside(figure, axes[0], ends)
    return figure


def system_size(run: Run) -> "Figure":
    """Time per atom of a periodic box against its number of atoms; with eager."""
    lines = {
        name: [(e["n_atoms"], 1e3 * e["median_ms"] / e["n_atoms"]) for e in timed(run, name, "periodic")]
        for name in run.variants
    }
    if not any(lines.values()):
        return nothing("large-system")
    lines[BASELINE] = lines.get(BASELINE) or _baseline(
        [e for name in run.variants for e in timed(run, name, "periodic")],
        lambda e: (e["n_atoms"], 1e3 * e["baseline_median_ms"] / e["n_atoms"]),
    )
    figure, axes = style.new(0.5 * style.WIDTH + 0.3)
    axis = axes[0, 0]
    ends = _draw(run, axis, lines)
    axis.set(xscale="log", yscale="log", xlabel="atoms in the box", ylabel="time per atom (µs)")
    sizes = sorted({x for points in lines.values() for x, _ in points})
    ticks = [x for position, x in enumerate(sizes) if position == 0 or x > 2.2 * sizes[position - 1] or len(sizes) < 8]
    axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
    axis.set_xticks([], minor=True)
    style.times_axis(axis.yaxis)
    labels_beside(figure, axes[0], {0: ends})
    return figure


def timed(run: Run, variant: str, task: str) -> list[dict[str, Any]]:
    """Timed records of a scaling task, of variants that are equivalent to the student or another network."""
    return [e for e in run.scaling(variant, task) if e["status"] == "ok" and e.get("median_ms")]


def most_named(names: Iterable[str]) -> list[str]:
    """Of so many variants those that a figure names: eager and the first few others."""
    return sorted(dict.fromkeys(names), key=lambda name: name != BASELINE)[:MOST_NAMED]


def _baseline(
    entries: list[dict[str, Any]], point: Callable[[dict[str, Any]], tuple[float, float]]
) -> list[tuple[float, float]]:
    """Points of eager from the records of the variants that it was timed with; the first record of each size."""
    found: dict[float, float] = {}
    for entry in entries:
        if entry.get("baseline_median_ms"):
            x, y = point(entry)
            found.setdefault(x, y)
    return sorted(found.items())


def _draw(run: Run, axis: "Axes", lines: dict[str, list[tuple[float, float]]]) -> list[tuple[float, float, str, str]]:
    appearance = style.appearance({BASELINE: BASELINE} | run.families)
    ends = []
    named = most_named(name for name, points in lines.items() if points)
    for name, points in lines.items():
        if points and name not in named:
            axis.plot(*zip(*points, strict=True), lw=1.5, color=style.FAINT)
        elif points:
            width = 2.2 if name == BASELINE else 1.5
            axis.plot(*zip(*points, strict=True), lw=width, **appearance[name])
            ends.append((*points[-1], name, appearance[name]["color"]))
    return ends


FIGURES = {
    "throughput": throughput,
    "system_size": system_size,
}
