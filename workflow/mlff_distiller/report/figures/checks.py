"""Figures of the MD checks beyond NVE: order of the integrator, canonical kinetic energies, student against teacher."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import nothing
from mlff_distiller.report.names import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors of what a figure names; what is beyond them is gray.
SHADES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A88B00", "#222222")
#: Fluctuations that differ by less than this share lie on one line.
SAME = 1e-3
#: A p below this is marked: one run in twenty has one by chance.
UNLIKELY = 0.05
#: Panels of a row of pair distributions.
MOST_PAIRS = 3


def _entries(run: Run, task: str, field: str) -> list[dict[str, Any]]:
    """Records of a check that have ``field``, smallest system first."""
    found = [entry for entry in run.of("md", task=task) if entry.get(field)]
    return sorted(found, key=lambda entry: (entry["n_atoms"] or 0, str(entry["system"]), str(entry["variant"])))


def md_timestep(run: Run) -> "Figure":
    """Left: fluctuation of the total energy against the time step; right: its ratio on halving the step."""
    entries = _entries(run, "timestep", "fluctuation_mev_per_atom")
    if not entries:
        return nothing("time step")
    figure, axes = style.new(2.9, columns=2)
    left, right = axes[0]
    lines = _coinciding(entries)
    markers = dict(zip(dict.fromkeys(e["system"] for e, _ in lines), style.MARKERS, strict=False))
    handles: dict[str, Any] = {}
    for position, (entry, name) in enumerate(lines):
        shade = SHADES[position] if position < len(SHADES) else style.FAINT
        options = {"color": shade, "marker": markers.get(entry["system"], "o"), "lw": 1.2}
        steps, values = np.array(entry["timesteps_fs"]), np.array(entry["fluctuation_mev_per_atom"])
        (line,) = left.loglog(steps, values, **options)
        if position < len(SHADES):
            handles[", ".join(filter(None, (title(entry["system"]), name)))] = line
        right.plot(steps[1:], entry["ratios"], **options)
    reach = np.array([min(e["timesteps_fs"][-1] for e in entries), max(e["timesteps_fs"][0] for e in entries)])
    finest = min(e["fluctuation_mev_per_atom"][-1] for e in entries)
    left.loglog(reach, finest / 2 * (reach / reach[0]) ** 2, color=style.QUIET, lw=0.9, ls=(0, (2, 2)))
    left.set_title("dotted: grows as dt²", fontweight="normal", fontsize=8.5)
    style.times_axis(left.yaxis, dense=False)
    right.set_xscale("log")
    for axis, first in ((left, 0), (right, 1)):
        ticks = sorted({step for entry in entries for step in entry["timesteps_fs"][first:]})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.set_xlim(ticks[0] / 1.25, ticks[-1] * 1.25)
    left.set_xlabel("time step (fs)")
    left.set_ylabel("fluctuation (meV/atom)")
    limit = max(
        (gate["limit"] for e in entries for name, gate in e["gates"].items() if name == list(e["gates"])[-1]), default=0
    )
    right.axhspan(4 - limit, 4 + limit, color=style.GOOD, alpha=0.12, lw=0)
    right.axhline(4, color=style.INK, lw=0.9)
    right.set_xlabel("finer time step of the pair (fs)")
    right.set_ylabel("ratio on halving")
    right.set_title("band: allowed for the finest pair", fontweight="normal", fontsize=8.5)
    right.set_ylim(min(3.4, right.get_ylim()[0]), max(4.8, right.get_ylim()[1]))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3,
                  title=None if any(name for _, name in lines) else _who(entries), title_fontsize=8.5)  # fmt: skip
    return figure


def _coinciding(entries: list[dict[str, Any]]) -> list[tuple[dict[str, Any], str]]:
    """One record per line that can be seen, with the variants on it; without names where all variants are on all lines."""
    groups: list[list[dict[str, Any]]] = []
    for entry in entries:
        for group in groups:
            if entry["system"] == group[0]["system"] and _same_line(entry, group[0]):
                group.append(entry)
                break
        else:
            groups.append([entry])
    variants = {entry["variant"] for entry in entries}
    together = all({entry["variant"] for entry in group} == variants for group in groups)
    return [(group[0], "" if together else " and ".join(entry["variant"] for entry in group)) for group in groups]


def _same_line(one: dict[str, Any], other: dict[str, Any]) -> bool:
    field = "fluctuation_mev_per_atom"
    same_steps = one["timesteps_fs"] == other["timesteps_fs"]
    return same_steps and bool(np.allclose(one[field], other[field], rtol=SAME, atol=0))


def _who(entries: list[dict[str, Any]]) -> str:
    """Of variants that lie on one another: how many, and which."""
    names = sorted({entry["variant"] for entry in entries})
    if len(names) == 1:
        return str(names[0])
    return f"{'both' if len(names) == 2 else f'all {count(len(names))}'} coincide: {', '.join(names)}"


def md_kinetic(run: Run) -> "Figure":
    """Distribution of the kinetic energy in Langevin dynamics against Maxwell-Boltzmann's, one panel per system."""
    entries = _entries(run, "nvt", "kinetic_histogram")
    if not entries:
        return nothing("NVT")
    from scipy.stats import gamma

    panels: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        panels.setdefault(entry["system"], []).append(entry)
    appearance = style.appearance(run.families)
    columns = min(3, len(panels))
    figure, axes = style.new(2.1 * -(-len(panels) // columns) + 0.5, columns=columns, rows=-(-len(panels) // columns))
    handles: dict[str, Any] = {}
    for axis, (system, found) in zip(axes.flat, panels.items(), strict=False):
        shape = found[0]["degrees_of_freedom"] / 2
        grid = np.linspace(*gamma.ppf([1e-4, 1 - 1e-4], shape), 200)
        handles["Maxwell-Boltzmann"] = axis.fill_between(grid, gamma.pdf(grid, shape), color=style.FAINT, lw=0)
        for entry in found:
            histogram = entry["kinetic_histogram"]
            handles[entry["variant"]] = axis.stairs(
                histogram["density"],
                histogram["edges_kt"],
                color=appearance[entry["variant"]]["color"],
                lw=1.2,
                ls=appearance[entry["variant"]]["linestyle"],
            )
        axis.set_title(title(system))
        axis.set_yticks([])
        _write_p(axis, found)
        axis.set_xlabel("kinetic energy (kT)")
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("density")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
    return figure


def _write_p(axis: "Axes", found: list[dict[str, Any]]) -> None:
    """The least p in the corner; in color and in words, with the temperature, where it is unlikely."""
    worst = min(found, key=lambda entry: entry["p_value"])
    text = f"p {'=' if len(found) == 1 else '≥'} {worst['p_value']:.2g}"
    unlikely = worst["p_value"] < UNLIKELY
    if unlikely:
        mean, wanted = worst["mean_temperature_k"], worst["temperature_k"]
        text += f", unlikely\n{mean:.0f} K for {wanted:.0f} K"
        text += "" if len(found) == 1 else f"\n({worst['variant']})"
    axis.text(0.99, 0.97, text, transform=axis.transAxes, ha="right", va="top", fontsize=8,
              color=style.BAD if unlikely else style.INK, fontweight="bold" if unlikely else "normal")  # fmt: skip
    if unlikely:
        axis.set_ylim(top=1.2 * axis.get_ylim()[1])


def md_spectra(run: Run) -> "Figure":
    """Bond lengths, angles and vibrations of student and teacher, one row per molecule."""
    entries = _entries(run, "spectra", "distributions")
    if not entries:
        return nothing("spectra")
    panels: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        panels.setdefault(entry["system"], []).append(entry)
    appearance = style.appearance(run.families)
    figure, axes = style.new(1.75 * len(panels) + 0.7, columns=3, rows=len(panels), width_ratios=[1, 1, 1.7])
    handles: dict[str, Any] = {}
    for row, (system, found) in zip(axes, panels.items(), strict=True):
        curves = {"teacher": found[0]["distributions"]["teacher"]}
        curves |= {entry["variant"]: entry["distributions"]["student"] for entry in found}
        for name, curve in curves.items():
            if name == "teacher":
                options = {"color": style.FAINT, "fill": True}
            else:
                options = {"color": appearance[name]["color"], "lw": 1.1, "ls": appearance[name]["linestyle"]}
            for axis, kind in zip(row, ("bond_lengths", "angles"), strict=False):
                if curve[kind]["density"]:
                    handles[name] = axis.stairs(curve[kind]["density"], curve[kind]["edges"], **options)
            numbers, density = (np.array(curve["spectrum"][key]) for key in ("wavenumbers", "density"))
            if name == "teacher":
                row[2].fill_between(numbers, density, color=style.FAINT, lw=0)
            else:
                row[2].plot(numbers, density, **options)
        for axis, kind in zip(row, ("bond_lengths", "angles"), strict=False):
            shown = [(c[kind]["edges"], c[kind]["density"]) for c in curves.values() if c[kind]["density"]]
            filled = [edges[i] for edges, density in shown for i in range(len(density)) if density[i] > 0]
            if filled:
                margin = 0.06 * (max(filled) - min(filled))
                axis.set_xlim(min(filled) - margin, max(filled) + margin)
        row[0].set_title(title(system))
        row[2].set_xlim(0, 4000)
        worst = max(found, key=lambda entry: entry["spectrum_difference"])
        common, floor = 1 - worst["spectrum_difference"], 1 - worst["floor"]["spectrum_difference"]
        text = f"{common:.0%} in common (teacher's halves: {floor:.0%})"
        row[2].set_title(text, fontweight="normal", fontsize=8)
        for axis in row:
            axis.set_yticks([])
            axis.set_ylim(bottom=0)
    for axis, label in zip(axes[-1], ("bond length (Å)", "angle (°)", "wave number (1/cm)"), strict=True):
        axis.set_xlabel(label)
    for row in axes:
        row[0].set_ylabel("density")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
    return figure


def md_pairs(run: Run) -> "Figure":
    """Pair distributions of student and teacher, one row per liquid, one panel per pair of elements."""
    entries = _entries(run, "pairs", "pair_distributions")
    if not entries:
        return nothing("pair distributions")
    panels: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        panels.setdefault(entry["system"], []).append(entry)
    appearance = style.appearance(run.families)
    most = min(MOST_PAIRS, max(len(found[0]["pair_distributions"]["teacher"]) for found in panels.values()))
    figure, axes = style.new(1.75 * len(panels) + 0.7, columns=most, rows=len(panels))
    handles: dict[str, Any] = {}
    for row, (system, found) in zip(axes, panels.items(), strict=True):
        worst = max(found, key=lambda entry: entry["pair_difference"])
        curves = {"teacher": found[0]["pair_distributions"]["teacher"]}
        curves |= {entry["variant"]: entry["pair_distributions"]["student"] for entry in found}
        # The pair that differs most first.
        pairs = sorted(curves["teacher"], key=lambda pair: pair != worst["worst_pair"])
        for axis, pair in zip(row, pairs, strict=False):
            for name, curve in curves.items():
                distances = found[0]["bin_a"] * (np.arange(len(curve[pair])) + 0.5)
                if name == "teacher":
                    handles[name] = axis.fill_between(distances, curve[pair], color=style.FAINT, lw=0)
                else:
                    look = appearance[name]
                    (handles[name],) = axis.plot(
                        distances, curve[pair], color=look["color"], lw=1.1, ls=look["linestyle"]
                    )
            axis.set_ylim(bottom=0)
            axis.set_xlim(left=0)
            axis.text(0.04, 0.95, pair.replace("-", "–"), transform=axis.transAxes, va="top", fontsize=8)
        for axis in row[len(pairs) :]:
            axis.set_axis_off()
        common, floor = 1 - worst["pair_difference"], 1 - worst["floor"]
        row[0].set_title(
            f"{title(system)}: {common:.0%} in common (teacher's halves: {floor:.0%})", fontsize=8, loc="left"
        )
        row[0].set_ylabel("g(r)")
    for axis in axes[-1]:
        axis.set_xlabel("distance (Å)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(5, len(handles)))
    return figure


FIGURES = {"md_timestep": md_timestep, "md_kinetic": md_kinetic, "md_spectra": md_spectra, "md_pairs": md_pairs}
