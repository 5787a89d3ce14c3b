"""What figures have in common: rows of variants, sizes along an axis, names beside lines."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.vocabulary import BASELINE, TASKS
from mlff_distiller.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def size_line(
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
    ends.append((*points[-1], marked_name(run, name), look["color"]))


def size_axis(axis: "Axes", run: Run, apart: float) -> None:
    """Ticks at the sizes that were measured, from the largest down, without those closer than a factor ``apart``."""
    kept: list[int] = []
    for size in sorted({size for size in run.systems.values() if size}, reverse=True):
        if not kept or kept[-1] / size > apart:
            kept.append(size)
    axis.set_xticks(kept, [str(size) for size in kept])
    axis.set_xticks([], minor=True)
    style.times_axis(axis.yaxis)


def labels_beside(figure: "Figure", axes: Any, ends: dict[int, list[tuple[float, float, str, str]]]) -> None:
    """Names at the right end of the lines; with several axes only the last one names a line that several show."""
    named = {text for _, _, text, _ in ends[len(axes) - 1]}
    for column, axis in enumerate(axes):
        chosen = [end for end in ends[column] if column == len(axes) - 1 or end[2] not in named]
        axis.set_xlim(axis.get_xlim()[0], axis.get_xlim()[1])
        figure.canvas.draw()
        style.label_lines(axis, chosen)


def marked_name(run: Run, variant: str) -> str:
    """A variant's name, with a cross where its results are not those of the student."""
    return f"{variant} ✕" if run.equivalence(variant) == "failed" else variant


def place_interval(axis: "Axes", ratio: Ratio, height: float, shade: str, beyond: float = 0.0) -> None:
    """A speed-up as a diamond with its interval, its value written to the right of it (and of ``beyond``)."""
    errors = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
    axis.errorbar(ratio.value, height, xerr=errors, fmt="D", color=shade, ms=5.5, capsize=3, lw=1.4, zorder=3)
    axis.annotate(f"{ratio.value:.2f}×", (max(ratio.high, beyond), height), xytext=(6, 0), textcoords="offset points",
                  va="center", fontsize=8, color=shade,
                  bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8})  # fmt: skip


def why_no_speedup(run: Run, name: str, task: str) -> str:
    """In a word or two, why a variant has no speed-up on ``task``."""
    if run.equivalence(name) == "failed":
        return "not equivalent"
    problem = run.problems().get(name)
    attempted = run.benchmarks(name, task) or not run.speedups(name, TASKS[0])
    return problem[0] if problem and attempted else "not measured"


def nothing(what: str) -> "Figure":
    return style.empty(f"no {what} records in this run")


def variants_with(run: Run, wanted: Callable[[str], Any]) -> list[str]:
    return [name for name in run.variants if wanted(name)]


def row_axes(rows: int, columns: int, **options: Any) -> tuple["Figure", Any]:
    """Axes whose rows are variants: a height that gives each row the same room."""
    ratios = options.pop("width_ratios", None)
    figure, axes = style.new(1.0 + 0.3 * max(rows, 2), columns=columns, sharey=True, width_ratios=ratios, **options)
    return figure, axes[0]


def name_rows(axes: Any, rows: list[str], headroom: float = 0.0) -> None:
    axes[0].set_yticks(range(len(rows)), rows)
    axes[0].set_ylim(-0.6, len(rows) - 0.4 + headroom)
    for axis in axes:
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
