"""The report of a finished run, rendered anew, is the one that the run wrote."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from mlff_distiller.cli import main
from mlff_distiller.decisions.winners import choose, evidence
from mlff_distiller.records import collect, schema
from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import WORK
from mlff_distiller.utils.files import write_json
from tests.unit.records.synthetic_records import run_records

# No claims, one molecule, threads and figures that are not the default's.
CONFIGURATION = """
run: mine
claims: null
molecules: {systems: [caffeine]}
md: {systems: [caffeine]}
benchmark: {threads: 3}
gates: {project: {energy_forces_speedup: 7.0}}
report: {figures: [ladder, latency, accuracy]}
"""
COMMANDS = re.compile(r"^Shell command: (python -m mlff_distiller (figure|report|pdf|deploy) .*) > ", re.MULTILINE)


@pytest.fixture
def report(fresh, tmp_path, monkeypatch):
    """The folder of a report that was made by the commands of the rules, from records of one molecule."""
    (fresh.folder / "mine.yaml").write_text(CONFIGURATION)
    planned = fresh.snakemake("report", "--configfile", "mine.yaml", "--dry-run", "--printshellcmds")
    assert planned.returncode == 0, planned.stderr
    commands = {}
    for line, stage in COMMANDS.findall(planned.stdout + planned.stderr):
        commands.setdefault(stage, []).append(shlex.split(line)[3:])
    assert {stage: len(lines) for stage, lines in commands.items()} == {"figure": 3, "report": 1, "pdf": 1, "deploy": 1}
    threads = int(commands["deploy"][0][commands["deploy"][0].index("--threads") + 1])
    assert threads == 3

    monkeypatch.chdir(fresh.folder)
    folder = fresh.folder / "results/mine/report"
    records = [entry for entry in run_records() if entry.get("system") in (None, "caffeine")]
    records = [entry | ({"threads": threads} if entry["kind"] == "benchmark" else {}) for entry in records]
    document = collect.collect([schema.write(tmp_path / "jobs.json", records)])
    write_json(folder / "phase3_results.json", document)
    run = Run(document["records"])
    for work in WORK:
        choice = choose(run, work)
        if choice.variant and work != "many_molecules":
            fields = {"variant": choice.variant, "device": "cpu", "threads": threads, "evidence": evidence(run, choice)}
        else:
            fields = {"status": "failed", "reason": f"the bundle for {work} is not equivalent to the student"}
        schema.write(folder.parent / "deploy" / work / "bundle.json", [schema.record("deploy", task=work, **fields)])
    for stage in ("figure", "report", "pdf"):
        for command in commands[stage]:
            assert main(command) == 0
    return folder


def test_it_is_the_same_byte_for_byte(report, tmp_path, capsys):
    def contents(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = contents(report)
    text = before["PHASE3_REPORT.md"].decode()
    assert "torch.set_num_threads(3)" in text
    assert "No file of claims was given." in text
    assert "is not equivalent to the student" in text
    assert {name for name in before if name.endswith(".png")} == {
        f"figures/{name}.png" for name in ("ladder", "latency", "accuracy")
    }
    # Only the folder of the report is published.
    published = tmp_path / "published"
    shutil.move(report, published)
    for path in [*published.glob("PHASE3_*"), *published.glob("figures/*")]:
        path.write_text("old")
    assert main(["rerender", str(published)]) == 0
    assert capsys.readouterr().err == ""
    assert contents(published) == before


def test_what_an_older_run_did_not_publish_is_said(report, tmp_path, capsys):
    saved = Path(shutil.copy(report / "PHASE3_REPORT.md", tmp_path))
    settings = json.loads((report / "settings.json").read_text())
    del settings["bundles"]
    write_json(report / "settings.json", settings)
    assert main(["rerender", str(report)]) == 0
    assert "settings.json: says nothing of bundles: as the records choose them today" in capsys.readouterr().err
    assert json.loads((report / "settings.json").read_text()) == settings
    before, after = (path.read_text().split("## Use the winner")[1] for path in (saved, report / "PHASE3_REPORT.md"))
    assert before.split("```")[1] == after.split("```")[1]
    assert "torch.set_num_threads(3)" in after
