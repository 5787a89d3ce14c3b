"""Figures of the acceptance suite: frequencies, dimers, torsions and crystals of student and teacher."""

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.records.acceptance import by_dependence, changing_mode, compared
from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STUDENT, TEACHER = "#0072B2", "#8A8A8A"
#: Modes named in the panel of displacements, each in a color of its own.
NAMED = ("#D55E00", "#0072B2", "#009E73")
#: Color of the molecules that are not named.
OTHERS = "#A9A9A9"
#: Panels side by side; a row of dimers and a row of torsions.
COLUMNS = 4
#: Top of the panels of dimers, kcal/mol: beyond it the curves are walls.
HIGHEST = 4.0


def vibrations(run: Run) -> "Figure":
    """Error of the frequencies: of all modes, and of the mode of each molecule that depends most on the displacement."""
    found = by_dependence(run)
    if not found:
        return nothing("acceptance")
    figure, axes = style.new(3.1, columns=2, width_ratios=[1.15, 1], sharey=True)
    left, right = axes[0]
    named = {entry["system"]: shade for entry, shade in zip(found, NAMED, strict=False)}
    for entry in reversed(found):
        shade = named.get(entry["system"])
        theirs, ours = (np.array(entry["vibrations"][f"{who}_per_cm"][0]) for who in ("teacher", "student"))
        left.plot(theirs, ours - theirs, "o", ms=4.5 if shade else 4, mec="white", mew=0.3, color=shade or OTHERS,
                  zorder=3 if shade else 2)  # fmt: skip
        imaginary = ours < 0
        left.plot(
            theirs[imaginary], (ours - theirs)[imaginary], "o", ms=9, mfc="none", mec=style.INK, mew=0.9, zorder=4
        )
        x, errors = _errors_of_the_changing_mode(entry)
        right.plot(x, errors, "-o", lw=1.8 if shade else 1, ms=4.5 if shade else 3, color=shade or OTHERS,
                   alpha=1 if shade else 0.6, zorder=3 if shade else 2)  # fmt: skip
    for axis in (left, right):
        axis.axhline(0, color=style.INK, lw=0.9, zorder=1)
    length = found[0]["vibrations"]["displacements_a"][0]
    left.set(
        xlabel="the teacher's frequency (cm⁻¹)",
        ylabel="student less teacher (cm⁻¹)",
        title=f"All modes, at {length:g} Å",
    )
    if any(entry["imaginary"] for entry in found):
        left.text(0.98, 0.04, "ringed: imaginary", transform=left.transAxes, fontsize=8, ha="right")
    right.set(xscale="log", xlabel="displacement (Å)", title="It should not depend on the displacement")
    ticks = sorted(found[0]["vibrations"]["displacements_a"])
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.set_xticks([], minor=True)
    right.set_xlim(ticks[0] / 1.2, ticks[-1] * 1.1)
    ends = []
    for entry in found[: len(NAMED)]:
        x, errors = _errors_of_the_changing_mode(entry)
        words = f"{title(entry['system'])}, {changing_mode(entry)[2][0]:.0f}"
        ends.append((x[-1], errors[-1], words, named[entry["system"]]))
    figure.canvas.draw()
    style.label_lines(right, ends, gap=0.06)
    return figure


def energy_curves(run: Run) -> "Figure":
    """Up to four dimers (the deepest wells) and four torsions (the highest barriers, one of each molecule)."""
    dimers = sorted(compared(run, "dimer"), key=lambda entry: -entry["well_depth_kcal_mol"])[:COLUMNS]
    by_molecule: dict[str, dict[str, Any]] = {}
    for entry in sorted(compared(run, "torsion"), key=lambda entry: -entry["barrier_kcal_mol"]):
        by_molecule.setdefault(entry["system"], entry)
    torsions = list(by_molecule.values())[:COLUMNS]
    shown = [row for row in (dimers, torsions) if row]
    if not shown:
        return nothing("acceptance")
    figure, axes = style.new(1.9 * len(shown) + 0.35, columns=COLUMNS, rows=len(shown), sharey="row")
    for row, panels in zip(axes, shown, strict=True):
        for axis, entry in zip(row, panels, strict=False):
            _curves(axis, entry)
        for axis in row[len(panels) :]:
            axis.set_axis_off()
        row[0].set_ylabel("energy (kcal/mol)")
    if dimers:
        lowest = min(min(known(e["curve"][f"{who}_kcal_mol"])) for e in dimers for who in ("teacher", "student"))
        axes[0, 0].set_ylim(max(1.25 * lowest, -3 * HIGHEST), HIGHEST)
    if torsions:
        axes[-1, 0].set_ylim(0, 1.25 * max(max(known(e["curve"]["teacher_kcal_mol"])) for e in torsions))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def known(values: list[float | None]) -> list[float]:
    """``values`` without nulls."""
    return [value for value in values if value is not None]


def _curves(axis: "Axes", entry: dict[str, Any]) -> None:
    curve, dimer = entry["curve"], entry["task"] == "dimer"
    x = np.array(curve["x"])
    # A full turn ends where it began.
    closed = not dimer and x[0] == 0
    for who, shade, width in (("teacher", TEACHER, 3.2), ("student", STUDENT, 1.5)):
        y = np.array(curve[f"{who}_kcal_mol"], dtype=float)
        points = (np.append(x, 360.0), np.append(y, y[0])) if closed else (x, y)
        axis.plot(*points, color=shade, lw=width, label=who, alpha=0.7 if who == "teacher" else 1)
    if dimer:
        axis.axhline(0, color=style.QUIET, lw=0.7, zorder=1)
        axis.set_xlim(x[0], x[-1])
    else:
        axis.set_xticks([0, 120, 240, 360])
        axis.set_xlim(0, 360)
    error = entry["dimer_mae_kcal_mol" if dimer else "profile_mae_kcal_mol"]
    axis.set_title(_in_lines(title(entry["system"]), dimer), fontsize=7.5)
    axis.set_xlabel("distance (Å)" if dimer else "torsion (°)")
    if error is not None:
        axis.text(0.96, 0.97, f"MAE {error:.2f}", transform=axis.transAxes, ha="right", va="top", fontsize=7.5)


def _in_lines(words: str, dimer: bool) -> str:
    """A title for a narrow panel; of a dimer the molecules stand in the first line."""
    if dimer:
        return "\n".join(words.split(" ", 1))
    return "\n".join(textwrap.wrap(words, 21, break_long_words=False, break_on_hyphens=False))


def _errors_of_the_changing_mode(entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (A, ascending) and the error (1/cm) there of the mode whose error changes most."""
    lengths, student, teacher = changing_mode(entry)
    return np.array(lengths), np.array(student) - np.array(teacher)


def crystals(run: Run) -> "Figure":
    """Energies along the volume of up to four crystals, and the error of their phonons."""
    curves = compared(run, "volume")[:COLUMNS]
    modes = {entry["system"]: entry for entry in compared(run, "phonons")}
    if not curves:
        return nothing("acceptance")
    figure, axes = style.new(2.4 * len(curves), columns=2, rows=len(curves))
    for (left, right), entry in zip(axes, curves, strict=True):
        curve, name = entry["volume_curve"], title(entry["system"])
        for who, shade, width in (("teacher", TEACHER, 3.2), ("student", STUDENT, 1.5)):
            energies = np.array(curve[f"{who}_mev_per_atom"], dtype=float)
            left.plot(curve["volumes_a3_per_atom"], energies, "-o", color=shade, lw=width, ms=3.5, label=who)
        left.set(xlabel="volume (Å³/atom)", ylabel="energy (meV/atom)", title=f"{name}: energy along the volume")
        left.legend(frameon=False)
        if entry["system"] not in modes:
            right.set_axis_off()
            continue
        theirs, ours = (
            np.array(modes[entry["system"]]["phonons"][f"{who}_thz"]).ravel() for who in ("teacher", "student")
        )
        ends = [min(0.0, theirs.min(), ours.min()), 1.05 * max(theirs.max(), ours.max())]
        right.plot(ends, ends, color=style.INK, lw=0.9, zorder=1)
        right.plot(theirs, ours, "o", color=STUDENT, ms=3.5, mec="white", mew=0.3)
        right.set(xlabel="teacher (THz)", ylabel="student (THz)", title=f"{name}: phonons", xlim=ends, ylim=ends)
    return figure


FIGURES = {"vibrations": vibrations, "energy_curves": energy_curves, "crystals": crystals}
