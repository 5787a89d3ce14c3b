"""Figure of the first calls of a variant: how many calls until the time per call is constant."""

from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def warm_up(run: Run) -> "Figure":
    """Time of each of the first energy + forces calls, molecule after molecule, of eager and the TorchScript variants."""
    series = {name: calls for name, calls in run.first_calls().items() if calls}
    shown = [name for name in series if name == BASELINE or run.families.get(name) == "torchscript"]
    if not shown:
        return nothing("first-call")
    appearance = style.appearance(run.families)
    figure, axes = style.new(2.6)
    axis = axes[0, 0]
    ends = []
    for name in shown:
        times = [time for calls in series[name].values() for time in calls]
        options = appearance[name]
        axis.plot(range(1, len(times) + 1), times, ms=3.2, lw=1.2, **options)
        ends.append((len(times), times[-1], name, options["color"]))
    axis.set(yscale="log", xlabel="call since loading, molecule after molecule", ylabel="ms per energy + forces")
    start = 0
    top = axis.get_ylim()[1]
    axis.set_ylim(top=top * 2.6)
    for index, (system, calls) in enumerate(series[shown[0]].items()):
        if start:
            axis.axvline(start + 0.5, color=style.FAINT, lw=1, zorder=0)
        # Names alternate between two heights, so that they do not touch.
        height = top * (1.15 if index % 2 else 1.85)
        axis.text(start + 0.5 + len(calls) / 2, height, title(system), ha="center", va="center", fontsize=7.5,
                  color=style.QUIET)  # fmt: skip
        start += len(calls)
    axis.set_xlim(0.3, start + 0.7)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(axis="x", visible=False)
    style.times_axis(axis.yaxis)
    figure.canvas.draw()
    style.label_lines(axis, ends, gap=0.075)
    return figure


FIGURES = {"warm_up": warm_up}
