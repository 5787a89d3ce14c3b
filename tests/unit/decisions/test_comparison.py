"""Several runs compared: regressions are marked, and runs that cannot be compared are refused."""

import argparse
import copy

import pytest

from mlff_distiller.decisions import comparison
from mlff_distiller.records import collect
from mlff_distiller.records.wording import number
from mlff_distiller.report import compare, html
from mlff_distiller.report.figures import comparison as figure
from mlff_distiller.report.figures import draw
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_json
from tests.unit.records.synthetic_records import run_records
from tests.unit.report.test_figures import overlaps, words

STUDENT = "a" * 64
MACHINE = {
    "cpu": "Processor A",
    "architecture": "x86_64",
    "cores": 2,
    "memory_gib": 8.0,
    "gpus": [],
    "gpu_driver": None,
}
COMPARED = ("eager", "cpp", "torchscript", "torch_compile_forces", "torch_cluster", None)


@pytest.fixture(scope="module")
def document():
    """A merged run of a few variants on three molecules."""
    entries = [
        e
        for e in run_records(3)
        if e["variant"] in COMPARED and e["system"] in ("benzene", "caffeine", "cholesterol", None)
    ]
    for entry in entries:
        if entry["kind"] == "compile" and entry["status"] == "ok":
            entry["checkpoint_sha256"] = STUDENT
    provenance = {
        "machines": [MACHINE],
        "packages": {"torch": ["2.5.1"]},
        "commits": ["0123456789ab"],
        "measured_utc": ["2026-01-01", "2026-01-02"],
        "left_out": [],
        "student_sha256": STUDENT,
    }
    return {"provenance": provenance, "records": collect.merge(entries)}


@pytest.fixture
def place(tmp_path, document):
    """Writes a run to a folder, after a function has changed its document."""

    def write(name, change=lambda made: None, published=False):
        made = copy.deepcopy(document)
        change(made)
        folder = tmp_path / name
        write_json(folder / ("" if published else "report") / "phase3_results.json", made)
        return folder

    return write


def slower(variant, factor):
    def change(made):
        for entry in made["records"]:
            if entry["kind"] == "benchmark" and entry["variant"] == variant and entry.get("median_ms"):
                entry["median_ms"] *= factor
                entry["median_ci95_ms"] = [factor * bound for bound in entry["median_ci95_ms"]]
                if entry["speedup"]:
                    entry["speedup"] /= factor
                    entry["speedup_ci95"] = [bound / factor for bound in entry["speedup_ci95"]]

    return change


def on_another_machine(made):
    made["provenance"]["machines"] = [MACHINE | {"cpu": "Processor B"}]


def change_of(members, variant, task="energy_forces"):
    (found,) = [c for c in comparison.changes(members) if (c.variant, c.task) == (variant, task)]
    return found


def test_a_slower_variant_on_the_same_machine_is_a_regression(place):
    members = comparison.load_comparable([place("before"), place("after", slower("cpp", 1.5))])
    found = change_of(members, "cpp")
    assert found.verdict == "regression"
    assert found.time.value == pytest.approx(1 / 1.5)
    assert found.time.low < found.time.value < found.time.high < 1
    assert found.speedup.value == pytest.approx(1 / 1.5)
    assert {c.verdict for c in comparison.changes(members) if c.variant != "cpp"} == {"no difference shown"}


def test_a_smaller_gain_over_eager_is_a_regression_where_times_are_too_uncertain_to_tell(place):
    def change(made):
        slower("cpp", 1.5)(made)
        for entry in made["records"]:
            if entry["kind"] == "benchmark" and entry.get("median_ms"):
                entry["median_ci95_ms"] = [entry["median_ms"] / 3, entry["median_ms"] * 3]

    members = comparison.load_comparable([place("before"), place("after", change)])
    assert change_of(members, "cpp").time.verdict == "no difference shown"
    assert change_of(members, "cpp").verdict == "regression against eager"


def test_a_variant_with_wrong_results_is_not_compared(place):
    def change(made):
        for entry in made["records"]:
            if entry["kind"] == "equivalence" and entry["variant"] == "cpp":
                entry["equivalent"] = False

    members = comparison.load_comparable([place("before"), place("after", change)])
    assert not [c for c in comparison.changes(members) if c.variant == "cpp"]
    assert "force error" in comparison.lost(members)[0]


def test_a_difference_within_the_intervals_is_none(place):
    members = comparison.load_comparable([place("before"), place("after", slower("cpp", 1.005))])
    assert change_of(members, "cpp").verdict == "no difference shown"


def test_a_faster_variant_is_faster(place):
    members = comparison.load_comparable([place("before"), place("after", slower("cpp", 0.5))])
    assert change_of(members, "cpp").verdict == "faster"


def test_another_machine_is_no_regression(place):
    def change(made):
        on_another_machine(made)
        for name in ("eager", "cpp"):
            slower(name, 2.0)(made)

    members = comparison.load_comparable([place("here"), place("there", change)])
    assert change_of(members, "cpp").verdict == "slower there"


def test_other_threads_are_no_regression(place):
    def change(made):
        slower("cpp", 2.0)(made)
        for entry in made["records"]:
            if entry["kind"] == "benchmark":
                entry["threads"] = 7

    members = comparison.load_comparable([place("two"), place("seven", change)])
    assert change_of(members, "cpp").verdict == "slower there"


def test_what_worked_before_and_fails_now_is_named(place):
    def change(made):
        for entry in made["records"]:
            if entry["kind"] == "md" and entry["variant"] == "cpp":
                entry["passed"] = False

    (told,) = comparison.lost(comparison.load_comparable([place("before"), place("after", change)]))
    assert told.startswith("`cpp` worked in before and is failed in after: MD on")


def test_only_shared_molecules_are_averaged(place):
    def change(made):
        made["records"] = [e for e in made["records"] if e["system"] != "cholesterol"]

    members = comparison.load_comparable([place("all"), place("fewer", change)])
    assert comparison.shared_systems(members) == ["benzene", "caffeine"]
    assert change_of(members, "cpp").systems == 2


def another_student(made):
    made["provenance"]["student_sha256"] = "b" * 64
    for entry in made["records"]:
        if "checkpoint_sha256" in entry:
            entry["checkpoint_sha256"] = "b" * 64


def no_student(made):
    made["provenance"].pop("student_sha256")
    for entry in made["records"]:
        entry.pop("checkpoint_sha256", None)


def other_molecule(made):
    for entry in made["records"]:
        if entry["system"] == "caffeine" and entry["n_atoms"]:
            entry["n_atoms"] += 1


def other_geometry(made):
    for entry in made["records"]:
        if entry["system"] == "caffeine" and entry.get("n_edges"):
            entry["n_edges"] += 2


def other_names(made):
    for entry in made["records"]:
        if entry["system"]:
            entry["system"] += "_of_mine"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (another_student, "different students"),
        (no_student, "does not say which student"),
        (other_molecule, "caffeine is a different molecule in each"),
        (other_geometry, "neighbor pairs"),
        (other_names, "no molecule in common"),
        (lambda made: made.update(records=[e for e in made["records"] if e["kind"] == "compile"]), "has no timings"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(place, change, reason):
    with pytest.raises(UserError, match=f"one and other cannot be compared: .*{reason}"):
        comparison.load_comparable([place("one"), place("other", change)])


def test_one_run_is_no_comparison(place):
    with pytest.raises(UserError, match="at least two runs"):
        comparison.load_comparable([place("one")])
    with pytest.raises(UserError, match="no phase3_results"):
        comparison.load_comparable([place("one"), "nowhere"])


@pytest.fixture
def written(place, tmp_path):
    """The page of three runs: one before, one slower, one published from another machine with fewer variants."""

    def published(made):
        on_another_machine(made)
        for name in ("eager", "cpp", "torchscript"):
            slower(name, 0.3)(made)
        made["records"] = [e for e in made["records"] if e["variant"] != "torch_compile_forces"]
        made["provenance"]["left_out"] = [{"file": "benchmark/cpp/0.json", "reason": "not valid JSON"}]

    runs = [place("before"), place("after", slower("cpp", 1.5)), place("fast_machine", published, published=True)]
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    output = tmp_path / "compare"
    assert compare.run(parser.parse_args([*map(str, runs), "--output-dir", str(output)])) == 0
    return output


def test_the_page_marks_the_regression_and_names_the_machines(written):
    text = (written / "COMPARISON.md").read_text()
    first = text.split("![")[0]
    assert "3 runs of one student (checkpoint aaaaaaaaaa) on 2 machines" in first
    assert "`cpp` on energy + forces in after: 0.67×" in first
    rows = [line for line in text.splitlines() if line.startswith("| `cpp` | Energy + forces |")]
    assert len(rows) == 2
    assert "**regression**" in rows[0]
    assert "faster there" in rows[1]
    assert "not in this run" in text
    assert "Processor B" in text
    assert "benchmark/cpp/0.json: not valid JSON" in text
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.replace(r"\|", "").count("|") for line in table.strip().splitlines()}) == 1, table


def test_the_page_needs_nothing_but_itself(written):
    page = (written / "COMPARISON.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 1
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "of each run, which hold every number" in page
    assert html.FOOTER not in page


def test_the_figure_has_one_row_per_run_with_its_winner(place):
    def gpu(made):
        made["provenance"]["machines"] = [MACHINE | {"gpus": ["Card C", "Card C"]}]
        for entry in made["records"]:
            if entry.get("device") == "cpu":
                entry["device"] = "cuda"
        slower("cpp", 0.1)(made)

    members = comparison.load_comparable([place("before"), place("same"), place("card", gpu)])
    rows = figure.rows(members)
    assert [row.member.label for row in rows] == ["card", "before", "same"]
    assert {row.variant for row in rows} == {"cpp"}
    assert rows[0].time.value == pytest.approx(rows[1].time.value / 10)
    assert rows[0].gain.value == pytest.approx(10)
    assert rows[1].gain is None
    drawn = figure.draw(members)
    for text in ("10 times as fast as before", "no difference from before shown", "Card C", "Processor A, 1 thread"):
        assert text in words(drawn)
    assert words(drawn).count(f"cpp {number(rows[1].time.value)} ms") == 2
    assert f"cpp {number(rows[0].time.value)} ms" in words(drawn)
    assert words(drawn).count("eager ") == 3
    assert drawn.get_size_inches()[1] < 4
    assert overlaps(drawn) == []
    assert "comparison" not in draw.FIGURES


def test_a_run_in_which_nothing_wins_shows_eager_and_a_slower_one_says_so(place):
    def nothing_wins(made):
        made["records"] = [e for e in made["records"] if e["variant"] in ("eager", None)]

    members = comparison.load_comparable([place("before"), place("slow", nothing_wins)])
    rows = figure.rows(members)
    assert [(row.member.label, row.variant) for row in rows] == [("before", "cpp"), ("slow", "eager")]
    drawn = figure.draw(members)
    assert f"takes {number(1 / rows[1].gain.value, 2)} times as long as before" in words(drawn)
    assert words(drawn).count("eager") == 2
    assert overlaps(drawn) == []


def test_runs_without_a_time_on_all_molecules_have_no_row(place):
    def incomplete(made):
        made["records"] = [
            e
            for e in made["records"]
            if (e["system"], e["variant"]) not in (("caffeine", "cpp"), ("caffeine", "eager"))
        ]

    members = comparison.load_comparable([place("before"), place("after", incomplete)])
    assert [row.member.label for row in figure.rows(members)] == ["before"]
