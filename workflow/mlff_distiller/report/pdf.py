"""Stage ``pdf``: converts Markdown to PDF for printing, with ReportLab.

ReportLab is a plain Python wheel; converters from HTML need a browser or system libraries. The fonts are DejaVu, which
come with matplotlib and have every character that the reports use.
"""

import html
import io
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlff_distiller.report.full_pages import full_pages
from mlff_distiller.report.html import parse, slug
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_bytes

INK, QUIET, LINE, WASH, ACCENT = "#1d2328", "#5b6770", "#dde2e5", "#f4f6f7", "#0066a1"
#: Margins of the page, points.
MARGIN = 42
#: Font sizes in tables, points: the first at which the table fits, else the last with words broken.
TABLE_SIZES = (7.0, 6.5, 6.0)
#: Figures are saved at 200 dots per inch and printed at this share of their size, at which their smallest text has 5.6 points.
PRINTED = 0.7
#: Space needed for a heading and the first lines below it, points; with less, it starts a new page.
LEAST_BELOW_HEADING = 110
#: Sections with a row for every timing or trajectory; their tables of more rows than these are not printed.
DETAILS = (
    "Times per molecule",
    "Beyond one molecule",
    "In your engine",
    "Where the time goes",
    "Equivalence",
    "MD validation",
)
LONG_TABLE = 6
FONTS = {
    "Text": "DejaVuSans.ttf",
    "Text-Bold": "DejaVuSans-Bold.ttf",
    "Text-Oblique": "DejaVuSans-Oblique.ttf",
    "Code": "DejaVuSansMono.ttf",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of ``pdf``."""
    parser.description = "Convert Markdown documents with their images to PDF, each beside its source."
    parser.add_argument("documents", nargs="+", type=Path, metavar="FILE.md")


def run(arguments: Namespace) -> int:
    """Convert every document that the command line names."""
    for path in arguments.documents:
        if not path.is_file():
            raise UserError(f"{path}: no such document; make it with `python -m mlff_distiller report`")
        print(write_bytes(path.with_suffix(".pdf"), document(path.read_text(encoding="utf-8"), path.parent)))
    return 0


def document(markdown: str, folder: Path) -> bytes:
    """The PDF (A4, bookmarks, page numbers) of a Markdown document; the same document gives the same bytes.

    Args:
        markdown: CommonMark with tables; raw HTML is shown as text.
        folder: addresses of images are relative to it.

    Raises:
        UserError: an image is missing.
    """
    from reportlab import rl_config
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import SimpleDocTemplate

    _register_fonts()
    tokens = parse(markdown)
    titles = [
        tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h1"
    ]
    title = titles[0] if titles else "Report"
    # Without this the file contains the current time.
    rl_config.invariant = 1
    buffer = io.BytesIO()
    page = SimpleDocTemplate(
        buffer, pagesize=A4, title=title, author="MLFF Distiller",
        leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
    )  # fmt: skip
    page.build(list(_flowables(tokens, folder, page.width)), canvasmaker=_numbered_pages())
    return buffer.getvalue()


def _register_fonts() -> None:
    import matplotlib
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name, file in FONTS.items():
        pdfmetrics.registerFont(TTFont(name, str(folder / file)))
    pdfmetrics.registerFontFamily(
        "Text", normal="Text", bold="Text-Bold", italic="Text-Oblique", boldItalic="Text-Bold"
    )


def _style(name: str, **options: Any) -> Any:
    from reportlab.lib.styles import ParagraphStyle

    size = options.pop("fontSize", 8.5)
    given = {
        "fontName": "Text",
        "textColor": INK,
        "leading": round(1.35 * size, 1),
        "spaceAfter": 4,
        "linkUnderline": 1,
    }
    return ParagraphStyle(name, fontSize=size, **given | options)


def _styles() -> dict[str, Any]:
    bold = {"fontName": "Text-Bold"}
    return {
        "h1": _style("h1", fontSize=16, spaceAfter=10, **bold),
        "h2": _style("h2", fontSize=12.5, spaceBefore=16, spaceAfter=5, **bold),
        "h3": _style("h3", fontSize=10, spaceBefore=10, spaceAfter=4, **bold),
        "p": _style("p"),
        "li": _style("li", leftIndent=10, bulletIndent=0, spaceAfter=3),
        "code": _style(
            "code", fontName="Code", fontSize=7, backColor=WASH, borderPadding=6, spaceBefore=6, spaceAfter=12
        ),
    }


def _flowables(tokens: list[Any], folder: Path, width: float) -> Iterator[Any]:
    """The blocks of the document in order; of figures that follow each other, those that fill a page come first."""
    from reportlab.platypus import CondPageBreak, Paragraph

    begins: list[Any] = []
    figures: list[list[Any]] = []
    for block, is_figure in _blocks(tokens, folder, width):
        if is_figure:
            if not figures and isinstance(block[0], Paragraph) and block[0].style.name == "h2":
                begins, block = block[:1], block[1:]
            figures.append(block)
            continue
        if figures:
            yield full_pages(begins, figures)
            begins, figures = [], []
        yield from ([CondPageBreak(LEAST_BELOW_HEADING)] if len(block) > 1 else [])
        yield from block
    if figures:
        yield full_pages(begins, figures)


def _blocks(tokens: list[Any], folder: Path, width: float) -> Iterator[tuple[list[Any], bool]]:
    """Each block with the headings before it, and whether it is a figure: headings, an image, and the text below."""
    from reportlab.platypus import Paragraph, Preformatted

    styles = _styles()
    section = ""
    position = 0
    in_list = False
    waiting: list[Any] = []
    figure_waits = False
    while position < len(tokens):
        token = tokens[position]
        made = None
        if token.type in ("bullet_list_open", "bullet_list_close"):
            in_list = token.type == "bullet_list_open"
        elif token.type == "heading_open":
            text, style = tokens[position + 1], styles[token.tag]
            section = text.content if token.tag == "h2" else section
            waiting.append(_heading(Paragraph(_inline(text, style.fontSize), style), token.tag, text.content))
        elif token.type == "table_open":
            end = next(i for i in range(position, len(tokens)) if tokens[i].type == "table_close")
            rows = sum(part.type == "tr_open" for part in tokens[position:end]) - 1
            if section in DETAILS and rows > LONG_TABLE:
                text = f"{rows} rows: in the same report as a page for the screen (.html) or as text (.md)."
                made = Paragraph(text, styles["p"])
            else:
                made = _table(tokens[position:end], width)
            position = end
        elif token.type in ("fence", "code_block"):
            made = Preformatted(token.content.rstrip("\n"), styles["code"])
        elif token.type == "inline":
            image = token.children[0] if len(token.children) == 1 and token.children[0].type == "image" else None
            if image is not None:
                waiting.append(_image(folder / str(image.attrGet("src")), width))
                figure_waits = True
            elif tokens[position - 1].type == "paragraph_open":
                style, bullet = (styles["li"], "•") if in_list else (styles["p"], None)
                made = Paragraph(_inline(token, style.fontSize), style, bulletText=bullet)
        if made is not None:
            yield [*waiting, made], figure_waits
            waiting, figure_waits = [], False
        position += 1
    if waiting:
        yield waiting, figure_waits


def _heading(paragraph: Any, tag: str, text: str) -> Any:
    """A heading that also becomes a bookmark."""
    level = int(tag[1]) - 1
    draw = paragraph.draw

    def draw_and_mark() -> None:
        canvas = paragraph.canv
        canvas.bookmarkHorizontalAbsolute(slug(text), canvas.absolutePosition(0, paragraph.height)[1])
        canvas.addOutlineEntry(text, slug(text), level=level, closed=level > 0)
        draw()

    paragraph.draw = draw_and_mark
    return paragraph


def _inline(token: Any, size: float) -> str:
    """The text of a block in ReportLab's markup, for a font of ``size`` points."""
    marks = {"strong_open": "<b>", "strong_close": "</b>", "em_open": "<i>", "em_close": "</i>", "link_close": "</a>",
             "softbreak": " ", "hardbreak": "<br/>"}  # fmt: skip
    pieces = []
    for child in token.children or []:
        if child.type == "code_inline":
            pieces.append(
                f'<font name="Code" size="{0.9 * size:.1f}" backColor="{WASH}">{html.escape(child.content)}</font>'
            )
        elif child.type == "link_open":
            pieces.append(f'<a href="{html.escape(str(child.attrGet("href")))}" color="{ACCENT}">')
        elif child.type in marks:
            pieces.append(marks[child.type])
        else:
            pieces.append(html.escape(child.content))
    return "".join(pieces)


def _image(path: Path, width: float) -> Any:
    from reportlab.platypus import Image

    if not path.is_file():
        raise UserError(f"{path}: no such image; draw it with `python -m mlff_distiller figure --name {path.stem}`")
    image = Image(str(path), hAlign="LEFT")
    scale = min(PRINTED * 72 / 200, width / image.imageWidth)
    image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
    image.spaceBefore, image.spaceAfter = 6, 6
    return image


def _table(tokens: list[Any], width: float) -> Any:
    """A table not wider than the page: columns fit their text, long texts are broken into lines."""
    from reportlab.platypus import Paragraph, Table

    rows: list[list[Any]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(token)
    for size in TABLE_SIZES:
        head = _style("th", fontSize=size, fontName="Text-Bold", textColor=QUIET, spaceAfter=0)
        body = _style("td", fontSize=size, spaceAfter=0, splitLongWords=1)
        cells = [[Paragraph(_inline(token, size), head if row is rows[0] else body) for token in row] for row in rows]
        columns = list(zip(*cells, strict=True))
        pad = 6
        # One extra point, so that rounding breaks no word.
        longest = [max(cell.minWidth() for cell in column) + pad + 1 for column in columns]
        wanted = [
            max(word, max(_width_on_one_line(cell) for cell in column) + pad)
            for word, column in zip(longest, columns, strict=True)
        ]
        if sum(longest) <= width:
            break
    return Table(
        cells, colWidths=_share(longest, wanted, width), repeatRows=1, hAlign="LEFT", spaceBefore=4, spaceAfter=8,
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
            ("LINEBELOW", (0, 0), (-1, 0), 0.9, QUIET),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), pad),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ],
    )  # fmt: skip


def _width_on_one_line(paragraph: Any) -> float:
    paragraph.wrap(10_000, 10_000)
    return max(paragraph.getActualLineWidths0(), default=0.0)


def _share(longest: list[float], wanted: list[float], width: float) -> list[float]:
    """Widths of columns: as wanted if all fit; else so that the cell of the most lines has as few as can be."""
    if sum(wanted) <= width:
        return wanted
    if sum(longest) >= width:
        return [width * word / sum(longest) for word in longest]

    def widths(lines: float) -> list[float]:
        return [max(word, want / lines) for word, want in zip(longest, wanted, strict=True)]

    too_few, enough = 1.0, max(wanted) / min(longest)
    for _ in range(40):
        lines = (too_few + enough) / 2
        too_few, enough = (too_few, lines) if sum(widths(lines)) <= width else (lines, enough)
    return widths(enough)


def _numbered_pages() -> Callable[..., Any]:
    """A canvas that writes "3 / 12" on each page; pages are written at the end, when their number is known."""
    from reportlab.pdfgen.canvas import Canvas

    class Numbered(Canvas):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._held: list[dict[str, Any]] = []

        def showPage(self) -> None:
            self._held.append(dict(self.__dict__))
            self._startPage()

        def save(self) -> None:
            for number, state in enumerate(self._held, start=1):
                self.__dict__.update(state)
                self.setFont("Text", 7.5)
                self.setFillColor(QUIET)
                self.drawRightString(self._pagesize[0] - MARGIN, MARGIN / 2, f"{number} / {len(self._held)}")
                super().showPage()
            super().save()

    return Numbered
