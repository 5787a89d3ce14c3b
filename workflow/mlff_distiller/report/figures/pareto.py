"""Figure of accuracy against speed: time and force error of each variant, against the fp64 student and the teacher."""

from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pareto(run: Run) -> "Figure":
    """Time per evaluation and force error. Left: against the fp64 student; right: against the teacher."""
    points = {name: (run.mean_time(name, "energy_forces"), run.reference_error(name)) for name in run.variants}
    points = {name: point for name, point in points.items() if all(point)}
    if not points:
        return nothing("benchmark and equivalence")
    appearance = style.appearance(run.families)
    figure, axes = style.new(3.6, columns=2, width_ratios=(1.25, 1))
    left, right = axes[0]
    for name, (time, error) in points.items():
        options = {key: appearance[name][key] for key in ("color", "marker")}
        if run.equivalence(name) == "failed":
            options["mfc"] = "white"
        left.plot(time.value, error, ls="", ms=7, label=name, **options)
        if bounds := run.teacher_error(name):
            right.plot([time.value] * 2, bounds, ms=7, lw=1.2, **options)
    best = _front({name: (time.value, error) for name, (time, error) in points.items()})
    left.step(*zip(*best, strict=True), where="post", color=style.FAINT, lw=2, zorder=0)
    left.set(xscale="log", title="Against the fp64 student", ylabel="force error (RMSE, meV/Å)")
    errors = [error for _, error in points.values()]
    if max(errors) > 3 * min(errors):
        left.set_yscale("log")
    else:  # nearly equal: a logarithmic axis would exaggerate the differences
        left.set_ylim(0, 1.3 * max(errors))
    _add_teacher(run, right)
    right.set(xscale="log", title="Against the teacher", ylabel="force error (RMSE, meV/Å)")
    right.set_ylim(0, max(right.get_ylim()[1], 1) * 1.15)
    for axis in (left, right):
        axis.set_xlabel("ms per energy + forces")
        low, high = axis.get_xlim()
        axis.set_xlim(low / 1.15, high * 1.15)
        style.times_axis(axis.xaxis)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _front(points: dict[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """The Pareto front (time, error): points that no other point beats in both, from the fastest on."""
    front: list[tuple[float, float]] = []
    for time, error in sorted(points.values()):
        if not front or error < front[-1][1]:
            front.append((time, error))
    return front


def _add_teacher(run: Run, axis: "Axes") -> None:
    if time := run.teacher_time():
        axis.plot(time, 0, "*", color=style.color("teacher"), ms=11, clip_on=False)
        axis.annotate("teacher", (time, 0), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8,
                      color=style.QUIET)  # fmt: skip
    if not axis.lines:
        axis.text(0.5, 0.5, "not measured", transform=axis.transAxes, ha="center", color=style.QUIET, style="italic")


FIGURES = {"pareto": pareto}
