"""Converts Markdown to one self-contained HTML file: images inside, no script, nothing loaded from the network."""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlff_distiller.utils.errors import UserError

TEMPLATES = Path(__file__).parent / "templates"
MEDIA_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}

#: Footer of a run's report.
FOOTER = "Made from phase3_results.json beside this page, which holds every number shown here."


def page(markdown: str, images: Callable[[str], Path], footer: str = FOOTER) -> str:
    """The HTML page of a Markdown document; second-level headings become its table of contents.

    Args:
        markdown: CommonMark with tables; raw HTML is shown as text.
        images: maps an image's address in the document to its file.
        footer: a sentence at the end of the page.

    Raises:
        UserError: an image is missing.
    """
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    parser = _parser()
    tokens = parser.parse(markdown)
    sections: list[tuple[str, str]] = []
    heading, taken = "Report", {}
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            text = tokens[position + 1].content
            anchor = slug(text)
            taken[anchor] = taken.get(anchor, 0) + 1
            if taken[anchor] > 1:
                anchor += f"-{taken[anchor]}"
            token.attrSet("id", anchor)
            if token.tag == "h1":
                heading = text
            elif token.tag == "h2":
                sections.append((anchor, text))
        for child in token.children or []:
            if child.type == "image":
                child.attrSet("src", data_uri(images(str(child.attrGet("src")))))
                child.attrSet("loading", "lazy")
    parser.add_render_rule("table_open", _before('<div class="wide">'))
    parser.add_render_rule("table_close", _after("</div>"))
    body = parser.renderer.render(tokens, parser.options, {})
    # An image alone in its paragraph is a figure; on a narrow screen it scrolls sideways instead of shrinking.
    body = re.sub(r"<p>(<img [^>]*>)</p>", r'<div class="wide figure">\1</div>', body)
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(default=True))
    # The table of contents goes between the first page and the first section.
    before, mark, after = body.partition("<h2")
    return environment.get_template("page.html.j2").render(
        title=heading, before=before, after=mark + after, sections=sections, footer=footer
    )


def parse(markdown: str) -> list[Any]:
    """The markdown-it tokens of a document as :func:`page` takes it."""
    return _parser().parse(markdown)


def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


def slug(text: str) -> str:
    """The anchor of a heading: lower case, words joined by dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def data_uri(path: Path) -> str:
    """The file at ``path`` as a ``data:`` address; the SVG beside it, if there is one."""
    if path.with_suffix(".svg").is_file():
        path = path.with_suffix(".svg")
    if not path.is_file():
        raise UserError(f"{path}: no such image; draw it with `python -m mlff_distiller figure --name {path.stem}`")
    return f"data:{MEDIA_TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _before(text: str) -> Callable[..., str]:
    def rule(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        return text + self.renderToken(tokens, index, options, env)

    return rule


def _after(text: str) -> Callable[..., str]:
    def rule(self: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
        return self.renderToken(tokens, index, options, env) + text

    return rule
