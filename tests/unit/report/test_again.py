"""A finished run is rendered anew from its records."""

import json

import pytest

from mlff_distiller.cli import main
from mlff_distiller.decisions import claims
from mlff_distiller.report.again import rerender
from mlff_distiller.utils.errors import UserError
from tests.unit.conftest import LEDGER


@pytest.fixture
def published(folder, tmp_path):
    """Records and settings of a run of long ago, with an outdated figure and page."""
    for name in ("phase3_results.json", "settings.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    document = json.loads((tmp_path / "phase3_results.json").read_text())
    for machine in document["provenance"]["machines"]:
        # What was not recorded then.
        del machine["cpu_details"], machine["gpu_limits"]
    (tmp_path / "phase3_results.json").write_text(json.dumps(document))
    settings = json.loads((tmp_path / "settings.json").read_text())
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"figures": ["ladder", "speedup", "latency"]}))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/speedup.png").write_bytes(b"old")
    (tmp_path / "PHASE3_REPORT.md").write_text("old")
    return tmp_path


def test_pages_and_figures_are_made_anew_and_the_records_stay(published):
    before = (published / "phase3_results.json").read_bytes()
    assert main(["rerender", str(published)]) == 0
    assert {path.stem for path in (published / "figures").iterdir()} == {"ladder", "ladder_all", "latency"}
    text = (published / "PHASE3_REPORT.md").read_text()
    assert "`cpp` is the fastest way to run it" in text
    assert 'StudentCalculator.from_bundle("results/mine/deploy/one_molecule")' in text
    assert "**One molecule: `cpp`**" in text
    assert (published / "PHASE3_REPORT.pdf").read_bytes().startswith(b"%PDF")
    assert (published / "phase3_results.json").read_bytes() == before


def test_a_run_without_timings_has_no_page_of_week_1(published):
    document = json.loads((published / "phase3_results.json").read_text())
    document["records"] = [e for e in document["records"] if e["kind"] in ("md", "equivalence", "compile")]
    (published / "phase3_results.json").write_text(json.dumps(document))
    for form in ("md", "html", "pdf"):
        (published / f"PHASE3_WEEK1.{form}").write_text("dashes")
    rerender(published / "phase3_results.json", claims.load(LEDGER))
    assert not list(published.glob("PHASE3_WEEK1*"))


def test_a_folder_without_records_is_named(tmp_path):
    with pytest.raises(UserError, match="no phase3_results"):
        rerender_of(tmp_path)


def rerender_of(folder):
    from argparse import Namespace

    from mlff_distiller.report import again

    return again.run(Namespace(runs=[folder], claims=LEDGER))
