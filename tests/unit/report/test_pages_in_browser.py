"""The report's pages as Chromium shows them, on a desk and on a phone, light and dark.

No package index has a browser, so these run where one is installed; test_report.py checks the pages' source everywhere.
"""

import html
import json
import re
import shutil
import subprocess
from itertools import product

import pytest

from mlff_distiller.report import write

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine to open the pages in")

DESK, PHONE = 1280, 390
LIGHT, DARK = 1, 0
#: The page lies in a frame: a window of Chromium's cannot be as narrow as a phone.
FRAME = """<!doctype html><html><body><iframe width="{width}" height="800" srcdoc="{page}"></iframe><script>
addEventListener("load", () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument, root = page.documentElement;
  const style = (element) => frame.contentWindow.getComputedStyle(element);
  const found = {{
    images: [...page.images].length,
    broken: [...page.images].filter((i) => !i.complete || !i.naturalWidth).map((i) => i.alt),
    dangling: [...page.querySelectorAll('a[href^="#"]')].map((a) => a.getAttribute("href"))
      .filter((href) => !page.getElementById(decodeURIComponent(href.slice(1)))),
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map((e) => e.name)
      .filter((name) => !name.startsWith("data:")),
    overhang: root.scrollWidth - root.clientWidth,
    ink: style(page.body).color,
    paper: [style(page.body).backgroundColor, style(root).backgroundColor],
    smallest: Math.min(...[...page.querySelectorAll("p, li, td, th, figcaption")]
      .map((e) => parseFloat(style(e).fontSize))),
  }};
  document.documentElement.innerHTML = "<body><pre>" + JSON.stringify(found) + "</pre></body>";
}});
</script></body></html>"""


@pytest.fixture(scope="module", params=product(write.DOCUMENTS, (DESK, PHONE), (LIGHT, DARK)), ids=str)
def shown(request, folder, tmp_path_factory):
    """What Chromium made of a page, and what it wrote to its console."""
    name, width, scheme = request.param
    place = tmp_path_factory.mktemp("browser")
    page = html.escape((folder / f"{name}.html").read_text())
    (place / "frame.html").write_text(FRAME.format(width=width, page=page))
    line = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    line += [f"--user-data-dir={place}", f"--blink-settings=preferredColorScheme={scheme}", place / "frame.html"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    (found,) = re.findall(r"<pre>(.*)</pre>", done.stdout)
    return json.loads(html.unescape(found)) | {"console": re.findall(r".*CONSOLE.*", done.stderr), "scheme": scheme}


def test_nothing_is_wrong_by_the_console(shown):
    assert shown["console"] == []


def test_every_image_is_there(shown):
    assert shown["images"] > 0
    assert shown["broken"] == []


def test_links_inside_lead_somewhere_and_nothing_is_fetched(shown):
    assert shown["dangling"] == []
    assert shown["fetched"] == []


def test_the_page_is_as_wide_as_the_screen(shown):
    assert shown["overhang"] <= 0
    assert shown["smallest"] >= 11


def brightness(color):
    """Mean of the channels of a CSS color, 0 to 255."""
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3


def test_dark_where_the_reader_wants_it(shown):
    ink = brightness(shown["ink"])
    paper = brightness(next(color for color in shown["paper"] if color != "rgba(0, 0, 0, 0)"))
    lighter, darker = (paper, ink) if shown["scheme"] == LIGHT else (ink, paper)
    assert lighter > darker + 100
