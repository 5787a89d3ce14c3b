"""Figures of the scaling tasks: throughput of batches, large systems, calls through ASE, kernel times, roofline."""

from typing import TYPE_CHECKING, Any

from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.records.wording import title
from mlff_distiller.report.figures import style
from mlff_distiller.report.figures.shared import labels_beside, name_rows, nothing, row_axes, variants_with

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors of the longest kernels; all other kernels together are gray.
SLICES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")


def throughput(run: Run) -> "Figure":
    """Atoms per second against the number of molecules in one call, one panel per molecule or mix; with eager."""
    kinds = dict.fromkeys(e["system"] for name in run.variants for e in _timed(run, name, "throughput"))
    if not kinds:
        return nothing("batch")
    figure, axes = style.new(0.5 * style.WIDTH + 0.4, columns=len(kinds), sharey=True)
    ends: dict[int, list[tuple[float, float, str, str]]] = {}
    for column, kind in enumerate(kinds):
        axis = axes[0, column]
        lines = {}
        for name in run.variants:
            entries = [e for e in _timed(run, name, "throughput") if e["system"] == kind]
            lines[name] = [(e["batch"], 1e3 * e["n_atoms"] / e["median_ms"]) for e in entries]
        lines.setdefault(BASELINE, [])
        lines[BASELINE] = lines[BASELINE] or _baseline(
            [e for name in run.variants for e in _timed(run, name, "throughput") if e["system"] == kind],
            lambda e: (e["batch"], 1e3 * e["n_atoms"] / e["baseline_median_ms"]),
        )
        ends[column] = _draw(run, axis, lines)
        axis.set(xscale="log", yscale="log", title=title(kind), xlabel="molecules in one call")
        _sizes(axis)
    axes[0, 0].set_ylabel("atoms per second")
    style.times_axis(axes[0, 0].yaxis)
    labels_beside(figure, axes[0], ends)
    return figure


def system_size(run: Run) -> "Figure":
    """Time per atom of a periodic box against its number of atoms; with eager."""
    lines = {
        name: [(e["n_atoms"], 1e3 * e["median_ms"] / e["n_atoms"]) for e in _timed(run, name, "periodic")]
        for name in run.variants
    }
    if not any(lines.values()):
        return nothing("large-system")
    lines[BASELINE] = lines.get(BASELINE) or _baseline(
        [e for name in run.variants for e in _timed(run, name, "periodic")],
        lambda e: (e["n_atoms"], 1e3 * e["baseline_median_ms"] / e["n_atoms"]),
    )
    figure, axes = style.new(0.5 * style.WIDTH + 0.3)
    axis = axes[0, 0]
    ends = _draw(run, axis, lines)
    axis.set(xscale="log", yscale="log", xlabel="atoms in the box", ylabel="time per atom (µs)")
    sizes = sorted({x for points in lines.values() for x, _ in points})
    ticks = [x for position, x in enumerate(sizes) if position == 0 or x > 2.2 * sizes[position - 1] or len(sizes) < 8]
    axis.set_xticks(ticks, [f"{x:,}" for x in ticks])
    axis.set_xticks([], minor=True)
    style.times_axis(axis.yaxis)
    labels_beside(figure, axes[0], {0: ends})
    return figure


def ase_overhead(run: Run) -> "Figure":
    """Calls through ASE, per molecule: speed-up over eager's calculator, and the time that ASE adds to a call."""
    rows = variants_with(run, lambda name: _timed(run, name, "calculator"))
    if not rows:
        return nothing("ASE")
    figure, axes = row_axes(len(rows), columns=2)
    for height, name in enumerate(rows):
        shade = style.color(name, run.families.get(name))
        entries = _timed(run, name, "calculator")
        ratios = [e["speedup"] for e in entries if e["speedup"]]
        if ratios:
            axes[0].plot(ratios, [height] * len(ratios), "o", color=shade, ms=4.5, alpha=0.7, mec="none")
        plain = run.times(name, "energy_forces")
        added = [e["median_ms"] - plain[e["system"]].value for e in entries if e["system"] in plain]
        if added:
            axes[1].plot(added, [height] * len(added), "o", color=shade, ms=4.5, alpha=0.7, mec="none")
    axes[0].set(xscale="log", xlabel="speed-up over eager, both through ASE", title="Energy + forces through ASE")
    axes[0].axvline(1, color=style.INK, lw=0.9)
    low, high = axes[0].get_xlim()
    axes[0].set_xlim(min(low, 0.8), max(high, 1.25))
    style.times_axis(axes[0].xaxis)
    axes[1].set(xlabel="time that ASE adds to a call (ms)", title="Price of ASE")
    axes[1].axvline(0, color=style.INK, lw=0.9)
    name_rows(axes, rows)
    return figure


def kernel_times(run: Run) -> "Figure":
    """Time of the longest kernels (operators on a CPU) as a share of the wall time of one energy + forces call."""
    found = _profiles(run)
    if not found:
        return nothing("profile")
    rows = sorted(found, key=lambda name: -found[name]["wall_ms"])
    figure, axes = row_axes(len(rows), columns=1)
    axis = axes[0]
    for height, name in enumerate(rows):
        entry, left = found[name], 0.0
        wall = entry["wall_ms"]
        for position, kernel in enumerate([*entry["kernels"][: len(SLICES)], _rest(entry)]):
            share = 100 * kernel["us"] / 1e3 / wall
            shade = SLICES[position] if position < len(SLICES) else style.FAINT
            axis.barh(height, share, left=left, color=shade, height=0.62)
            left += share
        busy = entry.get("gpu_busy_percent")
        text = f"{wall:.3g} ms, {entry['n_kernels']:.0f} {entry['unit']}s"
        text += f", busy {busy:.0f} %" if busy is not None else ""
        axis.annotate(text, (left, height), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set(xlabel="share of the wall time of one call (%)")
    axis.set_title("from the left: the five longest, then all others (gray)", fontweight="normal", fontsize=8.5)
    axis.set_xlim(0, 1.5 * max(100.0, axis.get_xlim()[1]))
    axis.set_xticks(range(0, 101, 20))
    name_rows(axes, rows)
    return figure


def roofline(run: Run) -> "Figure":
    """Arithmetic rate against arithmetic intensity of batches and boxes, under the roofs measured on the device."""
    roofs = _ceilings(run)
    entries = {
        name: [e for task in ("throughput", "periodic") for e in _timed(run, name, task) if e.get("gflop")]
        for name in run.variants
    }
    if not roofs or not any(entries.values()):
        return nothing("roofline")
    figure, axes = style.new(0.5 * style.WIDTH + 0.5)
    axis, appearance, ends = axes[0, 0], style.appearance(run.families), []
    intensities = [1e3 * e["gflop"] / e["mbyte"] for found in entries.values() for e in found]
    low, high = min(intensities) / 3, max(intensities) * 3
    bandwidth = roofs["copy_gb_per_s"]
    for key, words in (("float32_gflop_per_s", "float32 product"), ("tf32_gflop_per_s", "TF32 product")):
        if peak := roofs.get(key):
            ridge = peak / bandwidth
            line = [(low, min(peak, low * bandwidth)), (min(max(ridge, low), high), min(peak, high * bandwidth))]
            line.append((high, min(peak, high * bandwidth)))
            axis.plot(*zip(*line, strict=True), color=style.QUIET, lw=1.2, zorder=1)
            ends.append((*line[-1], words, style.QUIET))
    for name, found in entries.items():
        if found:
            points = [(1e3 * e["gflop"] / e["mbyte"], 1e3 * e["gflop"] / e["median_ms"]) for e in found]
            axis.plot(*zip(*points, strict=True), **(appearance[name] | {"linestyle": ""}), ms=5, alpha=0.8)
            ends.append((*max(points), name, appearance[name]["color"]))
    axis.set(xscale="log", yscale="log", xlabel="FLOP per byte, by formula", ylabel="GFLOP per second")
    axis.set_xlim(low, high)
    style.times_axis(axis.xaxis)
    style.times_axis(axis.yaxis)
    labels_beside(figure, axes[0], {0: ends})
    return figure


def _timed(run: Run, variant: str, task: str) -> list[dict[str, Any]]:
    """Timed records of a scaling task, of variants that are equivalent to the student or another network."""
    return [e for e in run.scaling(variant, task) if e["status"] == "ok" and e.get("median_ms")]


def _baseline(entries: list[dict[str, Any]], point) -> list[tuple[float, float]]:
    """Points of eager from the records of the variants that it was timed with; the first record of each size."""
    found: dict[float, float] = {}
    for entry in entries:
        if entry.get("baseline_median_ms"):
            x, y = point(entry)
            found.setdefault(x, y)
    return sorted(found.items())


def _draw(run: Run, axis: "Axes", lines: dict[str, list[tuple[float, float]]]) -> list[tuple[float, float, str, str]]:
    appearance = style.appearance({BASELINE: BASELINE} | run.families)
    ends = []
    for name, points in lines.items():
        if points:
            width = 2.2 if name == BASELINE else 1.5
            axis.plot(*zip(*points, strict=True), lw=width, **appearance[name])
            ends.append((*points[-1], name, appearance[name]["color"]))
    return ends


def _sizes(axis: "Axes") -> None:
    style.times_axis(axis.xaxis, dense=False)


def _profiles(run: Run) -> dict[str, dict[str, Any]]:
    entries = [e for e in run.of("profile", status="ok") if e.get("kernels")]
    beside = [{BASELINE: e["baseline"]} for e in entries if e.get("baseline")][:1]
    return (beside[0] if beside else {}) | {e["variant"]: e for e in entries}


def _ceilings(run: Run) -> dict[str, float]:
    """The highest value of each ceiling that any job measured."""
    found: dict[str, float] = {}
    for entry in run.of("profile", status="ok"):
        for key, value in (entry.get("ceilings") or {}).items():
            found[key] = max(value, found.get(key, 0.0))
    return found


def _rest(entry: dict[str, Any]) -> dict[str, Any]:
    return {"name": "others", "us": sum(kernel["us"] for kernel in entry["kernels"][len(SLICES) :])}


FIGURES = {
    "throughput": throughput,
    "system_size": system_size,
    "ase_overhead": ase_overhead,
    "kernel_times": kernel_times,
    "roofline": roofline,
}
