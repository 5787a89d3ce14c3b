import argparse
import base64
import copy
import json
import math
import re
from html.parser import HTMLParser

import pytest

from mlff_distiller.records import collect
from mlff_distiller.records.run import Run
from mlff_distiller.records.wording import spread
from mlff_distiller.report import captions, first_page, html, tables, write
from mlff_distiller.report.figures import draw
from mlff_distiller.report.render import render, slower_or_faster
from mlff_distiller.utils.errors import UserError
from tests.unit.conftest import LEDGER, SETTINGS
from tests.unit.records.synthetic_records import UNAVAILABLE, VARIANTS, run_records


class Page(HTMLParser):
    """Contents of a page: ids, links, images, what it loads, and whether its tags are balanced."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.images, self.loaded, self.open, self.tags = [], [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        self.loaded += [attrs[key] for key in ("src", "srcset", "data") if key in attrs]
        if tag == "link":
            self.loaded.append(attrs["href"])

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def markdown(folder):
    return (folder / "PHASE3_REPORT.md").read_text()


@pytest.fixture(scope="module", params=write.DOCUMENTS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def text(folder, name):
    """The source of a page."""
    return (folder / f"{name}.html").read_text()


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_needs_nothing_but_itself(page, text):
    assert page.open == []
    assert all(address.startswith("data:") for address in page.loaded)
    assert "script" not in page.tags
    assert not re.search(r"@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_all_figures_are_in_the_page_with_a_text_for_those_who_cannot_see_them(page, name):
    assert len(page.images) == (len(draw.FIGURES) if name == "PHASE3_REPORT" else 2)
    for image in page.images:
        kind, _, content = image["src"].partition(";base64,")
        assert kind == "data:image/svg+xml"
        assert b"<svg" in base64.b64decode(content)[:1000]
        assert image["alt"]


def test_links_inside_the_page_lead_somewhere(page):
    assert len(page.links) >= 3
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        assert link.startswith("#")
        assert link[1:] in page.ids


def test_figures_named_in_the_markdown_exist(markdown, folder):
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown)
    assert len(named) == len(draw.FIGURES)
    assert all((folder / name).is_file() for name in named)


def test_tables_have_the_same_number_of_columns_in_every_row(markdown):
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.M)
    assert len(tables) >= 10
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


def test_the_first_page_says_where_what_won_and_whether_to_trust_it(markdown):
    first = markdown.split("![")[0]
    for question in ("How fast is it?", "Is it right?", "Can I trust the numbers?", "How do I use it?"):
        assert f"**{question}**" in first
    for word in ("What", "Where"):
        assert f"**{word}.**" in first
    assert 'StudentCalculator.from_checkpoint("results/mine/student/student.safetensors")' in first
    assert "torch " in first
    assert "10 variants of it on 7 molecules of 3 to 102 atoms" in first
    assert re.search(r"`cpp` is the fastest way to run it\. A step of MD through ASE, as below, takes .* ms for", first)
    assert "ns a day for caffeine with steps of 0.5 fs" in first
    assert re.search(r"One call from Python, neighbor search included: .* ms, 6\.\d+ times \(", first)
    assert "`cpp` matches the model in fp64: force error at most 0.003 meV/Å" in first
    row = next(line for line in first.splitlines() if line.startswith("| ms a step through ASE"))
    assert len(row.split("|")) == 10
    calls = next(line for line in first.splitlines() if line.startswith("| ms a call from Python"))
    assert len(calls.split("|")) == 10
    lines = first.splitlines()
    intervals = [k for k, line in enumerate(lines) if line.startswith("| 95 % interval |")]
    # One of several processes has an interval, those of a single process have none.
    assert [lines[k - 1] for k in intervals] == [calls]
    assert len(re.findall(r"[\d.]+–[\d.]+", lines[intervals[0]])) == 7
    assert re.search(r"meV/Å \(mean absolute error; energies [\d.]+ meV/atom\) from [\w -]+ on ", first)
    assert "**Does it conserve energy?** Passed: the largest NVE drift is" in first
    assert "**What is it for?** Neutral closed-shell systems like those that it was trained on (" in first
    assert "**Many molecules at once.** " in first
    assert "caffeine (24)" in first
    assert len(first.strip().splitlines()) <= 33


def test_losses_and_failures_are_shown(markdown):
    results_table = markdown.split("## Results")[1].split("##")[0]
    for name in (*VARIANTS, *UNAVAILABLE):
        assert f"| `{name}` |" in results_table
    failures = markdown.split("## What failed")[1].split("##")[0]
    assert "no C++ compiler" in failures
    assert re.search(r"not equivalent to the fp64 \w+ on water: force error 4\.1 meV/A", failures)
    assert "MD on benzene" in failures


def test_gates_claims_and_gaps_are_in_the_report(markdown):
    decided = markdown.split("## Decision gates")[1].split("##")[0]
    assert "| **Week 1** | all conditions | | **passed** |" in decided
    assert "| **Project** | all conditions | | **failed** |" in decided
    judged = markdown.split("claims against this run")[1].split("## ")[0]
    untestable = judged.split("Not testable here: the claim is about CUDA; this run measured on CPU.")[1]
    assert untestable.count(": source ") > 5
    assert "confirmed" in judged
    gaps = markdown.split("## What was not measured")[1]
    assert "Nothing ran on a GPU" in gaps
    assert "No MD was run on" in gaps


def test_other_sections_carry_their_numbers(markdown):
    assert "install g++ to build torch-cluster" in markdown.split("### Preflight")[1]
    assert "Unavailable: torch-cluster could not be built" in markdown.split("### torch-cluster")[1]
    teacher = markdown.split("## The teacher's own cost")[1].split("##")[0]
    assert len(re.findall(r"\d× (?:slower|faster)", teacher)) == 14
    assert "| visited | 200 | 20 | 38.2 |" in markdown


def test_a_ratio_below_one_is_said_the_other_way_round():
    assert slower_or_faster(12.5) == "12× slower"
    assert slower_or_faster(0.1) == "10× faster"
    assert slower_or_faster(1.5) == "1.5× slower"


def test_week_1_sets_the_sources_table_beside_this_run(folder):
    text = (folder / "PHASE3_WEEK1.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| TorchScript JIT"))
    assert "| 2.57 | 1.45× |" in row
    assert re.search(r"\| 1\.4\d×\s\[1\.\d\d,\s1\.\d\d\] \| faster \|", row)
    assert "| torch-cluster | - | could not be installed | - | - | unavailable |" in text
    assert "no C++ compiler" in text
    assert "**Gate of week 1: passed.**" in text
    assert (
        "On week 1's own terms, the configurations of its table, the best on the energy alone is `torch_compile`"
        in text
    )
    assert "the gate would have failed, as the source found" in text
    assert "The source's protocol was 50 runs after 10 warm-up runs" in text
    forces = text.split("## Energy + forces")[1]
    row = next(line for line in forces.splitlines() if line.startswith("| TorchScript JIT"))
    assert re.search(r"\| 1\.[01]\d×\s\[[^|]*\] \| (faster|no difference shown) \| 3\.\d\d×", row), row


def test_what_a_run_did_not_measure_has_no_empty_figure(document, folder, tmp_path):
    entries = [e for e in document["records"] if e["kind"] not in ("md", "accuracy")]
    write.write({**document, "records": entries}, SETTINGS, tmp_path, folder / "figures")
    text = (tmp_path / "PHASE3_REPORT.md").read_text()
    assert "nve_drift.png" not in text
    assert "nothing to show" not in text
    gaps = text.split("## What was not measured")[1]
    assert "MD: this run has no such records." in gaps


def test_causes_and_evidence_are_in_the_report(markdown):
    causes = markdown.split("## Where the time goes")[1].split("##")[0]
    assert "| `eager` | 470 | - | - | - | - | - | - |" in causes
    assert "| `torch_compile` | 470 | - | - | - | 2 | 0 | 1 |" in causes
    judged = markdown.split("claims against this run")[1].split("## ")[0]
    assert "torchscript: the first calls on water took 114, 5.72, 5.72, 5.72, 5.72 ms" in judged


def test_batches_and_boxes_have_their_section_only_when_they_were_measured(document):
    single = [e for e in document["records"] if e["task"] not in tables.SCALING_TITLES]
    assert tables.scaling(Run(single)) == {}
    big = {"batch": 64, "n_atoms": 1536, "atoms_per_s": 2.5e5, "peak_memory_mib": 120.0}
    extra = [
        {**benchmark_record(document), "task": "throughput", **big},
        {**benchmark_record(document), "task": "throughput", **big, "batch": 4096, "status": "failed",
         "reason": "out of memory; 2,048 molecules fit", "median_ms": None, "atoms_per_s": None},
    ]  # fmt: skip
    found = tables.scaling(Run([*single, *extra]))
    assert list(found) == ["Batches of molecules"]
    rows = found["Batches of molecules"]
    assert [row["batch"] for row in rows] == [64, 4096]
    assert rows[1]["speedup_text"] == "failed: out of memory; 2,048 molecules fit"
    values = write.context({**document, "records": [*single, *extra]}, SETTINGS)
    section = render("PHASE3_REPORT.md.j2", values | {"figure_path": ".", "bundles": [], "winner": None}).split(
        "## Beyond one molecule"
    )[1]
    assert "| `cpp` | caffeine | 64 | 1,536 |" in section
    assert "| 250,000 | 6" in section, "how much a process on a CPU grew is not the memory of a call"
    assert "peak memory" not in section.split("###")[1]
    (on_gpu,) = tables.scaling(Run([{**extra[0], "device": "cuda"}]))["Batches of molecules"]
    assert on_gpu["memory_mib"] == 120.0


NO_WARNINGS = {"warnings": []}


def benchmark_record(document):
    """A merged timing of the fastest variant."""
    return next(
        e
        for e in document["records"]
        if (e["kind"], e["variant"], e["task"], e["system"]) == ("benchmark", "cpp", "energy_forces", "caffeine")
    )


def test_another_version_of_torch_is_said_on_the_first_page(document):
    other = json.loads(json.dumps(document))
    other["provenance"]["packages"]["torch"] = ["2.11.0"]
    lines = first_page.first_lines(Run(other["records"]), other["provenance"], SETTINGS)
    assert "2.11.0 (not the 2.5.1 that the results are meant for)" in lines["Where"]


def test_the_nodes_of_a_batch_system_are_named(document):
    def where(**more):
        return first_page.first_lines(Run(document["records"]), document["provenance"] | more, SETTINGS)["Where"]

    assert "node" not in where()
    assert "; nodes c1, c2 (slurm); on CPU" in where(nodes=["c1", "c2"], batch_systems=["slurm"])


def test_a_control_that_differs_from_itself_is_a_doubt(document):
    entries = json.loads(json.dumps(document["records"]))
    for entry in entries:
        if entry["kind"] == "benchmark" and entry["variant"] == "eager":
            entry |= {"speedup": 1.2, "speedup_ci95": [1.15, 1.25]}
    doubts = first_page.doubts_about(Run(entries), document["provenance"], SETTINGS, None)
    assert any("eager timed against itself shows 1.20×" in doubt for doubt in doubts)


def test_others_on_the_machine_are_a_doubt(document):
    entries = json.loads(json.dumps(document["records"]))
    assert not any(
        "others on the machine" in d for d in first_page.doubts_about(Run(entries), NO_WARNINGS, SETTINGS, None)
    )
    timed = [e for e in entries if e["kind"] == "benchmark" and e["status"] == "ok"]
    for entry in timed:
        entry |= {"others_cores": 0.04, "alone": True}
    timed[0] |= {"others_cores": 1.26, "alone": False}
    timed[1] |= {"others_cores": 0.3, "alone": False}
    doubts = first_page.doubts_about(Run(entries), NO_WARNINGS, SETTINGS, None)
    assert f"2 of {len(timed)} timings had other work beside them, of up to 1.3 cores" in doubts


def test_when_nothing_is_faster_the_report_says_so(document):
    entries = [e for e in document["records"] if e["variant"] in ("eager", "bf16", None)]
    lines = first_page.first_lines(Run(entries), document["provenance"], SETTINGS)
    assert lines["How fast is it?"].startswith("No")


def test_a_run_of_md_alone_tells_of_its_md(document):
    run = Run([entry for entry in document["records"] if entry["kind"] == "md"])
    lines = first_page.first_lines(run, document["provenance"], SETTINGS)
    assert lines["How fast is it?"] == "Not measured: this run timed nothing one molecule at a time."
    assert lines["Does it conserve energy?"].startswith("Passed")
    assert set(run.systems) == {entry["system"] for entry in run.of("md", task="nve")}

    run = Run([entry for entry in document["records"] if entry["kind"] in ("md", "equivalence")])
    equal = [name for name in run.variants if run.equivalence(name) == "passed"]
    line = first_page.first_lines(run, document["provenance"], SETTINGS)["Is it right?"]
    assert line.startswith(f"{len(equal)} of {len(equal)} variants match the model in fp64")


def test_the_fastest_is_passed_over_when_its_md_failed(document):
    entries = json.loads(json.dumps(document["records"]))
    for entry in entries:
        if entry["kind"] == "md" and entry["variant"] == "cpp":
            entry["passed"] = False
    lines = first_page.first_lines(Run(entries), document["provenance"], SETTINGS)
    assert lines["How fast is it?"].startswith("`torch_compile_forces` is the fastest way")
    assert "Faster but not chosen: `cpp` (MD failed)" in lines["How fast is it?"]


@pytest.mark.parametrize(
    "kinds",
    [(), ("preflight",), ("benchmark",), ("benchmark", "equivalence"), ("md",), ("compile",), ("accuracy",)],
    ids=str,
)
def test_a_report_can_be_made_of_any_part_of_a_run(document, folder, tmp_path, kinds):
    part = {"provenance": document["provenance"], "records": [e for e in document["records"] if e["kind"] in kinds]}
    written = write.write(part, SETTINGS | {"claims": LEDGER}, tmp_path, folder / "figures")
    assert [path.name for path in written] == [
        f"{document}.{form}" for document in write.DOCUMENTS for form in ("md", "html")
    ]
    Page((tmp_path / "PHASE3_REPORT.html").read_text())


def test_reasons_cannot_break_the_page(document, folder, tmp_path):
    entries = json.loads(json.dumps(document["records"]))
    nasty = "a | b <script>alert(1)</script>\n| [x](http://example.org) *y* ![z](http://example.org/z.png)"
    for entry in entries:
        if entry["status"] == "unavailable":
            entry["reason"] = nasty
    write.write({**document, "records": entries}, SETTINGS, tmp_path, folder / "figures")
    assert "No file of claims" in (tmp_path / "PHASE3_WEEK1.md").read_text()
    page = Page((tmp_path / "PHASE3_REPORT.html").read_text())
    assert "script" not in page.tags
    assert len(page.images) == len(draw.FIGURES)
    assert all(link.startswith("#") for link in page.links)


def test_figures_that_exist_are_taken_as_they_are(document, folder, tmp_path):
    drawn = folder / "figures"
    before = {path: path.stat().st_mtime_ns for path in drawn.iterdir()}
    assert len(before) == 2 * len(draw.FIGURES)
    write.write(document, SETTINGS, tmp_path, drawn)
    assert {path: path.stat().st_mtime_ns for path in drawn.iterdir()} == before
    text = (tmp_path / "PHASE3_REPORT.md").read_text()
    named = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert all((tmp_path / name).is_file() for name in named)


def test_a_missing_image_is_named(tmp_path):
    with pytest.raises(UserError, match="no such image"):
        html.page("![x](x.png)", lambda source: tmp_path / source)


def test_show_prints_the_summary(folder, capsys):
    parser = argparse.ArgumentParser()
    write.add_arguments(parser)
    assert write.run(parser.parse_args(["show", str(folder)])) == 0
    shown = capsys.readouterr().out
    for word in ("Where", "How fast is it?", "cpp", "torch_compile_forces", "unavailable", "no C++ compiler"):
        assert word in shown


def test_show_decides_the_gates_by_the_settings_of_the_report(folder, tmp_path, capsys):
    """In a published folder, too: the settings lie beside the results."""
    parser = argparse.ArgumentParser()
    write.add_arguments(parser)
    published = tmp_path / "published"
    published.mkdir()
    for name in ("phase3_results.json", write.SETTINGS):
        (published / name).write_bytes((folder / name).read_bytes())
    assert write.run(parser.parse_args(["show", str(published)])) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Gate week 1 passed energy alone: speed-up over eager at least 3×: 5." in shown
    assert "Gate project failed" in shown
    assert "MD validation passes: MD passed (cpp)" in shown
    assert "Gate week 2" not in shown, "a gate of the default configuration that this run did not have"
    (published / write.SETTINGS).unlink()
    assert write.run(parser.parse_args(["show", str(published)])) == 0
    shown = capsys.readouterr()
    assert "Gate week 2" in shown.out
    assert "settings.json: says nothing of gates, torch: as in" in shown.err


def test_what_was_left_out_is_in_the_report(document, folder, tmp_path):
    entry = {"file": "benchmark/cpp/2.json", "reason": "not valid JSON; run the workflow again"}
    provenance = document["provenance"] | {"left_out": [entry]}
    write.write({**document, "provenance": provenance}, SETTINGS, tmp_path, folder / "figures")
    gaps = (tmp_path / "PHASE3_REPORT.md").read_text().split("## What was not measured")[1]
    assert "Left out: benchmark/cpp/2.json: not valid JSON; run the workflow again" in gaps


def test_the_command_line_says_what_is_missing(tmp_path):
    parser = argparse.ArgumentParser()
    write.add_arguments(parser)
    with pytest.raises(UserError, match="name the run"):
        write.run(parser.parse_args(["show"]))
    with pytest.raises(UserError, match="--results and --output-dir are needed"):
        write.run(parser.parse_args([]))
    with pytest.raises(UserError, match="no phase3_results"):
        write.run(parser.parse_args(["show", str(tmp_path)]))


def test_the_numbers_of_the_tables_are_those_of_the_records():
    run = Run(collect.merge(run_records()))
    row = next(row for row in tables.overview(run) if row["variant"] == "cpp")
    ratios = [ratio.value for ratio in run.speedups("cpp", "energy_forces").values()]
    assert row["energy_forces"].startswith(f"{math.prod(ratios) ** (1 / len(ratios)):.2f}×")
    assert math.prod(ratios) ** (1 / len(ratios)) == pytest.approx(6.1, rel=0.05)


def test_another_network_is_explained_where_its_row_stands(document):
    words = "another library's network of the same size"
    entries = copy.deepcopy(document["records"])
    assert words not in made_of(document, entries)
    for entry in entries:
        if entry["variant"] == "vesin":
            entry["another_network"] = True
    assert f"`vesin` is {words}" in made_of(document, entries)


def made_of(document, entries):
    """The section of results of a report of these records."""
    context = write.context(document | {"records": entries}, SETTINGS, None)
    values = {"figure_path": ".", "bundles": [], "winner": None, "folder": "."}
    return render("PHASE3_REPORT.md.j2", context | values).split("## Results")[1].split("\n## ")[0]


def test_trajectories_that_equal_anothers_are_counted_once():
    entries = collect.merge(run_records())
    assert "to the last bit" not in captions.caption("nve_drift", Run(entries))
    moved = [e for e in entries if e["kind"] == "md" and e["task"] == "nve" and e["system"] == "benzene"]
    for entry in moved[:3]:
        entry["drift_mev_per_atom_ps"] = 0.001
    assert "; 2 are those of another variant to the last bit;" in captions.caption("nve_drift", Run(entries))


@pytest.mark.parametrize(("gives", "words"), [(True, "gives the stress, too"), (False, "gives no stress"), (None, "")])
def test_the_first_page_says_whether_there_is_a_stress(document, gives, words):
    entries = copy.deepcopy(document["records"])
    for entry in entries:
        if entry["kind"] == "compile" and gives is not None:
            entry["gives_stress"] = gives
    told = first_page.first_lines(Run(entries), document["provenance"], SETTINGS)["What is it for?"]
    assert words in told if words else "stress" not in told


def test_the_method_tells_processes_beyond_one_molecule(markdown):
    method = markdown.split("## Method")[1]
    assert re.search(r"; beyond one molecule, and of the teacher: 1 process\(es\), \d+", method)
    assert "of forty that equal eager one would be called faster by chance" in method


def test_the_limit_of_a_check_is_the_one_applied_in_older_records_too():
    entry = {
        "eager_force_rmse_mev_per_a": 4.6e-3,
        "eager_energy_error_mev_per_atom": 1e-4,
        "tolerance_mev_per_a": 0.05,
    }
    assert tables.with_limits(entry, {})["force_limit_mev_per_a"] == pytest.approx(2 * 4.6e-3 + 0.005)
    assert tables.with_limits(entry, {})["energy_limit_mev_per_atom"] == pytest.approx(2e-4 + 0.005)
    rough = entry | {"tolerance_mev_per_a": 2.0}
    assert tables.with_limits(rough, {"products": "tf32"})["force_limit_mev_per_a"] == pytest.approx(0.2092)
    for options in ({"dtype": "float16"}, {"precision": "bf16"}):
        assert tables.with_limits(rough, options)["force_limit_mev_per_a"] == pytest.approx(0.2138)
    new = rough | {"force_limit_mev_per_a": 0.3}
    assert tables.with_limits(new, {}) is new


def test_a_student_that_was_distilled_here_is_held_against_its_teacher():
    provenance = {"machines": [], "packages": {}, "commits": [], "warnings": []}
    records = collect.merge(run_records())
    assert "Over its teacher" not in first_page.first_lines(Run(records), provenance, {})
    for record in records:
        if record["kind"] == "accuracy" and record["split"] == "test":
            record |= {"n_molecules": 8, "trained_molecules": 8, "n_configurations": 73}
            record |= {"force_mae_mev_per_a": 14.0, "force_rms_mev_per_a": 1400.0}
    run = Run(records)
    lines = first_page.first_lines(run, provenance, {})
    # The factors are those of the table below.
    factors = [row["teacher_ms"].value / row["ase_ms"].value for row in first_page.by_size(run, run.winner()[0])]
    assert f"is {spread(factors)} times as fast as one of" in lines["Over its teacher"]
    assert "at 14 meV/Å from it, 1.0% of the size of its forces" in lines["Over its teacher"]
    assert "on 73 geometries, held out, of what it was trained on" in lines["Is it right?"]


@pytest.mark.parametrize(
    ("by_molecule", "said"),
    [
        (
            {"Cn1cnc2c1c(=O)n(C)c(=O)n2C": {"force_mae_mev_per_a": 300.0}, "water": {"force_mae_mev_per_a": 9.0}},
            "300 meV/Å, on caffeine.",
        ),
        (None, "meV/Å, on those molecules of this report with 97 and more atoms."),
    ],
)
def test_the_molecule_of_this_report_that_the_model_knows_least_is_named(by_molecule, said):
    records = collect.merge(run_records())
    for record in records:
        if record["kind"] == "accuracy" and record["split"] == "benchmark":
            record |= {"by_molecule": by_molecule, "by_size": {"97 and more": {"force_mae_mev_per_a": 250.0}}}
    lines = first_page.first_lines(Run(records), {"machines": [], "packages": {}, "commits": [], "warnings": []}, {})
    assert lines["Is it right?"].endswith(said)
