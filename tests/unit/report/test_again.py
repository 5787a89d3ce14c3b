"""A finished run is rendered anew from its records."""

import json

import pytest

from mlff_distiller.cli import main
from mlff_distiller.report.again import rerender
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import CHECKOUT


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
    del settings["claims"], settings["bundles"]
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"figures": ["ladder", "speedup", "latency"]}))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/speedup.png").write_bytes(b"old")
    (tmp_path / "PHASE3_REPORT.md").write_text("old")
    return tmp_path


def test_pages_and_figures_are_made_anew_and_records_and_settings_stay(published, monkeypatch, capsys):
    before = {name: (published / name).read_bytes() for name in ("phase3_results.json", "settings.json")}
    # The file of claims is named from the checkout.
    monkeypatch.chdir(CHECKOUT)
    assert main(["rerender", str(published)]) == 0
    assert {path.stem for path in (published / "figures").iterdir()} == {"ladder", "latency"}
    text = (published / "PHASE3_REPORT.md").read_text()
    assert "`cpp` is the fastest way to run it" in text
    assert 'StudentCalculator.from_bundle("results/mine/deploy/one_molecule")' in text
    assert "**One molecule: `cpp`**" in text
    assert (published / "PHASE3_REPORT.pdf").read_bytes().startswith(b"%PDF")
    assert {name: (published / name).read_bytes() for name in before} == before
    said = capsys.readouterr().err
    assert "settings.json: says nothing of claims: as in" in said
    assert "settings.json: says nothing of bundles: as the records choose them today" in said
    assert "No file of claims" not in text


def test_a_lost_file_of_claims_leaves_the_report_as_it_was(published):
    settings = json.loads((published / "settings.json").read_text())
    (published / "settings.json").write_text(json.dumps(settings | {"claims": "gone.yaml"}))
    with pytest.raises(UserError, match=r"gone\.yaml: no such file of claims"):
        rerender(published / "phase3_results.json")
    assert (published / "figures/speedup.png").read_bytes() == b"old"
    assert (published / "PHASE3_REPORT.md").read_text() == "old"


def test_a_folder_without_records_is_named(tmp_path, capsys):
    assert main(["rerender", str(tmp_path)]) != 0
    assert "no phase3_results" in capsys.readouterr().err
