"""Figure of the ladder: speed-up at each step from eager to fused kernels, with the source report's numbers."""

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mlff_distiller.decisions import ladder as steps
from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import TASK_TITLES
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing, place_interval, why_no_speedup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE = "#8A8A8A"


def ladder(run: Run) -> "Figure":
    """At most eight steps, the fastest of each family, the winner on top."""
    return _draw(run, steps.rungs(run))


def ladder_all(run: Run) -> "Figure":
    """Every variant that was timed or did not work."""
    return _draw(run, steps.ladder(run))


def _draw(run: Run, rows: list[tuple[str, str]]) -> "Figure":
    """Per step: what it adds, and its speed-up over eager with interval; gray marks are the source's numbers."""
    if not any(run.speedups(name, "energy_forces") for name, _ in rows):
        return nothing("benchmark")
    figure, axes = style.new(1.3 + 0.41 * max(len(rows), 3), columns=2, sharey=True, width_ratios=(1.35, 1))
    axes = axes[0]
    for axis, task in zip(axes, ("energy_forces", "energy"), strict=True):
        axis.set_xscale("log")
        for height, (name, _) in enumerate(rows):
            _draw_step(run, axis, height, name, task)
        _draw_best_so_far(run, axis, [name for name, _ in rows], task)
        for height, low, high in source_marks(run, [name for name, _ in rows], task):
            _draw_source_mark(axis, height, low, high)
        axis.axvline(1, color=style.INK, lw=0.9, zorder=1)
        axis.set_title(TASK_TITLES[task])
        axis.set_xlabel("speed-up over eager" + ", without ASE" * (task == "energy_forces"))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        axis.spines["left"].set_visible(False)
        low, high = axis.get_xlim()
        low, high = min(low, 0.8), max(high, 1.6)
        axis.set_xlim(low, high * (high / low) ** 0.2)
        style.times_axis(axis.xaxis)
    # The name is the tick label; what the step adds stands below it in a smaller font.
    axes[0].set_yticks([height + 0.17 for height in range(len(rows))], [name for name, _ in rows])
    for height, (_, words) in enumerate(rows):
        axes[0].annotate(words, (0, height - 0.2), xycoords=axes[0].get_yaxis_transform(), xytext=(-4, 0),
                         textcoords="offset points", ha="right", va="center", fontsize=7, color=style.QUIET)  # fmt: skip
    # The last step, which all others led to, is on top.
    axes[0].set_ylim(-0.6, len(rows) - 0.4)
    if run.ledger:
        figure.legend(handles=_legend(), loc="outside lower center", ncols=3)
    return figure


def _draw_step(run: Run, axis: "Axes", height: int, name: str, task: str) -> None:
    shade = style.color(name, run.families.get(name))
    if overall := run.overall(name, task):
        place_interval(axis, overall, height, shade, hollow=run.equivalence(name) == "failed")
    elif not run.speedups(name, task):
        axis.annotate(why_no_speedup(run, name, task), (1, height), xytext=(5, 0), textcoords="offset points",
                      color=style.QUIET, va="center", fontsize=8, style="italic",
                      bbox={"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.85})  # fmt: skip


def _draw_best_so_far(run: Run, axis: "Axes", names: list[str], task: str) -> None:
    """A line at the best speed-up so far of what is equivalent, from the bottom up: it moves right at each faster step."""
    best, points = 1.0, []
    for height, name in enumerate(names):
        overall = run.overall(name, task)
        if overall and overall.verdict == "faster" and run.equivalence(name) != "failed":
            best = max(best, overall.value)
        points.append((best, height))
    axis.step(*zip(*points, strict=True), where="pre", color=style.FAINT, lw=3, zorder=0)


def source_marks(run: Run, names: list[str], task: str) -> list[tuple[int, float, float]]:
    """(row, low, high) of each claim with a place on the chart; low = high for a value that the source measured.

    A claimed gain over another variant is multiplied by the speed-up that this run measured for that variant.
    """
    marks = []
    for claim in (run.ledger or {}).get("claims", []):
        chart, rule = claim.get("chart"), claim["rule"]
        if not chart or rule.get("task") != task:
            continue
        pattern = chart.get("variant", rule["variant"])
        row = next((height for height, name in enumerate(names) if fnmatchcase(name, pattern)), None)
        factor = 1.0
        if "over" in rule:
            ranking = run.ranking(task, rule["over"])
            row, factor = (row, ranking[0][1].value) if ranking else (None, 1.0)
        if row is not None:
            marks.append((row, factor * chart["low"], factor * chart["high"]))
    return marks


def _draw_source_mark(axis: "Axes", height: int, low: float, high: float) -> None:
    if low == high:
        axis.plot(low, height - 0.3, "*", color=SOURCE, mfc="white", ms=8, mew=1, zorder=3)
    else:
        axis.plot([low, high], [height - 0.3] * 2, color=SOURCE, lw=4, alpha=0.55, solid_capstyle="butt", zorder=2)


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], ls="", marker="D", color=style.INK, ms=5, label="measured here, 95 % interval"),
        Line2D([], [], ls="", marker="*", color=SOURCE, mfc="white", ms=8, label="measured by the source"),
        Line2D([], [], color=SOURCE, lw=4, alpha=0.55, label="projected by the source"),
    ]


FIGURES = {"ladder": ladder, "ladder_all": ladder_all}
