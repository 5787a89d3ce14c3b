"""Figure of calls through ASE: what a call takes by itself, and what ASE adds to it."""

from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.statistics import Ratio, geometric_mean
from mlff_distiller.records.wording import number, title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.scaling import timed
from mlff_distiller.report.figures.shared import nothing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend_handler import HandlerTuple

#: Variants with a panel of their own, the fastest first.
MOST_PANELS = 3


def ase_overhead(run: Run) -> "Figure":
    """Time of a call through ASE, molecule by molecule, as bare call and what ASE adds; one panel per variant."""
    calls = {name: found for name in run.variants if (found := through_ase(run, name))}
    if not calls:
        return nothing("ASE")
    shown = sorted(calls, key=lambda name: sum(bare for bare, _ in calls[name].values()))[:MOST_PANELS]
    systems = [system for system in run.systems if any(system in calls[name] for name in shown)]
    figure, axes = style.new(1.35 + 0.24 * len(systems), columns=len(shown), sharey=True)
    for axis, name in zip(axes[0], shown, strict=True):
        _bars(axis, calls[name], systems, style.color(name, run.families.get(name)))
        axis.set_title(_heading(run, name), fontsize=9)
    axes[0, 0].set_yticks(range(len(systems)), map(title, systems))
    axes[0, 0].set_ylim(len(systems) - 0.4, -0.6)
    figure.legend(*_legend([style.color(name, run.families.get(name)) for name in shown]),
                  loc="outside lower center", ncols=2, handler_map={tuple: _side_by_side()})  # fmt: skip
    return figure


def through_ase(run: Run, name: str) -> dict[str, tuple[float, float | None]]:
    """System -> ms of the bare call, and what ASE adds; None where the intervals of the times with and without it overlap."""
    plain = run.times(name, "energy_forces")
    found: dict[str, tuple[float, float | None]] = {}
    for entry in timed(run, name, "calculator"):
        if bare := plain.get(entry["system"]):
            low = (entry.get("median_ci95_ms") or [entry["median_ms"]])[0]
            found[entry["system"]] = (bare.value, entry["median_ms"] - bare.value if low > bare.high else None)
    return found


def _bars(axis: "Axes", calls: dict[str, tuple[float, float | None]], systems: list[str], shade: str) -> None:
    for height, system in enumerate(systems):
        if system not in calls:
            continue
        bare, added = calls[system]
        axis.barh(height, bare, color=shade, height=0.62)
        axis.barh(height, added or 0, left=bare, color=style.FAINT, ec=style.QUIET, lw=0.6, height=0.62)
        text = "not measurable" if added is None else f"+ {number(added, 2)} ms"
        axis.annotate(text, (bare + (added or 0), height), xytext=(4, 0), textcoords="offset points", va="center",
                      fontsize=8, color=style.QUIET if added is None else style.INK)  # fmt: skip
    axis.set(xlim=(0, 1.6 * max(bare + (added or 0) for bare, added in calls.values())), xlabel="ms per call")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def _heading(run: Run, name: str) -> str:
    ratios = [Ratio.of(entry, "speedup") for entry in timed(run, name, "calculator") if entry.get("speedup")]
    return f"{name}: {number(geometric_mean(ratios).value, 2)}× eager through ASE" if ratios else name


def _legend(shades: list[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    bare = tuple(Patch(color=shade) for shade in shades)
    return [bare, Patch(fc=style.FAINT, ec=style.QUIET, lw=0.6)], ["bare call", "what ASE adds"]


def _side_by_side() -> "HandlerTuple":
    from matplotlib.legend_handler import HandlerTuple

    return HandlerTuple(ndivide=None, pad=0.3)


FIGURES = {"ase_overhead": ase_overhead}
