"""Figure of the kernels (operators on a CPU) of one energy + forces call, as shares of its time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import name_rows, nothing
from mlff_distiller.report.names import count, kernel_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Kernels that are drawn one by one.
LONGEST = 5
NAMED, OTHERS, IDLE = "#0072B2", "#BDBDBD", "#FFFFFF"


@dataclass(frozen=True)
class Part:
    """One part of a bar: its name, its share of the call in percent, and its color."""

    name: str
    share: float
    color: str


def kernel_times(run: Run) -> "Figure":
    """What one call spends its time on: the longest kernels by name, all others, and the time without any; slowest below."""
    found = _profiles(run)
    if not found:
        return nothing("profile")
    rows = sorted(found, key=lambda name: -found[name]["wall_ms"])
    figure, axes = style.new(1.25 + 0.5 * len(rows))
    axis = axes[0, 0]
    bars = {height: _parts(found[name]) for height, name in enumerate(rows)}
    for height, parts in bars.items():
        left = 0.0
        for part in parts:
            axis.barh(height, part.share, left=left, color=part.color, height=0.66, lw=0.8,
                      ec=style.QUIET if part.color == IDLE else "white")  # fmt: skip
            left += part.share
    system = next((entry["system"] for entry in found.values() if entry.get("system")), None)
    axis.set(xlim=(0, 100.5), xlabel="share of the time of the call (%)")
    axis.set_title(f"One energy + forces call{f' of {title(system)}' if system else ''}")
    name_rows(axes[0], [_row_name(name, found[name]) for name in rows])
    figure.legend(*_legend([part for parts in bars.values() for part in parts]), loc="outside lower center", ncols=3)
    figure.canvas.draw()
    for height, parts in bars.items():
        _name_parts(axis, height, parts)
    return figure


def _profiles(run: Run) -> dict[str, dict[str, Any]]:
    entries = [e for e in run.of("profile", status="ok") if e.get("kernels")]
    beside = [{BASELINE: e["baseline"]} for e in entries if e.get("baseline")][:1]
    return (beside[0] if beside else {}) | {e["variant"]: e for e in entries}


def _parts(entry: dict[str, Any]) -> list[Part]:
    """The parts of a bar, which are 100 % together: of the wall time, or of all kernels where these take longer."""
    times = [kernel["us"] / 1e3 for kernel in entry["kernels"]]
    whole = max(entry["wall_ms"], sum(times))
    longest = zip(entry["kernels"][:LONGEST], times[:LONGEST], strict=True)
    parts = [Part(kernel_name(kernel["name"]), 100 * time / whole, NAMED) for kernel, time in longest]
    parts.append(Part("others", 100 * sum(times[LONGEST:]) / whole, OTHERS))
    parts.append(Part(_outside(entry), 100 * (1 - sum(times) / whole), IDLE))
    return [part for part in parts if part.share > 0]


def _outside(entry: dict[str, Any]) -> str:
    """What the time is that no kernel or operator takes."""
    return "GPU idle" if entry["unit"] == "kernel" else "outside PyTorch's operators"


def _row_name(name: str, entry: dict[str, Any]) -> str:
    return f"{name}\n{entry['wall_ms']:.3g} ms, {entry['n_kernels']:,.0f} {entry['unit']}s"


def _name_parts(axis: "Axes", height: int, parts: list[Part]) -> None:
    """Write each part's name, with its share if there is room for that too, where it fits."""
    left = 0.0
    for part in parts:
        for words in (f"{part.name} {part.share:.0f} %", part.name):
            text = axis.text(left + part.share / 2, height, words, ha="center", va="center", fontsize=8,
                             color="white" if part.color == NAMED else style.INK)  # fmt: skip
            start, end = axis.transData.transform([(left, height), (left + part.share, height)])[:, 0]
            if text.get_window_extent().width < end - start - 4:
                break
            text.remove()
        left += part.share


def _legend(parts: list[Part]) -> tuple[list[Any], list[str]]:
    from matplotlib.patches import Patch

    words = {NAMED: f"the {count(LONGEST)} longest, named where there is room", OTHERS: "all others"}
    words |= {part.color: part.name for part in parts if part.color == IDLE}
    shown = [color for color in words if any(part.color == color for part in parts)]
    return [Patch(fc=color, ec=style.QUIET, lw=0.6) for color in shown], [words[color] for color in shown]


FIGURES = {"kernel_times": kernel_times}
