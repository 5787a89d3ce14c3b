"""Templates to Markdown, and the forms in which numbers and words stand in it."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.captions import interval

TEMPLATES = Path(__file__).parent.parent / "templates"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The template ``template`` (a file in ``templates/``) filled with ``values``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; the page made from it shows raw HTML as text
    )
    environment.filters |= {"cell": cell, "number": number, "interval": interval}
    return environment.get_template(template).render(values)


def cell(text: Any) -> str:
    """Text that cannot break a table or turn into markup."""
    words = " ".join(str(text).split())
    for character in "|*_<[":
        words = words.replace(character, f"\\{character}")
    return words


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, trailing zeros kept (17.0, not 17); whole numbers stay whole."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0 or abs(value) < 1e-3:
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
