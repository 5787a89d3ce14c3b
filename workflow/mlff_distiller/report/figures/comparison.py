"""The figure of a comparison of several runs; it needs more than one run, so it is not among the figures of a report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlff_distiller.decisions.comparison import Change, Member, overall, shared_systems
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows, row_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Okabe and Ito's colors; runs also differ in the marker.
RUN_COLORS = ("#222222", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


def draw(members: Sequence[Member], made: Sequence[Change]) -> "Figure":
    """Energy + forces per variant. Left: speed-up over eager within each run; right: time in the first run over time here."""
    with style.applied():
        figure = _draw(members, [change for change in made if change.task == "energy_forces"])
        figure.canvas.draw()
    return figure


def _draw(members: Sequence[Member], made: Sequence[Change]) -> "Figure":
    systems = shared_systems(members)
    speedups = {
        (m.label, name): found["speedup"]
        for m in members
        for name in m.run.variants
        if (found := overall(m, name, "energy_forces", systems))["speedup"]
    }
    rows = [
        name
        for name in dict.fromkeys(n for m in members for n in m.run.variants)
        if any(n == name for _, n in speedups)
    ]
    if not rows:
        return style.empty("no variant has a speed-up on the molecules that these runs share")
    rows.sort(key=lambda name: max(ratio.value for (_, n), ratio in speedups.items() if n == name))
    figure, axes = row_axes(len(rows) * max(1.0, 0.55 * len(members)), columns=2)
    step = 0.7 / len(members)
    for position, member in enumerate(members):
        options = {"color": RUN_COLORS[position % len(RUN_COLORS)], "fmt": style.MARKERS[position % len(style.MARKERS)]}
        shift = step * ((len(members) - 1) / 2 - position)
        ratios = {name: speedups.get((member.label, name)) for name in rows}
        times = {change.variant: change.time for change in made if change.label == member.label}
        for axis, found in zip(axes, (ratios, times), strict=True):
            for height, name in enumerate(rows):
                if ratio := found.get(name):
                    errors = [[ratio.value - ratio.low], [ratio.high - ratio.value]]
                    axis.errorbar(ratio.value, height + shift, xerr=errors, ms=4.5, capsize=2.5, lw=1.2, **options)
        axes[0].errorbar([], [], label=member.label, ms=4.5, **options)
    for axis, label, title in zip(
        axes,
        ("speed-up over eager", f"time in {members[0].label} over time here"),
        ("Within each run", "Compared with the first run"),
        strict=True,
    ):
        axis.set(xscale="log", xlabel=label, title=title)
        axis.axvline(1, color=style.INK, lw=0.9, zorder=1)
        low, high = axis.get_xlim()
        axis.set_xlim(min(low, 0.8), max(high, 1.25))
        style.times_axis(axis.xaxis)
    name_rows(axes, rows)
    figure.legend(loc="outside lower center", ncols=min(len(members), 4))
    return figure
