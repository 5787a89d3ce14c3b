"""Figure of what the student says of its own errors."""

from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import number
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Splits in which molecules were not trained on, the best first.
UNSEEN = ("test", "val", "larger")


def judged(run: Run) -> dict[str, Any] | None:
    """The accuracy record, of molecules never seen, whose student says what errors it expects; None without one."""
    found = {e["split"]: e for e in run.accuracy() if e.get("reliability")}
    return next((found[split] for split in UNSEEN if split in found), next(iter(found.values()), None))


def uncertainty(run: Run) -> "Figure":
    """Left: errors expected against errors found. Right: how well systems unlike any trained are recognized."""
    entry = judged(run)
    if entry is None:
        return nothing("uncertainty")
    figure, axes = style.new(2.7, columns=2, width_ratios=[1.0, 1.25])
    _draw_errors(axes[0, 0], entry["reliability"])
    _draw_detection(axes[0, 1], entry["reliability"]["detection"])
    return figure


def _draw_errors(axis: "Axes", reliability: dict[str, Any]) -> None:
    expected, found = reliability["expected_mev_per_a"], reliability["found_mev_per_a"]
    known = [value for value in (*expected, *found) if value]
    if not known:
        return
    ends = [min(known) / 1.3, max(known) * 1.3]
    axis.plot(ends, ends, color=style.QUIET, lw=1, dashes=(4, 2))
    axis.plot(expected, found, "o-", color="#0072B2", lw=1)
    axis.set(
        xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal",
        title="Error of a force (meV/Å)", xlabel="expected by the student", ylabel="found",
    )  # fmt: skip
    style.times_axis(axis.xaxis)
    style.times_axis(axis.yaxis)


def _draw_detection(axis: "Axes", detection: dict[str, float]) -> None:
    rows = list(range(len(detection)))
    axis.barh(rows, list(detection.values()), color="#0072B2", height=0.55)
    for row, (name, area) in enumerate(detection.items()):
        axis.text(0.5, row - 0.33, name, fontsize=8, va="bottom", color=style.INK)
        axis.text(area, row, f" {number(area, 3)}", fontsize=8.5, va="center")
    axis.set(
        xlim=(0.5, 1.06), ylim=(len(rows) - 0.4, -0.8), yticks=[], xticks=[0.5, 0.75, 1.0],
        title="Recognized as unlike the training", xlabel="area under the ROC curve (0.5: by chance)",
    )  # fmt: skip
    axis.grid(axis="y", visible=False)


FIGURES = {"uncertainty": uncertainty}
