"""Figure of the first calls of a variant: how many calls until the time per call is constant."""

from itertools import pairwise
from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import number, title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: One color per variant after eager: variants of one family would share theirs.
SHADES = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#A88B00")


def warm_up(run: Run) -> "Figure":
    """Time of each of the first energy + forces calls, molecule after molecule, of eager and the TorchScript variants."""
    series = {name: calls for name, calls in run.first_calls().items() if calls}
    scripted = [name for name in series if name != BASELINE and run.families.get(name) == "torchscript"]
    shown = [name for name in (BASELINE, *scripted[: len(SHADES)]) if name in series]
    if not shown:
        return nothing("first-call")
    figure, axes = style.new(3.1)
    axis = axes[0, 0]
    for name, shade in zip(shown, _shades(shown), strict=True):
        times = [time for calls in series[name].values() for time in calls]
        axis.plot(range(1, len(times) + 1), times, color=shade, marker="o", ms=2.8, lw=2.2 if name == BASELINE else 1.3,
                  label=f"{name}: first call {number(times[0])} ms")  # fmt: skip
        axis.plot(1, times[0], "o", color=shade, ms=7, mfc="white", mew=1.6)
    axis.set(yscale="log", xlabel="call since loading, molecule after molecule", ylabel="ms per energy + forces")
    _name_molecules(axis, {system: len(calls) for system, calls in series[shown[0]].items()})
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="x", visible=False)
    style.times_axis(axis.yaxis)
    figure.legend(
        loc="outside lower center", ncols=2 if len(shown) != 3 else 3, fontsize=8, handlelength=1.2, columnspacing=1.2
    )
    return figure


def _shades(shown: list[str]) -> list[str]:
    others = iter(SHADES)
    return [style.INK if name == BASELINE else next(others) for name in shown]


def _name_molecules(axis: "Axes", calls: dict[str, int]) -> None:
    """Lines between the molecules, and their names in a row above the data, at two heights by turns."""
    ends = [0]
    for number_of_calls in calls.values():
        ends.append(ends[-1] + number_of_calls)
    axis.set_xlim(0.3, ends[-1] + 0.7)
    bottom, top = axis.get_ylim()
    axis.set_ylim(bottom, top * (top / bottom) ** 0.22)
    for index, (system, (start, end)) in enumerate(zip(calls, pairwise(ends), strict=True)):
        if start:
            axis.axvline(start + 0.5, color=style.FAINT, lw=1, zorder=0)
        axis.text((start + end + 1) / 2, 0.965 - 0.07 * (index % 2), title(system), ha="center", va="center", fontsize=8,
                  color=style.QUIET, transform=axis.get_xaxis_transform())  # fmt: skip


FIGURES = {"warm_up": warm_up}
