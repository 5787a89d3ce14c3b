"""Helpers that several figures share: rows of variants, ticks at sizes, names beside lines."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio
from mlff_distiller.records.vocabulary import BASELINE, TASKS
from mlff_distiller.records.wording import number
from mlff_distiller.report.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def size_line(
    run: Run,
    axis: "Axes",
    values: dict[str, float],
    appearance: dict[str, Any],
    ends: list[tuple[float, float, str, str]],
    name: str,
) -> None:
    points = sorted((run.systems[system], value) for system, value in values.items())
    if not points:
        return
    width = 2.2 if name == BASELINE else 1.5
    alpha = 0.5 if run.equivalence(name) == "failed" else 1
    axis.plot(*zip(*points, strict=True), lw=width, alpha=alpha, zorder=3 if name == BASELINE else 2, **appearance)
    ends.append((*points[-1], marked_name(run, name), appearance["color"]))


def highlighted(run: Run, task: str = "energy_forces") -> list[str]:
    """At most five variants that a figure names; the rest stays gray: eager, the winner, the fastest that PyTorch's own tools
    make, and the fastest of further families."""
    fastest = [name for name, _ in run.proven(task) if name not in run.same_code]
    winner = run.winner(task)
    stock = next((name for name in fastest if run.is_stock(name)), None)
    chosen = [name for name in (BASELINE, winner[0] if winner else None, stock) if name and name in run.variants]
    for name in fastest:
        if run.families.get(name) not in {run.families.get(other) for other in chosen}:
            chosen.append(name)
    return list(dict.fromkeys(chosen))[:5]


def size_axis(axis: "Axes", run: Run, apart: float) -> None:
    """Ticks at the measured sizes, from the largest down; sizes closer than a factor ``apart`` have no tick."""
    ticks: list[int] = []
    for size in sorted({size for size in run.systems.values() if size}, reverse=True):
        if not ticks or ticks[-1] / size > apart:
            ticks.append(size)
    axis.set_xticks(ticks, [str(size) for size in ticks])
    axis.set_xticks([], minor=True)
    style.times_axis(axis.yaxis)


def labels_beside(figure: "Figure", axes: Any, ends: dict[int, list[tuple[float, float, str, str]]]) -> None:
    """Names at the right end of the lines; a line that several axes show is named only in the last of them."""
    named = {text for _, _, text, _ in ends[len(axes) - 1]}
    for column, axis in enumerate(axes):
        chosen = [end for end in ends[column] if column == len(axes) - 1 or end[2] not in named]
        axis.set_xlim(axis.get_xlim()[0], axis.get_xlim()[1])
        figure.canvas.draw()
        style.label_lines(axis, chosen)


def marked_name(run: Run, variant: str) -> str:
    """A variant's name, with a cross if it is not equivalent to the student."""
    return f"{variant} ✕" if run.equivalence(variant) == "failed" else variant


def place_interval(
    axis: "Axes", ratio: Ratio, height: float, shade: str, beyond: float = 0.0, hollow: bool = False
) -> None:
    """A speed-up as a diamond with its interval; the value is written to the right of both and of ``beyond``."""
    errors = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
    inside = {"mfc": "white"} if hollow else {}
    axis.errorbar(ratio.value, height, xerr=errors, fmt="D", color=shade, ms=5.5, capsize=3, lw=1.4, zorder=3, **inside)
    axis.annotate(f"{number(ratio.value)}×", (max(ratio.high, beyond), height), xytext=(6, 0), textcoords="offset points",
                  va="center", fontsize=8, color=shade,
                  bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8})  # fmt: skip


def why_no_speedup(run: Run, name: str, task: str) -> str:
    """Why a variant has no speed-up on ``task``, in one or two words."""
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
    """Axes with one row per variant; the figure's height grows with the number of rows."""
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
