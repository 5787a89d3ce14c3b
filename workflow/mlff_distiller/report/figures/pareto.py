"""Figure of accuracy against speed: time and force error of each variant against fp64, beside the model's own error."""

from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Errors this close (as a ratio) need no name of their own.
APART = 2.0


def pareto(run: Run) -> "Figure":
    """Time per evaluation and force error against the fp64 student; above, what the student is off from its teacher."""
    points = {name: (run.mean_time(name, "energy_forces"), run.reference_error(name)) for name in run.variants}
    points = {name: point for name, point in points.items() if all(point)}
    if not points:
        return nothing("benchmark and equivalence")
    appearance = style.appearance(run.families)
    figure, axes = style.new(3.4)
    axis = axes[0, 0]
    winner = run.winner()
    usual = min(error for _, error in points.values())
    for name, (time, error) in points.items():
        options = {key: appearance[name][key] for key in ("color", "marker")}
        if run.equivalence(name) == "failed":
            options["mfc"] = "white"
        axis.plot(time.value, error, ls="", ms=7, **options)
        if error > APART * usual or name in (BASELINE, winner[0] if winner else None):
            axis.annotate(name, (time.value, error), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8,
                          color=options["color"])  # fmt: skip
    if bounds := run.teacher_error(BASELINE):
        axis.axhline(bounds[0], color=style.QUIET, lw=1, ls="--")
        axis.annotate(f"the student against its teacher: {bounds[0]:.2g}", (0.01, bounds[0]), xytext=(0, 3),
                      xycoords=axis.get_yaxis_transform(), textcoords="offset points", fontsize=8,
                      color=style.QUIET)  # fmt: skip
    axis.set(
        xscale="log", yscale="log", ylabel="force error against fp64 (RMSE, meV/Å)", xlabel="ms per energy + forces"
    )
    low, high = axis.get_ylim()
    axis.set_ylim(low / 2, high * 2)
    low, high = axis.get_xlim()
    axis.set_xlim(low / 1.3, high * 1.3)
    for direction in (axis.xaxis, axis.yaxis):
        style.times_axis(direction, dense=direction is axis.xaxis)
    return figure


FIGURES = {"pareto": pareto}
