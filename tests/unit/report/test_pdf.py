import argparse
import re
import zlib
from pathlib import Path

import pytest
from matplotlib.image import imsave
from numpy import zeros

from mlff_distiller.report import pdf
from mlff_distiller.report.full_pages import full_pages
from mlff_distiller.utils.errors import UserError

LONG = "a reason of many words " * 12
TEXT = f"""# A report: 6.15× [5.45, 6.97] meV/Å

- **Faster?** Yes, `cpp` & <b>all</b>.
- Second.

```python
atoms.calc = "x"
```

## First

![A figure](figures/one.png)

What is said about it.

## Table

| variant | number | why |
|---|---|---|
{"".join(f"| `variant_{number}` | {number}.25× | {LONG} |{chr(10)}" for number in range(40))}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "figures").mkdir()
    imsave(tmp_path / "figures" / "one.png", zeros((400, 900, 3)))
    return tmp_path


def pages(data):
    """How many pages a PDF has."""
    return len(re.findall(rb"/Type /Page\b(?!s)", data))


def streams(data):
    """What is drawn, page by page, as PDF operators."""
    import base64

    found = re.findall(rb"/Filter \[ /ASCII85Decode /FlateDecode \][^>]*>>\s*stream\s*(.*?)endstream", data, re.DOTALL)
    return [zlib.decompress(base64.a85decode(b"<~" + stream.strip(), adobe=True)) for stream in found]


def test_a_document_becomes_pages_with_bookmarks_a_figure_and_a_table_that_goes_on(folder):
    data = pdf.document(TEXT, folder)
    assert data.startswith(b"%PDF-")
    assert pages(data) >= 3, "forty rows of several lines do not fit on fewer"
    assert b"/Outlines" in data
    for title in (b"(First)", b"(Table)"):
        assert title in data
    assert b"/Subtype /Image" in data
    assert b"DejaVuSansMono" in data, "the letters are in the file"
    assert pdf.document(TEXT, folder) == data, "the same bytes each time"


def test_nothing_is_drawn_outside_the_page(folder):
    from reportlab.lib.pagesizes import A4

    width = A4[0] - 2 * pdf.MARGIN
    table = pdf._table(pdf.parse(TEXT[TEXT.index("| variant") :])[:-1], width)
    assert sum(table._colWidths) <= width + 1e-6
    drawn = streams(pdf.document(TEXT, folder))
    placed = [float(x) for page in drawn for x in re.findall(rb"1 0 0 1 (-?[\d.]+) -?[\d.]+ Tm", page)]
    assert placed
    assert max(placed) < A4[0] - pdf.MARGIN


@pytest.mark.parametrize("columns", [2, 12])
def test_columns_share_the_page(columns):
    wanted = [400.0] * columns
    longest = [60.0] * columns
    widths = pdf._share(longest, wanted, 480.0)
    assert sum(widths) == pytest.approx(480.0)
    assert pdf._share([10.0, 20.0], [30.0, 40.0], 480.0) == [30.0, 40.0], "a small table stays small"


def test_markup_in_a_reason_is_text(folder):
    nasty = "# x\n\n| a | b |\n|---|---|\n| <script>alert(1)</script> | 1 < 2 & 3 |\n"
    assert pages(pdf.document(nasty, folder)) == 1


def test_the_command_prints_beside_the_document(folder, capsys):
    source = folder / "REPORT.md"
    source.write_text(TEXT)
    parser = argparse.ArgumentParser()
    pdf.add_arguments(parser)
    assert pdf.run(parser.parse_args([str(source)])) == 0
    assert (folder / "REPORT.pdf").read_bytes().startswith(b"%PDF-")
    with pytest.raises(UserError, match=r"NONE\.md: no such document"):
        pdf.run(parser.parse_args([str(folder / "NONE.md")]))


def test_a_missing_image_is_named(folder):
    with pytest.raises(UserError, match=r"two\.png: no such image"):
        pdf.document("![x](two.png)\n\ntext", folder)


@pytest.mark.parametrize(
    ("heights", "room", "drawn"),
    [
        # What fills the rest of a page comes before what does not fit.
        ([100, 300, 100], 270, [["heading", 0, 2], [1]]),
        # The section's heading comes before the first that is placed.
        ([300, 100, 100], 270, [["heading", 1, 2], [0]]),
        ([300, 300], 250, [[], ["heading", 0, 1]]),
        ([100, 100, 100], 700, [["heading", 0, 1, 2]]),
        # Not the first that fits, but those that leave least.
        ([200, 100, 120, 130], 280, [["heading", 2, 3], [0, 1]]),
    ],
)
def test_figures_fill_pages_in_their_order(heights, room, drawn):
    from reportlab.platypus import Spacer

    blocks = [Spacer(10, height) for height in heights]
    names = {id(block): index for index, block in enumerate(blocks)}
    heading = Spacer(10, 20)
    names[id(heading)] = "heading"
    waiting, found = full_pages([heading], [[block] for block in blocks]), []
    for left in (room, 700)[: len(drawn)]:
        made = waiting.split(400, left)
        found.append([names[id(each)] for each in made if id(each) in names])
        waiting = next((each for each in made if id(each) not in names), waiting)
    assert found == drawn


def test_long_tables_of_details_are_left_to_the_screen(folder):
    def rows(n):
        return "| a | b |\n|---|---|\n" + "".join(f"| row {i} | x |\n" for i in range(n))

    text = f"# Title\n\n## Results\n\n{rows(30)}\n## Equivalence\n\n{rows(30)}\n## MD validation\n\n{rows(6)}"
    shorter, whole = (pdf.document(each, folder) for each in (text, text.replace("Equivalence", "Other")))
    assert sum(map(len, streams(whole))) > 1.3 * sum(map(len, streams(shorter))), "thirty rows less"
    whole = pdf.document(f"# Title\n\n## Equivalence\n\n{rows(6)}", folder)
    assert len(streams(whole)[0]) > len(streams(pdf.document(f"# Title\n\n## Equivalence\n\n{rows(7)}", folder))[0])


def test_the_sections_of_details_are_in_the_report():
    templates = "".join(path.read_text() for path in (Path(pdf.__file__).parent / "templates").glob("*.md.j2"))
    for title in pdf.DETAILS:
        assert f"\n## {title}\n" in templates


@pytest.mark.parametrize(("room", "share"), [(250, 1.0), (185, (185 - 1) / 200), (130, None)])
def test_a_figure_that_nearly_fits_is_drawn_smaller(folder, room, share):
    from reportlab.platypus import Image

    image = Image(str(folder / "figures" / "one.png"), width=300, height=200)
    assert bool(full_pages([], [[image]]).split(400, room)) == (share is not None)
    assert image.drawHeight == pytest.approx(200 * (share or 1.0))
    assert image.drawWidth == pytest.approx(300 * (share or 1.0))
