"""Fills the Markdown templates; filters for numbers and text in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.records.wording import interval, number

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The template ``template`` (a file in ``templates/``) filled with ``values``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown; the HTML page shows raw HTML as text
    )
    environment.filters |= {"cell": cell, "number": number, "interval": interval, "slower_or_faster": slower_or_faster}
    return environment.get_template(template).render(values)


def slower_or_faster(factor: float) -> str:
    """``2.0× slower`` or ``2.0× faster``, for a time that is ``factor`` times another, with two digits."""
    return f"{number(factor, 2)}× slower" if factor >= 1 else f"{number(1 / factor, 2)}× faster"


def cell(text: Any) -> str:
    """Text for a table cell, escaped so that it cannot break the table or become markup."""
    words = " ".join(str(text).split())
    for character in "|*_<[":
        words = words.replace(character, f"\\{character}")
    return words
