"""Style of all figures: a fixed color per family of variants; marker and dash tell variants apart without color."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.utils.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a figure in inches: a column of the report, and of a printed page.
WIDTH = 6.6
INK = "#222222"
QUIET = "#6B6B6B"
FAINT = "#D9D9D9"
GOOD, BAD = "#009E73", "#D55E00"

# Okabe & Ito's colors, distinct for all common kinds of color vision; the yellow is darkened for white paper.
#: Words in the name of a family or variant -> color; the first match counts.
COLORS = (
    (("teacher",), "#8A8A8A"),
    (("eager", "baseline"), "#222222"),
    (("triton", "cpp", "kernel", "fused"), "#CC79A7"),
    (("cuda_graph", "cudagraph", "graph"), "#56B4E9"),
    (("analytic",), "#A88B00"),
    (("fp16", "bf16", "autocast", "tf32", "half"), "#D55E00"),
    (("torchscript", "script"), "#E69F00"),
    (("compile", "inductor", "aot", "export"), "#0072B2"),
    (("cluster", "vesin", "neighbor"), "#009E73"),
)
FALLBACK_COLOR = "#7A5195"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))

RC = {
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E8E8E8",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    # Text as outlines needs no fonts; with a fixed salt the same figure gives the same file.
    "svg.fonttype": "path",
    "svg.hashsalt": "mlff-distiller",
}


@contextmanager
def applied() -> Iterator[None]:
    """Context in which matplotlib draws in this style."""
    import matplotlib

    with matplotlib.rc_context(RC):
        yield


def color(name: str, family: str | None = None) -> str:
    """The color of a variant: by its family if the palette has it, else by its name.

    A variant of the baseline's family other than the baseline (another neighbor search, say) is colored by its name.
    """
    for word in filter(None, (None if family == BASELINE else family, name, family)):
        for words, value in COLORS:
            if any(part in word.lower() for part in words):
                return value
    return FALLBACK_COLOR


def readable(shade: str) -> str:
    """``shade``, darkened until text in it has a contrast of at least 3:1 on white."""
    from matplotlib.colors import to_hex, to_rgb

    parts: Sequence[float] = to_rgb(shade)
    while 1.05 / (_luminance(parts) + 0.05) < 3.05:
        parts = [0.95 * part for part in parts]
    return to_hex((parts[0], parts[1], parts[2]))


def _luminance(parts: Sequence[float]) -> float:
    """Relative luminance of an sRGB color, as WCAG defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def appearance(families: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Variant -> color, marker and linestyle; variants of one family share the color and differ in the other two."""
    used: dict[str, int] = {}
    made = {}
    for name, family in families.items():
        shade = color(name, family)
        member = used.get(shade, 0)
        used[shade] = member + 1
        position = list(dict.fromkeys(c for _, c in COLORS)).index(shade) if shade != FALLBACK_COLOR else 9
        made[name] = {
            "color": shade,
            "marker": MARKERS[(position + 5 * member) % len(MARKERS)],
            "linestyle": DASHES[member % len(DASHES)],
        }
    return made


def new(height: float, columns: int = 1, rows: int = 1, **options: Any) -> "tuple[Figure, Any]":
    """A figure of the common width with ``rows`` x ``columns`` axes (always a 2-D array of them)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Without pyplot there is no global state to clean up, and no display is needed.
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def empty(message: str) -> "Figure":
    """A figure with only a message that says why there is nothing to draw."""
    figure, axes = new(1.6)
    axes[0, 0].set_axis_off()
    axes[0, 0].text(0.5, 0.5, message, ha="center", va="center", color=QUIET, fontsize=10)
    return figure


def times_axis(axis: Any, *, dense: bool = True) -> None:
    """Plain numbers (0.5, 1, 20, 1,000) on a logarithmic axis, with ticks between decades if the range is short."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = high / low if low > 0 else 10
    subs = (1, 1.5, 2, 3, 5, 7) if decades < 4 else (1, 2, 5) if decades < 150 and dense else (1,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


#: A line ends early if at least this share of the width of the axes is left.
SHORT = 0.12


def label_lines(
    axes: "Axes", ends: Sequence[tuple[float, float, str, str]], *, gap: float = 0.046, offset: float = 6
) -> None:
    """Write each line's name beside its right end, moved apart so that names do not overlap.

    A line that ends well before the others has its name at its end: a pointer from the edge would look like data.

    Args:
        ends: (x, y, text, color) in data coordinates.
        gap: smallest distance between two labels, as a share of the height of the axes.
        offset: distance from the line's end in points.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = sorted(((*to_axes.transform((x, y)), text, shade) for x, y, text, shade in ends), key=lambda e: e[1])
    right = max((entry[0] for entry in placed), default=1.0)
    early = [entry for entry in placed if entry[0] < right - SHORT]
    for (x, _, text, shade), height in zip(early, _spread([entry[1] for entry in early], gap), strict=True):
        axes.annotate(text, (x, height), xycoords="axes fraction", xytext=(offset, 0), textcoords="offset points",
                      color=readable(shade), fontsize=8, va="center")  # fmt: skip
    placed = [entry for entry in placed if entry[0] >= right - SHORT]
    heights = _spread([entry[1] for entry in placed], gap)
    for (x, y, text, shade), height in zip(placed, heights, strict=True):
        axes.annotate(
            text,
            xy=(x, y),
            xycoords="axes fraction",
            xytext=(right, height),
            textcoords=_shifted(axes, offset),
            color=readable(shade),
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": shade,
                "lw": 0.5,
                "alpha": 0.6,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0.0, 0.5),  # start at the left of the name, so that the pointer crosses no other name
            },
        )


def _shifted(axes: "Axes", points: float) -> Any:
    from matplotlib.transforms import ScaledTranslation

    return axes.transAxes + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted ``heights`` moved apart to at least ``gap``, as little as possible (pool adjacent violators)."""
    blocks: list[list[float]] = []  # each [sum of (height - index * gap), count]
    for index, height in enumerate(heights):
        blocks.append([height - index * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    bases = [total / count for total, count in blocks for _ in range(int(count))]
    return [base + index * gap for index, base in enumerate(bases)]


def save(figure: "Figure", path: str | Path) -> Path:
    """Write ``figure`` to ``path`` atomically (the suffix is the format); the same figure gives the same bytes."""
    path = Path(path)
    form = path.suffix.lstrip(".")
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with applied():
        figure.savefig(buffer, format=form, metadata=metadata.get(form), bbox_inches="tight", pad_inches=0.08)
    return write_bytes(path, buffer.getvalue())
