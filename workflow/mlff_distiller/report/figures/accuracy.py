"""Figures of the student's accuracy against its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf, isclose
from typing import TYPE_CHECKING

from mlff_distiller.records.run import Run
from mlff_distiller.records.schema import Record
from mlff_distiller.records.wording import number, title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows, nothing
from mlff_distiller.report.names import count, molecule_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Most panels of the parity figure.
MOST_PANELS = 4
#: Share of the force components (in percent) that the axes of the parity figure hold.
WITHIN_AXES = 99
#: Components per cell at the white end of the colors, so that a cell with one is seen.
PALEST = 0.3
#: Groups with fewer atoms are not drawn.
FEWEST_ATOMS = 10
#: Most molecules that a group is named after.
MOST_NAMES = 2
SPLIT_COLORS = {
    "test": "#0072B2", "larger": "#E69F00", "benchmark": "#009E73", "visited": "#CC79A7", "val": "#56B4E9",
    "coverage": "#A88B00",
}  # fmt: skip
SPLIT_TITLES = {
    "test": "unseen", "larger": "larger than trained", "visited": "own MD", "val": "validation",
    "coverage": "clusters, droplets",
}  # fmt: skip
#: Order within a row: the two splits whose dots have names are not next to each other.
SLOTS = ("test", "benchmark", "larger", "visited", "coverage", "val")
#: How the force errors are grouped: field of the record -> title of the panel.
GROUPINGS = {"by_size": "By size (atoms)", "by_element": "By element", "by_force": "By force (eV/Å)"}


@dataclass(frozen=True)
class Group:
    """The force error of one group of a split; ``molecules`` are its names where the records tell."""

    split: str
    grouping: str
    name: str
    error: float
    molecules: tuple[str, ...] = ()


def split_title(entry: Record) -> str:
    """A split of the data in plain words: ``unseen``, ``the seven`` (benchmark molecules), ``own MD``."""
    if entry["split"] == "benchmark":
        return f"the {count(entry['n_molecules'])}" if entry.get("n_molecules") else "benchmark"
    return SPLIT_TITLES.get(str(entry["split"]), str(entry["split"]))


def group_name(grouping: str, name: str) -> str:
    """A group for people: ``1`` -> ``H``, ``0.5 to 1`` -> ``0.5–1``, ``1 to 9`` atoms -> ``1–8``, ``16 and more`` -> ``≥ 16``."""
    if grouping == "by_element":
        from ase.data import chemical_symbols

        return chemical_symbols[int(name)]
    low, high = _bounds(name)
    if high == inf:
        return f"≥ {low:g}"
    return f"{low:g}–{high if grouping == 'by_force' else high - 1:g}"


def groups(run: Run, entry: Record) -> list[Group]:
    """The groups of one split with atoms enough to be drawn."""
    found = []
    for grouping in GROUPINGS:
        for name, group in (entry.get(grouping) or {}).items():
            if group["n_atoms"] >= FEWEST_ATOMS:
                molecules = molecules_in(run, entry, name) if grouping == "by_size" else ()
                error = group["force_mae_mev_per_a"]
                found.append(Group(str(entry["split"]), grouping, name, error, molecules))
    return found


def molecules_in(run: Run, entry: Record, size: str) -> tuple[str, ...]:
    """The molecules in a group by size, where there are few.

    Older records do not name them. Of a split of the run's molecules with equally many configurations of each they tell the
    number of configurations and atoms of a group: empty unless one choice of molecules fits both.
    """
    if entry.get("by_molecule"):
        low, high = _bounds(size)
        of_size = {name: one["n_atoms"] / one["n_configurations"] for name, one in entry["by_molecule"].items()}
        named = sorted((atoms, name) for name, atoms in of_size.items() if low <= atoms < high)
        return tuple(molecule_name(name) for _, name in named) if len(named) <= MOST_NAMES else ()
    group, known = entry["by_size"][size], {}
    if entry["split"] in ("benchmark", "visited"):
        low, high = _bounds(size)
        known = {name: atoms for name, atoms in run.systems.items() if low <= atoms < high}
    each = (entry.get("n_configurations") or 0) / (entry.get("n_molecules") or 1)
    several = group.get("n_configurations", 0) / each if each else 0
    if not 1 <= several <= MOST_NAMES or several % 1:
        return ()
    fitting = [
        names
        for names in combinations(known, int(several))
        if isclose(sum(known[name] for name in names) * each, group["n_atoms"])
    ]
    return fitting[0] if len(fitting) == 1 else ()


def worst(found: Sequence[Group]) -> Group:
    """The group with the largest force error; of equal ones the one whose molecules are known."""
    return max(found, key=lambda group: (group.error, bool(group.molecules)))


def accuracy(run: Run) -> "Figure":
    """Force and energy error of the student against its teacher, per split of the data."""
    entries = [e for e in run.accuracy() if e.get("force_mae_mev_per_a") is not None][::-1]
    if not entries:
        return nothing("accuracy")
    figure, axes = style.new(0.9 + 0.45 * max(len(entries), 2), columns=2, sharey=True)
    axes = axes[0]
    fields = (
        ("force_mae_mev_per_a", "Force error (MAE)", "meV/Å"),
        ("energy_mae_mev_per_atom", "Energy error (MAE)", "meV/atom"),
    )
    for axis, (field, heading, unit) in zip(axes, fields, strict=True):
        values = [entry.get(field) for entry in entries]
        for height, (entry, value) in enumerate(zip(entries, values, strict=True)):
            if value is not None:
                axis.barh(height, value, height=0.55, color=_shade(str(entry["split"])))
                axis.annotate(number(value), (value, height), xytext=(4, 0), textcoords="offset points", va="center")
        axis.set(title=heading, xlabel=unit)
        axis.set_xlim(0, 1.2 * max([value for value in values if value is not None], default=1))
    several = len({entry["variant"] for entry in entries}) > 1
    names = [split_title(e) + (f" ({e['variant']})" if several else "") for e in entries]
    name_rows(axes, names)
    axes[0].set_yticks([height + 0.14 for height in range(len(entries))], names)
    for height, entry in enumerate(entries):
        axes[0].annotate(_contents(entry), (0, height - 0.19), xycoords=axes[0].get_yaxis_transform(), xytext=(-4, 0),
                         textcoords="offset points", ha="right", va="center", fontsize=7, color=style.QUIET)  # fmt: skip
    return figure


def force_parity(run: Run) -> "Figure":
    """Error of the student's force components against the teacher's force, as density, one panel per split."""
    import numpy as np
    from matplotlib.colors import LogNorm

    entries = [e for e in run.accuracy() if (e.get("parity") or {}).get("teacher")][:MOST_PANELS]
    if not entries:
        return nothing("accuracy")
    forces = [np.array(e["parity"]["teacher"]) for e in entries]
    errors = [1e3 * (np.array(e["parity"]["student"]) - force) for e, force in zip(entries, forces, strict=True)]
    width, height = (
        1.05 * np.percentile(abs(np.concatenate(values)), WITHIN_AXES) or 1.0 for values in (forces, errors)
    )
    columns = min(2, len(entries))
    rows = -(-len(entries) // columns)
    figure, axes = style.new(0.6 + 1.75 * rows, columns=columns, rows=rows, sharex=True, sharey=True)
    norm = LogNorm(PALEST, max(20, *map(len, forces)) / 10)
    for axis, entry, force, error in zip(axes.flat, entries, forces, errors, strict=False):
        inside = (abs(force) <= width) & (abs(error) <= height)
        cells = axis.hexbin(force[inside], error[inside], gridsize=(40, 17), extent=(-width, width, -height, height),
                            mincnt=1, norm=norm, cmap="Blues", linewidths=0.1)  # fmt: skip
        _mark_parity(axis, entry, int((~inside).sum()), len(force))
        axis.set(xlim=(-width, width), ylim=(-height, height))
    for axis in axes.flat[len(entries) :]:
        axis.set_axis_off()
    figure.supxlabel("force component of the teacher (eV/Å)", fontsize=9)
    figure.supylabel("student − teacher (meV/Å)", fontsize=9)
    bar = figure.colorbar(cells, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label("components per cell", fontsize=8)
    bar.ax.set_ylim(1, None)
    style.times_axis(bar.ax.yaxis)
    return figure


def _mark_parity(axis: "Axes", entry: Record, outside: int, points: int) -> None:
    """Title and lines with the split's mean absolute error, and how many components the axes do not hold."""
    mae = entry["force_mae_mev_per_a"]
    for level in (-mae, mae):
        axis.axhline(level, color=style.BAD, lw=0.9, ls=(0, (4, 2)), zorder=3)
    axis.set_title(f"{split_title(entry)}: MAE {number(mae)} meV/Å", fontsize=8.5)
    if outside:
        axis.text(0.985, 0.04, f"{outside:,} of {points:,} outside", transform=axis.transAxes, ha="right", fontsize=7.5,
                  color=style.QUIET, bbox={"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.9})  # fmt: skip


def force_errors(run: Run) -> "Figure":
    """Force error by size of the molecule, by element and by force; one dot per group, one color per split."""
    entries = sorted((e for e in run.accuracy() if e.get("by_element")), key=_slot)
    found = [group for entry in entries for group in groups(run, entry)]
    if not found:
        return nothing("accuracy")
    splits = [str(entry["split"]) for entry in entries]
    names = {
        grouping: sorted({g.name for g in found if g.grouping == grouping}, key=lambda name: _bounds(name)[0])
        for grouping in GROUPINGS
    }
    height = 1.1 + 0.4 * max(map(len, names.values()))
    figure, axes = style.new(height, columns=len(GROUPINGS), sharex=True, width_ratios=(1.6, 1, 1))
    largest = worst(found)
    axes[0, 0].set_xlim(0, 1.12 * (largest.error or 1))
    for axis, (grouping, heading) in zip(axes[0], GROUPINGS.items(), strict=True):
        for group in (g for g in found if g.grouping == grouping):
            place = names[grouping].index(group.name) + _shift(splits, group.split)
            marker = style.MARKERS[splits.index(group.split)]
            axis.plot(group.error, place, marker, color=_shade(group.split), ms=5)
            if group == largest or (group.split == "benchmark" and group.molecules):
                _name_dot(axis, group, place, is_worst=group == largest)
        axis.set_title(heading)
        _name_groups(axis, [group_name(grouping, name) for name in names[grouping]])
    figure.supxlabel("mean absolute force error (meV/Å)", fontsize=9)
    for position, entry in enumerate(entries):
        axes[0, 0].plot([], [], style.MARKERS[position], color=_shade(splits[position]), ms=5, label=split_title(entry))
    figure.legend(loc="outside upper center", ncols=len(entries))
    return figure


def _name_dot(axis: "Axes", group: Group, place: float, *, is_worst: bool) -> None:
    """The molecules behind a dot, on the side where there is room; with its value if it is the worst of all."""
    words = ", ".join(map(title, group.molecules))
    words += f" {number(group.error)}" if is_worst else ""
    right = group.error < axis.get_xlim()[1] / 2
    axis.annotate(words.strip(), (group.error, place), xytext=(5 if right else -5, 0), textcoords="offset points",
                  va="center", ha="left" if right else "right", fontsize=7.5,
                  fontweight="bold" if is_worst else "normal")  # fmt: skip


def _name_groups(axis: "Axes", rows: Sequence[str]) -> None:
    """One named row per group, the first on top, with lines between them."""
    from matplotlib.ticker import MaxNLocator

    axis.set_yticks(range(len(rows)), rows)
    axis.set_ylim(len(rows) - 0.45, -0.55)
    for line in range(1, len(rows)):
        axis.axhline(line - 0.5, color=style.FAINT, lw=0.6, zorder=0)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(4))


def _slot(entry: Record) -> int:
    """The place of a split within a row."""
    return SLOTS.index(entry["split"]) if entry["split"] in SLOTS else len(SLOTS)


def _shift(splits: Sequence[str], split: str) -> float:
    """Splits side by side within a row, so that equal errors do not overlap."""
    return 0.22 * (splits.index(split) - (len(splits) - 1) / 2)


def learning_curve(run: Run) -> "Figure":
    """Force and energy error on held-out molecules during training; a dot marks the weights of the final student."""
    training = run.training()
    if training is None:
        return nothing("training")
    curve = training["learning_curve"]
    best = min(curve, key=lambda e: e["val_force_mae_mev_per_a"])
    minutes = [e["seconds"] / 60 for e in curve]
    figure, axes = style.new(2.5, columns=2)
    panels = (
        ("val_force_mae_mev_per_a", "Force error", "MAE (meV/Å)"),
        ("val_energy_mae_mev_per_atom", "Energy error", "MAE (meV/atom)"),
    )
    for axis, (field, heading, unit) in zip(axes[0], panels, strict=True):
        end = best[field]
        axis.plot(minutes, [e[field] for e in curve], color="#0072B2", lw=1.6)
        axis.axhline(end, color=style.BAD, lw=0.9, ls=(0, (4, 2)), zorder=1)
        axis.plot(best["seconds"] / 60, end, "o", color=style.BAD, ms=5.5, zorder=3)
        axis.annotate(f"final student: {number(end)}", (best["seconds"] / 60, end), xytext=(0, -7), va="top", ha="right",
                      textcoords="offset points", fontsize=9, fontweight="bold", color=style.BAD)  # fmt: skip
        axis.set(title=f"{heading} on held-out molecules", xlabel="training time (min)", ylabel=unit)
        axis.set(xlim=(0, 1.03 * minutes[-1]), ylim=(0, None))
    return figure


def _shade(split: str) -> str:
    return SPLIT_COLORS.get(split, style.FALLBACK_COLOR)


def _contents(entry: Record) -> str:
    """How many molecules a split holds: ``7 benchmark molecules``."""
    molecules = entry.get("n_molecules")
    return f"{molecules:,} {'benchmark ' if entry['split'] == 'benchmark' else ''}molecules" if molecules else ""


def _bounds(name: str) -> tuple[float, float]:
    """Lower and upper end of a bin: ``1 to 9`` or ``16 and more``."""
    low, _, high = name.partition(" to ")
    return (float(low), float(high)) if high else (float(name.split()[0]), inf)


FIGURES = {
    "accuracy": accuracy,
    "force_parity": force_parity,
    "force_errors": force_errors,
    "learning_curve": learning_curve,
}
