import argparse
import re
import zlib

import pytest
from matplotlib.image import imsave
from numpy import zeros

from mlff_distiller.report import pdf
from mlff_distiller.report.first_fit import first_fit
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
        # What fits into what is left of a page comes before what does not.
        ([100, 300, 100], 250, [[0, 2], [1]]),
        # The first is placed first: it may begin a section.
        ([300, 100, 100], 250, [[], [0, 1, 2]]),
        ([100, 100, 100], 700, [[0, 1, 2]]),
    ],
)
def test_figures_fill_pages_in_their_order(heights, room, drawn):
    from reportlab.platypus import Spacer

    blocks = [Spacer(10, height) for height in heights]
    waiting, found = first_fit([[block] for block in blocks]), []
    for left in (room, 700)[: len(drawn)]:
        made = waiting.split(400, left)
        found.append([blocks.index(each) for each in made if each in blocks])
        waiting = next((each for each in made if each not in blocks), waiting)
    assert found == drawn
