"""Stage ``figure``: draws a figure of the report; each is one function from a run's records to a matplotlib Figure.

One module per subject. Without the records that a figure needs, it says so instead of raising an error.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.decisions import claims
from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.report.figures import (
    acceptance,
    accuracy,
    ase_overhead,
    checks,
    compile_cost,
    dynamics,
    kernel_times,
    ladder,
    pareto,
    roofline,
    scaling,
    speed,
    style,
    uncertainty,
    warm_up,
)
from mlff_distiller.utils.errors import UserError, nearest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name -> function, in the order of the report.
FIGURES: dict[str, Callable[[Run], "Figure"]] = {
    **ladder.FIGURES,
    **speed.FIGURES,
    **compile_cost.FIGURES,
    **scaling.FIGURES,
    **ase_overhead.FIGURES,
    **kernel_times.FIGURES,
    **roofline.FIGURES,
    **warm_up.FIGURES,
    **pareto.FIGURES,
    **dynamics.FIGURES,
    **checks.FIGURES,
    **accuracy.FIGURES,
    **uncertainty.FIGURES,
    **acceptance.FIGURES,
}


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``figure``."""
    parser.description = f"Draw one figure from merged results. Figures: {', '.join(FIGURES)}."
    parser.add_argument("--name", required=True, help="which figure")
    parser.add_argument("--results", type=Path, required=True, help="phase3_results.json")
    parser.add_argument("--claims", type=Path, help="claims of another report, for the figures that show them")
    parser.add_argument(
        "--output", type=Path, required=True, nargs="+", help="files to write; the suffix decides: .png, .svg, .pdf"
    )


def run(arguments: Namespace) -> int:
    """Draw the figure named on the command line."""
    bad = [path.name for path in arguments.output if path.suffix not in (".png", ".svg", ".pdf")]
    if bad:
        raise UserError(f"--output {', '.join(bad)}: a figure is a .png, .svg or .pdf file")
    ledger = claims.load(arguments.claims) if arguments.claims else None
    figure = draw(arguments.name, Run(collect.read(arguments.results)["records"], ledger=ledger))
    for path in arguments.output:
        style.save(figure, path)
    return 0


def draw(name: str, run: Run) -> "Figure":
    """The figure called ``name``.

    Raises:
        UserError: no figure has that name.
    """
    if name not in FIGURES:
        raise UserError(f"no figure is called {name!r}{nearest(name, FIGURES)}")
    with style.applied():
        figure = FIGURES[name](run)
        figure.canvas.draw()
    return figure
