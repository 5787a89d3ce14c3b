"""Figures of the student's accuracy against its teacher."""

from typing import TYPE_CHECKING

from mlff_distiller import style
from mlff_distiller.figures.shared import name_rows, nothing, row_axes
from mlff_distiller.summary import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Tiers for the force error on molecules never seen, meV/A.
FORCE_TIERS = {20: "excellent", 50: "good", 100: "usable"}


def accuracy(run: Run) -> "Figure":
    """Force and energy error of the student against its teacher, per split of the data."""
    entries = [e for e in run.accuracy() if e.get("force_mae_mev_per_a") is not None]
    if not entries:
        return nothing("accuracy")
    several = len({entry["variant"] for entry in entries}) > 1
    rows = [f"{e['split']} ({e['variant']})" if several else str(e["split"]) for e in entries]
    rows, entries = rows[::-1], entries[::-1]
    figure, axes = row_axes(len(rows), columns=2)
    fields = (("force_mae_mev_per_a", "Force error, mean absolute", "meV/Å"),
              ("energy_mae_mev_per_atom", "Energy error, mean absolute", "meV/atom"))  # fmt: skip
    for axis, (field, title, unit) in zip(axes, fields, strict=True):
        values = [entry.get(field) for entry in entries]
        for height, value in enumerate(values):
            if value is not None:
                axis.plot([0, value], [height, height], color="#0072B2", lw=5, alpha=0.35, solid_capstyle="butt")
                axis.plot(value, height, "o", color="#0072B2", ms=6)
                axis.annotate(f"{value:.3g}", (value, height), xytext=(7, 0), textcoords="offset points", va="center",
                              fontsize=8, bbox={"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.85})  # fmt: skip
        axis.set(title=title, xlabel=unit)
        axis.set_xlim(0, 1.25 * max([value for value in values if value is not None], default=1))
    for tier, word in FORCE_TIERS.items():
        if tier < axes[0].get_xlim()[1]:
            axes[0].axvline(tier, color=style.GOOD, lw=1, ls=(0, (4, 2)), zorder=1)
            axes[0].text(tier, len(rows) - 0.2, f"{word} ", color=style.GOOD, fontsize=7.5, va="center", ha="right")
    name_rows(axes, rows, headroom=0.5)
    return figure


FIGURES = {"accuracy": accuracy}
