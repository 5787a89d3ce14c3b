"""Figure of calls through ASE: what a call takes by itself, and what ASE adds to it."""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class AseCall:
    """Times of one molecule.

    Args:
        bare: of the call without ASE, ms.
        added: what ASE adds, ms; None where it is not measurable: where the interval of the ratio of both times spans 1 or, of
            calls that were timed apart, the intervals of the times overlap.
        together: whether both were timed in turn, in the same processes.
    """

    bare: float
    added: float | None
    together: bool


def ase_overhead(run: Run) -> "Figure":
    """Time of a call through ASE, molecule by molecule, as bare call and what ASE adds; one panel per variant."""
    calls = {name: found for name in run.variants if (found := through_ase(run, name))}
    if not calls:
        return nothing("ASE")
    shown = sorted(calls, key=lambda name: sum(call.bare for call in calls[name].values()))[:MOST_PANELS]
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


def through_ase(run: Run, name: str) -> dict[str, AseCall]:
    """System -> what a variant's call takes with and without ASE. In older records the bare call is another job's."""
    plain = run.times(name, "energy_forces")
    found = {}
    for entry in timed(run, name, "calculator"):
        if entry.get("ase_ratio"):
            bare, ratio = entry["bare_median_ms"], Ratio.of(entry, "ase_ratio")
            added = (ratio.value - 1) * bare if ratio.low > 1 else None
            found[entry["system"]] = AseCall(bare, added, together=True)
        elif apart := plain.get(entry["system"]):
            low = (entry.get("median_ci95_ms") or [entry["median_ms"]])[0]
            added = entry["median_ms"] - apart.value if low > apart.high else None
            found[entry["system"]] = AseCall(apart.value, added, together=False)
    return found


def _bars(axis: "Axes", calls: dict[str, AseCall], systems: list[str], shade: str) -> None:
    for height, system in enumerate(systems):
        if system not in calls:
            continue
        call = calls[system]
        added = call.added or 0
        axis.barh(height, call.bare, color=shade, height=0.62)
        axis.barh(height, added, left=call.bare, color=style.FAINT, ec=style.QUIET, lw=0.6, height=0.62)
        text = "not measurable" if call.added is None else f"+ {number(added, 2)} ms"
        axis.annotate(text, (call.bare + added, height), xytext=(4, 0), textcoords="offset points", va="center",
                      fontsize=8, color=style.QUIET if call.added is None else style.INK)  # fmt: skip
    longest = max(call.bare + (call.added or 0) for call in calls.values())
    axis.set(xlim=(0, 1.6 * longest), xlabel="ms per call")
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
