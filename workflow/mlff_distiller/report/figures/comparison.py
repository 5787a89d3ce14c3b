"""The figure of a comparison of several runs; it needs more than one run, so it is not among the figures of a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlff_distiller.decisions.comparison import Member, overall, shared_systems
from mlff_distiller.records.statistics import Ratio, geometric_mean, ratio_of
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import few_processes, number
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TASK = "energy_forces"


@dataclass(frozen=True)
class Row:
    """A run's best variant: its mean time (ms), that of eager, and how many times as fast it is as that of the first run."""

    member: Member
    variant: str
    time: Ratio
    eager: Ratio | None
    gain: Ratio | None


def draw(members: Sequence[Member]) -> "Figure":
    """The time of an energy + forces call by the best variant of each run, and by eager, one row per run."""
    with style.applied():
        figure = _draw(rows(members), members[0].label)
        figure.canvas.draw()
    return figure


def rows(members: Sequence[Member]) -> list[Row]:
    """One row per run with times on all molecules that the runs share, the fastest first; eager where nothing wins."""
    systems = shared_systems(members)
    best = {m.label: winner[0] if (winner := m.run.winner(TASK)) else BASELINE for m in members}
    first = members[0].run.times(best[members[0].label], TASK)
    found = []
    for member in members:
        variant = best[member.label]
        time = overall(member, variant, TASK, systems)["time"]
        if time is None:
            continue
        here = member.run.times(variant, TASK)
        compared = member is not members[0] and set(systems) <= first.keys()
        gain = geometric_mean([ratio_of(first[name], here[name]) for name in systems]) if compared else None
        found.append(Row(member, variant, time, overall(member, BASELINE, TASK, systems)["time"], gain))
    return sorted(found, key=lambda row: row.time.value)


def machine(member: Member) -> str:
    """What the run was timed on: its GPU, or its CPU with the number of threads."""
    machines = member.provenance.get("machines") or []
    if member.run.device != "cpu":
        return ", ".join(dict.fromkeys(gpu for found in machines for gpu in found.get("gpus") or []))
    names = dict.fromkeys(str(found["cpu"]).replace("(R)", "") for found in machines if found.get("cpu"))
    threads = ", ".join(map(str, sorted(member.threads)))
    return ", ".join([*names, f"{threads} thread{'' if threads == '1' else 's'}" if threads else ""]).strip(", ")


def against_first(row: Row, first: str) -> str:
    """How a row compares with the first run: ``5.8 times as fast as`` it, or that no difference is shown."""
    if row.gain is None:
        return ""
    if row.gain.verdict == "no difference shown":
        return f"no difference from {first} shown"
    if row.gain.verdict == "faster":
        return f"{number(row.gain.value, 2)} times as fast as {first}{few_processes(row.gain)}"
    return f"takes {number(1 / row.gain.value, 2)} times as long as {first}{few_processes(row.gain)}"


def _draw(found: Sequence[Row], first: str) -> "Figure":
    if not found:
        return style.empty("no variant was timed on all molecules that these runs share")
    figure, axes = style.new(1.1 + 0.55 * max(len(found), 2))
    axis = axes[0, 0]
    for height, row in enumerate(found[::-1]):
        _draw_row(axis, row, height, against_first(row, first))
    axis.set(
        xscale="log",
        xlabel="energy + forces of one molecule, without ASE (ms)",
        title="The fastest variant of each run",
    )
    low, high = axis.get_xlim()
    axis.set_xlim(low, high * (high / low) ** 0.22)
    style.times_axis(axis.xaxis)
    labels = [row.member.label for row in found[::-1]]
    name_rows([axis], labels)
    axis.set_yticks([height + 0.12 for height in range(len(found))], labels)
    return figure


def _draw_row(axis: "Axes", row: Row, height: float, words: str) -> None:
    """The best variant in color, eager in gray, a line from one to the other; below it the change from the first run."""
    time, eager = row.time.value, row.eager.value if row.eager else None
    if eager and row.variant != BASELINE:
        axis.plot([time, eager], [height, height], color=style.FAINT, lw=3, zorder=1)
        axis.plot(eager, height, "o", color=style.QUIET, ms=5.5)
        _write(axis, f"eager {number(eager)} ms", (eager, height), (7, 0), style.QUIET)
    shade = style.color(row.variant, row.member.run.families.get(row.variant))
    axis.plot(time, height, "D", color=shade, ms=7, zorder=3)
    _write(axis, f"{row.variant} {number(time)} ms", (time, height), (-4, 10), style.INK, weight="bold")
    _write(axis, words, (time, height), (-4, -11), style.INK)
    axis.annotate(machine(row.member), (0, height - 0.19), xycoords=axis.get_yaxis_transform(), xytext=(-4, 0),
                  textcoords="offset points", ha="right", va="center", fontsize=7, color=style.QUIET)  # fmt: skip


def _write(
    axis: "Axes", text: str, at: tuple[float, float], offset: tuple[float, float], shade: str, weight: str = "normal"
) -> None:
    axis.annotate(text, at, xytext=offset, textcoords="offset points", ha="left", va="center", fontsize=8, color=shade,
                  fontweight=weight, bbox={"fc": "white", "ec": "none", "pad": 0.3, "alpha": 0.85})  # fmt: skip
