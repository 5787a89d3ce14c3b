"""The fields of records: none but those described, of the types described, and a page that describes them."""

import json

import pytest

from mlff_distiller.cli import main
from mlff_distiller.records import docs, schema
from mlff_distiller.records.fields import CLASSES, class_of, problem
from mlff_distiller.records.kinds.timing import Benchmark, Summary
from mlff_distiller.records.run import Run
from mlff_distiller.sources import sources_of
from mlff_distiller.utils.files import CHECKOUT
from tests.unit.records.synthetic_records import run_records

PUBLISHED = sorted((CHECKOUT / "results" / "published").glob(f"*/{schema.RESULTS}"))
NVE = {"kind": "md", "task": "nve", "variant": "cpp", "status": "ok"}


def test_every_kind_has_classes():
    assert list(CLASSES) == list(schema.KINDS)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("compile", {"variant": "cpp", "compile_ms": 3.0}, "unknown field 'compile_ms'.* did you mean 'compile_s'"),
        ("benchmark", {"variant": "cpp", "task": "periodic", "n_operations": 3}, "unknown field 'n_operations'"),
        ("md", {"variant": "cpp", "task": "nvtt"}, "unknown task 'nvtt' of md; did you mean 'nvt'"),
    ],
)
def test_a_field_that_its_kind_does_not_have_is_refused(kind, fields, words):
    with pytest.raises(ValueError, match=words):
        schema.record(kind, **fields)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_published_records_are_of_the_form_described(path):
    entries = json.loads(path.read_text())["records"]
    assert not {found for found in map(problem, entries) if found}
    for entry in entries:
        known = class_of(entry["kind"], entry["task"]).__annotations__
        merged = Summary.__annotations__ if entry["kind"] == "benchmark" else {}
        assert entry.keys() <= known.keys() | merged.keys()
    assert Run(entries).variants


def test_there_are_published_records():
    assert len(PUBLISHED) >= 3


def test_records_of_all_kinds_are_right():
    entries = json.loads(json.dumps(run_records(replicates=1)))
    assert not {found for found in map(problem, entries) if found}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_atoms": True}, "n_atoms: input should be a valid integer"),
        ({"n_atoms": -1}, "n_atoms: input should be greater than or equal to 0"),
        ({"system": 3}, "system: input should be a valid string"),
        ({"drift_mev_per_atom_ps": "0.1"}, "drift_mev_per_atom_ps: input should be a valid number"),
        ({"gates": {"momentum": {"value": "much"}}}, "gates.momentum.value: input should be a valid number"),
        ({"energy_trace": {"time_fs": [0.0, None]}}, "energy_trace.time_fs: input should be a valid number"),
        ({"kind": "benchmark", "task": "energy", "samples_ms": [1.0, 0]}, "samples_ms: input should be greater than 0"),
        ({"task": "nvtt"}, "unknown task 'nvtt' of md; did you mean 'nvt'?"),
        ({"task": ["nve"]}, "unknown task None of md; known: liquid, nve, nvt, pairs, reference, spectra, timestep"),
        ({"status": "fine"}, "unknown status 'fine'"),
        ({"kind": "mdd"}, "unknown kind 'mdd'"),
        ({"variant": None}, "a md record without a variant"),
    ],
)
def test_a_record_of_another_form_is_named(fields, words):
    assert problem(NVE) is None
    assert problem(NVE | fields) == words


def test_null_and_fields_of_other_versions_are_let_through():
    assert problem(NVE | {"drift_mev_per_atom_ps": None, "n_steps": 3, "of_another_version": {}}) is None


def test_what_a_measuring_stage_writes_is_not_bound_to_the_fields_of_others():
    """A field more in one class must not make every stage measure again."""
    kinds = [file for file in sources_of("benchmark.scaling", "training.train", "md.simulate") if "/kinds/" in file]
    assert not kinds
    assert [file for file in sources_of("records.collect") if file.endswith("kinds/md.py")]


def test_the_page_of_fields_is_up_to_date(tmp_path):
    assert docs.PAGE.read_text() == docs.page(), "run `python -m mlff_distiller records-docs`"
    assert main(["records-docs", "--output", str(tmp_path / "records.md")]) == 0
    assert (tmp_path / "records.md").read_text() == docs.page()


def test_the_page_gives_units_and_meanings():
    page = docs.page()
    assert "| `drift_mev_per_atom_ps` | number or null | meV/atom/ps | Slope of the total energy. |" in page
    assert "| `samples_ms` | list of number > 0 | ms |" in page
    assert "| `gates` | mapping to [Gate](#gate) |" in page
    for name in (*Benchmark.__annotations__, *Summary.__annotations__):
        assert f"| `{name}` |" in page
