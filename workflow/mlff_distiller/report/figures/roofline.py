"""Figure of the roofline: arithmetic rate against arithmetic intensity, under what the device sustains."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.scaling import most_named, timed
from mlff_distiller.report.figures.shared import nothing
from mlff_distiller.report.names import batch_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOFS = {"float32_gflop_per_s": "float32 products", "tf32_gflop_per_s": "TF32 products"}
MARKERS = ("o", "D", "v", "^", "P", "X")
BOX = "boxes of a liquid"


@dataclass(frozen=True)
class Point:
    """One batch or box: FLOP per byte, GFLOP per second, how many molecules or atoms it has."""

    intensity: float
    rate: float
    size: int


def roofline(run: Run) -> "Figure":
    """Arithmetic rate of batches and boxes, eager included, against intensity, with the slope of a copy and the roofs."""
    roofs, chains = ceilings(run), _chains(run)
    if not roofs or not chains:
        return nothing("roofline")
    figure, axes = style.new(0.5 * style.WIDTH + 0.7)
    axis = axes[0, 0]
    points = [point for found in chains.values() for point in found]
    _limits(axis, roofs, points)
    figure.legend(handles=_draw(run, axis, chains), loc="outside lower center", ncols=3)
    figure.canvas.draw()
    _draw_roofs(axis, roofs)
    _name_points(run, axis, chains)
    return figure


def ceilings(run: Run) -> dict[str, float]:
    """The highest value of each ceiling that any job measured."""
    found: dict[str, float] = {}
    for entry in run.of("profile", status="ok"):
        for key, value in (entry.get("ceilings") or {}).items():
            found[key] = max(value, found.get(key, 0.0))
    return found


def _chains(run: Run) -> dict[tuple[str, str], list[Point]]:
    """(variant, kind of work) -> its points, the smallest first; eager's are those timed beside the variants."""
    found: dict[tuple[str, str], dict[int, Point]] = {}
    for name in run.variants:
        for task in ("throughput", "periodic"):
            for entry in timed(run, name, task):
                if not entry.get("gflop"):
                    continue
                kind = BOX if task == "periodic" else f"batches, {batch_title(run, entry['system'])}"
                size = entry["n_atoms"] if task == "periodic" else entry["batch"]
                for who, ms in ((BASELINE, entry.get("baseline_median_ms")), (name, entry["median_ms"])):
                    if ms:
                        point = Point(1e3 * entry["gflop"] / entry["mbyte"], 1e3 * entry["gflop"] / ms, size)
                        found.setdefault((who, kind), {}).setdefault(size, point)
    return {key: [points[size] for size in sorted(points)] for key, points in found.items()}


def _limits(axis: "Axes", roofs: dict[str, float], points: list[Point]) -> None:
    """From far enough left of all points and of the lowest ridge for a slope, and for a roof's name above it."""
    peaks = [roofs[key] for key in ROOFS if key in roofs]
    ridge = min(peaks) / roofs["copy_gb_per_s"]
    low = min(ridge, *(point.intensity for point in points)) / 30
    high = 8 * max(ridge, *(point.intensity for point in points))
    bottom = min(low * roofs["copy_gb_per_s"], *(point.rate for point in points)) / 2
    axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(bottom, 4 * max(peaks)))
    axis.set(xlabel="FLOP per byte, by formula", ylabel="GFLOP per second, by formula")
    axis.set_title("left of the bend memory limits, right of it arithmetic", fontweight="normal", fontsize=8.5)
    style.times_axis(axis.xaxis)
    style.times_axis(axis.yaxis, dense=False)


def _draw_roofs(axis: "Axes", roofs: dict[str, float]) -> None:
    """The slope of a copy up to the highest roof, and each roof from its ridge on, all with their names."""
    low, high = axis.get_xlim()
    bandwidth = roofs["copy_gb_per_s"]
    peaks = {words: roofs[key] for key, words in ROOFS.items() if key in roofs}
    ridge = max(peaks.values()) / bandwidth
    line: dict[str, Any] = {"color": style.QUIET, "lw": 1.4, "zorder": 1}
    axis.plot([low, ridge], [low * bandwidth, ridge * bandwidth], **line)
    for words, peak in peaks.items():
        axis.plot([peak / bandwidth, high], [peak, peak], **line)
        # Beside the bend: above the slope there can be no point.
        axis.annotate(f"{words}: {peak:,.0f} GFLOP/s", (peak / bandwidth, peak), xytext=(-7, 1), ha="right",
                      textcoords="offset points", fontsize=8, color=style.QUIET)  # fmt: skip
    ends = axis.transData.transform([(low, low * bandwidth), (ridge, ridge * bandwidth)])
    angle = math.degrees(math.atan2(ends[1, 1] - ends[0, 1], ends[1, 0] - ends[0, 0]))
    middle = low * (min(peaks.values()) / bandwidth / low) ** 0.5
    axis.annotate(f"copy: {bandwidth:,.0f} GB/s", (middle, middle * bandwidth), xytext=(-4, 4),
                  textcoords="offset points", rotation=angle, rotation_mode="anchor", ha="center", va="bottom",
                  fontsize=8, color=style.QUIET)  # fmt: skip


def _draw(run: Run, axis: "Axes", chains: dict[tuple[str, str], list[Point]]) -> list[Any]:
    """Draw each chain in its variant's color with the marker of its kind; handles that explain the markers."""
    from matplotlib.lines import Line2D

    kinds = dict(zip(dict.fromkeys(kind for _, kind in chains), MARKERS, strict=False))
    named = most_named([name for name, _ in chains])
    for (name, kind), points in chains.items():
        shade = _shade(run, name) if name in named else style.FAINT
        intensities, rates = [p.intensity for p in points], [p.rate for p in points]
        axis.plot(intensities, rates, color=shade, marker=kinds.get(kind, "o"), ms=4.5, lw=0.8)
    return [
        Line2D([], [], color=style.QUIET, marker=marker, lw=0.8, ms=4.5, label=kind) for kind, marker in kinds.items()
    ]


def _name_points(run: Run, axis: "Axes", chains: dict[tuple[str, str], list[Point]]) -> None:
    """The name of each variant beside its last point, with what that is; of the fastest also the ends of the first chain."""
    last: dict[str, tuple[Point, str]] = {}
    for (name, kind), points in chains.items():
        if name not in last or points[-1].intensity > last[name][0].intensity:
            last[name] = (points[-1], kind)
    fastest = max(last, key=lambda name: max(p.rate for p in _all(chains, name)))
    ends = []
    for name in most_named(last):
        point, kind = last[name]
        ends.append((point.intensity, point.rate, f"{name}, {_size_name(kind, point)}", _shade(run, name)))
    style.label_lines(axis, ends)
    points = next(points for (name, _), points in chains.items() if name == fastest)
    kind = next(kind for name, kind in chains if name == fastest)
    flat = points[-1].rate < 3 * points[0].rate
    for point in dict.fromkeys((points[0], points[-1])):
        if point != last[fastest][0]:
            # Left of the last point of a flat chain lies the chain.
            above = flat and point == points[-1]
            where: dict[str, Any] = (
                {"xytext": (0, 7), "ha": "center"} if above else {"xytext": (-12, -5), "ha": "right"}
            )
            axis.annotate(_size_name(kind, point), (point.intensity, point.rate), va="bottom" if above else "center",
                          textcoords="offset points", fontsize=8, **where)  # fmt: skip


def _all(chains: dict[tuple[str, str], list[Point]], name: str) -> Iterable[Point]:
    return (point for (other, _), points in chains.items() if other == name for point in points)


def _shade(run: Run, name: str) -> str:
    return style.color(name, run.families.get(name))


def _size_name(kind: str, point: Point) -> str:
    return f"{'box' if kind == BOX else 'batch'} {point.size:,}"


FIGURES = {"roofline": roofline}
