"""Figure of what compiling costs, and of the number of calls after which it has paid."""

import math
from statistics import median
from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import number
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import highlighted, name_rows, nothing, row_axes
from mlff_distiller.report.names import short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def compile_cost(run: Run) -> "Figure":
    """Left: seconds to compile. Right: calls until compiling has paid, one dot per molecule; what pays first is on top."""
    seconds = {e["variant"]: e["compile_s"] for e in run.of("compile", status="ok") if e.get("compile_s")}
    if not seconds:
        return nothing("compile")
    steps = {name: _break_even(run, name) for name in seconds}
    timed = {name: len(run.times(name, "energy_forces")) for name in seconds}
    rows = sorted(seconds, key=lambda name: (-_rank(steps[name], timed[name]), -seconds[name]))
    named = highlighted(run)
    shades = {name: style.color(name, run.families.get(name)) if name in named else style.QUIET for name in rows}
    figure, axes = row_axes(len(rows), columns=2, width_ratios=[1, 2])
    for height, name in enumerate(rows):
        axes[0].barh(height, seconds[name], color=shades[name], height=0.55, alpha=1 if name in named else 0.45)
        axes[0].annotate(f"{number(seconds[name], 2)} s", (seconds[name], height), xytext=(4, 0),
                         textcoords="offset points", va="center", fontsize=8)  # fmt: skip
        axes[1].plot(steps[name], [height] * len(steps[name]), "o", color=shades[name], ms=5, alpha=0.7, mec="none")
        axes[1].text(1.03, height, _pays(len(steps[name]), timed[name]), va="center", fontsize=8,
                     color=style.INK if steps[name] else style.QUIET,
                     transform=axes[1].get_yaxis_transform())  # fmt: skip
    axes[0].set(xlim=(0, 1.45 * max(seconds.values())), xticks=[], title="Compile time")
    axes[0].spines["bottom"].set_visible(False)
    axes[1].set(xlabel="calls, one dot per molecule", title="Calls until it has paid")
    _log_steps(axes[1], [step for found in steps.values() for step in found])
    name_rows(axes, rows)
    for label, name in zip(axes[0].get_yticklabels(), rows, strict=True):
        label.set_color(style.INK if name in named else style.QUIET)
    return figure


def _break_even(run: Run, name: str) -> list[int]:
    """Calls until compiling has paid, of each molecule on which it pays."""
    return [e["break_even_steps"] for e in run.benchmarks(name, "energy_forces").values() if e["break_even_steps"]]


def _rank(steps: list[int], timed: int) -> float:
    """What pays soonest first, then what never pays, then what was not timed."""
    return median(steps) if steps else 1e300 if timed else math.inf


def _pays(molecules: int, timed: int) -> str:
    """On how many molecules compiling pays, in words."""
    if not timed:
        return "not timed"
    if molecules == timed:
        return f"pays on all {timed}" if timed > 1 else "pays"
    return f"pays on {molecules or 'none'} of {timed} molecules"


def _log_steps(axis: "Axes", steps: list[int]) -> None:
    """A logarithmic axis with ticks at 1k, 2k, 5k, or at powers of ten where these would be too many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if not steps:
        axis.set_xticks([])
        return
    axis.set(xscale="log", xlim=(0.7 * min(steps), 1.35 * max(steps)))
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(steps) < 300 * min(steps) else (1,), numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())


FIGURES = {"compile": compile_cost}
