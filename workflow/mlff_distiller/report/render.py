"""Templates to Markdown, and the forms in which numbers and words stand in it."""

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
