"""Figures of the student's accuracy against its teacher."""

from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows, nothing, row_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Force error up to which a model counts as such on molecules not used in training (Amin et al., ICLR 2025), meV/A.
FORCE_TIERS = {20: "excellent", 50: "good", 100: "usable"}

#: Most panels of the parity figure that fit side by side.
MOST_PANELS = 4
#: Groups with fewer atoms are not drawn.
FEWEST_ATOMS = 10
SPLIT_COLORS = {
    "test": "#0072B2",
    "larger": "#E69F00",
    "benchmark": "#009E73",
    "visited": "#CC79A7",
    "val": "#56B4E9",
    "coverage": "#D55E00",
}


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


def force_parity(run: Run) -> "Figure":
    """Force components of the student against those of its teacher, one panel per split."""
    entries = [e for e in run.accuracy() if (e.get("parity") or {}).get("teacher")][:MOST_PANELS]
    if not entries:
        return nothing("accuracy")
    figure, axes = style.new(2.5, columns=len(entries), sharex=True, sharey=True)
    reach = 1.03 * max(max(map(abs, e["parity"]["teacher"])) for e in entries)
    for axis, entry in zip(axes[0], entries, strict=True):
        parity = entry["parity"]
        axis.plot([-reach, reach], [-reach, reach], color=style.QUIET, lw=0.8, zorder=1)
        axis.plot(parity["teacher"], parity["student"], "o", color=_shade(entry), ms=2.2, alpha=0.35, mec="none",
                  rasterized=True)  # fmt: skip
        axis.set(title=entry["split"], xlabel="teacher (eV/Å)", xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_aspect("equal")
        text = f"R² {entry['force_r2']:.4f}\nMAE {entry['force_mae_mev_per_a']:.3g}\nRMSE {entry['force_rmse_mev_per_a']:.3g}"
        axis.text(0.05, 0.95, text, transform=axis.transAxes, va="top", fontsize=7.5)
    axes[0, 0].set_ylabel("student (eV/Å)")
    return figure


def force_errors(run: Run) -> "Figure":
    """Force error by element, by length of the teacher's force and by size of the molecule, one color per split."""
    entries = [e for e in run.accuracy() if e.get("by_element")]
    if not entries:
        return nothing("accuracy")
    figure, axes = style.new(2.7, columns=3, sharey=True)
    panels = (
        ("by_element", "By element", ""),
        ("by_force", "By force", "length (eV/Å)"),
        ("by_size", "By size", "atoms"),
    )
    for axis, (field, title, unit) in zip(axes[0], panels, strict=True):
        known = [{name: g for name, g in e[field].items() if g["n_atoms"] >= FEWEST_ATOMS} for e in entries]
        groups = sorted({name for groups in known for name in groups}, key=lambda name: float(name.split()[0]))
        for number, entry in enumerate(entries):
            found = {n: known[number][n]["force_mae_mev_per_a"] for n in groups if n in known[number]}
            # Splits side by side, so that equal errors do not overlap.
            shift = 0.14 * (number - (len(entries) - 1) / 2)
            places = [groups.index(name) + shift for name in found]
            options = {"color": _shade(entry), "marker": style.MARKERS[number], "ms": 4}
            axis.plot(
                places,
                list(found.values()),
                ls="" if field == "by_element" else "-",
                lw=1,
                label=entry["split"],
                **options,
            )
        axis.set(title=title, xlabel=unit, yscale="log")
        axis.set_xticks(range(len(groups)), [_group_name(field, name) for name in groups])
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.grid(axis="x", visible=False)
        if field != "by_element":
            axis.tick_params(axis="x", rotation=55, labelsize=7.5)
    style.times_axis(axes[0, 0].yaxis)
    axes[0, 0].set_ylabel("force MAE (meV/Å)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(entries))
    return figure


def learning_curve(run: Run) -> "Figure":
    """Force and energy error on held-out molecules during training; a dot marks the weights of the final student."""
    training = run.training()
    if training is None:
        return nothing("training")
    curve = training["learning_curve"]
    best = min(curve, key=lambda e: e["val_force_mae_mev_per_a"])
    figure, axes = style.new(2.5, columns=2)
    panels = (
        ("val_force_mae_mev_per_a", "Force", "MAE (meV/Å)"),
        ("val_energy_mae_mev_per_atom", "Energy", "MAE (meV/atom)"),
    )
    for axis, (field, title, unit) in zip(axes[0], panels, strict=True):
        minutes = [e["seconds"] / 60 for e in curve]
        axis.plot(minutes, [e[field] for e in curve], color=SPLIT_COLORS["val"], lw=1.4)
        axis.plot(best["seconds"] / 60, best[field], "o", color=style.BAD, ms=5, zorder=3)
        axis.annotate(f"{best[field]:.3g}, final student", (best["seconds"] / 60, best[field]), xytext=(0, 9),
                      textcoords="offset points", ha="right", fontsize=8, color=style.BAD)  # fmt: skip
        axis.set(title=f"{title} error on held-out molecules", xlabel="training time (min)", ylabel=unit, yscale="log")
        style.times_axis(axis.yaxis)
    return figure


def _shade(entry: dict[str, Any]) -> str:
    return SPLIT_COLORS.get(entry["split"], style.FALLBACK_COLOR)


def _group_name(field: str, name: str) -> str:
    """Tick label of a group: ``1`` -> ``H``, ``0.5 to 1`` -> ``0.5-1``, ``16 and more`` -> ``≥ 16``."""
    if field == "by_element":
        from ase.data import chemical_symbols

        return chemical_symbols[int(name)]
    low, _, high = name.partition(" to ")
    if not high:
        return f"≥ {low.removesuffix(' and more')}"
    return f"{low}–{high if field == 'by_force' else int(high) - 1}"


FIGURES = {
    "accuracy": accuracy,
    "force_parity": force_parity,
    "force_errors": force_errors,
    "learning_curve": learning_curve,
}
