"""What the report says about the bundles of a run."""

from mlff_distiller.records import schema
from mlff_distiller.report.handover import handed_over, read_bundles
from mlff_distiller.report.html import page
from mlff_distiller.report.write import write

FOUND = {
    "variant": "cpp",
    "device": "cpu",
    "threads": 2,
    "evidence": {"speedup": 6.1, "speedup_ci95": [5.9, 6.3], "measured": "energy + forces of one molecule at a time"},
}
EMPTY = {
    "packages": {},
    "machines": [],
    "commits": [],
    "warnings": [],
    "left_out": [],
    "python": [],
    "os": [],
    "dirty": False,
}


def bundles(folder):
    good = schema.write(folder / "one_molecule/bundle.json", [schema.record("deploy", task="one_molecule", **FOUND)])
    why = schema.record("deploy", task="many_molecules", status="unavailable", reason="this run did not time batches")
    none = schema.write(folder / "many_molecules/bundle.json", [why])
    damaged = folder / "large_systems/bundle.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    return read_bundles([good, none, damaged])


def test_each_kind_of_work_has_an_example_or_a_reason(tmp_path):
    one, many, large = handed_over(bundles(tmp_path))
    assert one["variant"] == "cpp"
    assert one["gain"] == "6.10 times (5.90 to 6.30) as fast as eager (energy + forces of one molecule at a time)"
    assert f'bundle = "{tmp_path}/one_molecule"' in one["example"]
    assert "StudentCalculator.from_bundle(bundle)" in one["example"]
    compile(one["example"], "example", "exec")
    assert many["variant"] is None
    assert many["reason"] == "this run did not time batches"
    assert "not valid JSON" in large["reason"]


def test_the_example_stands_in_the_report_as_it_is_run(tmp_path):
    found = bundles(tmp_path)
    write({"provenance": EMPTY, "records": []}, {"figures": [], "bundles": found}, tmp_path / "report")
    text = (tmp_path / "report" / "PHASE3_REPORT.md").read_text()
    section = text.split("## Use the winner")[1].split("\n## ")[0]
    assert section.split("```python\n")[1].split("```")[0] == handed_over(found)[0]["example"]
    assert "Many molecules: no bundle: this run did not time batches." in section
    assert "<pre>" in (tmp_path / "report" / "PHASE3_REPORT.html").read_text()


def test_code_in_a_page_stays_code():
    assert "&lt;b&gt;" in page("# A\n\n```python\nprint('<b>')\n```\n", images=lambda source: source)
