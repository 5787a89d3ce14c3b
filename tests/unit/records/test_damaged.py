"""Records and merged results with something changed at random: read, left out by name, or refused; never a traceback."""

import copy
import json

import numpy as np
import pytest

from mlff_distiller.records import collect, schema
from mlff_distiller.utils.errors import UserError
from tests.unit.records.synthetic_records import write_run

ODD = [None, True, -1, 0, 1e308, 10**400, -0.5, "", "x", "\ud800", [], [1], [None, "a"], {}, {"a": 1}, [[1, 2], [3]]]


def places(value, path=()):
    """Every place in a JSON value, as the keys that lead there."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in items:
        yield from places(entry, (*path, key))


def damaged(document, random):
    """A copy with one to three values replaced or taken out."""
    document = copy.deepcopy(document)
    for _ in range(random.integers(1, 4)):
        where = [place for place in places(document) if place]
        if not where:
            break
        *way, last = where[random.integers(len(where))]
        parent = document
        for key in way:
            parent = parent[key]
        if random.random() < 0.3:
            del parent[last]
        else:
            parent[last] = ODD[random.integers(len(ODD))]
    return document


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("jobs"), replicates=1)


def test_damaged_records_are_left_out_by_name_or_refused(files, tmp_path):
    random = np.random.default_rng(0)
    left_out = 0
    for trial in range(300):
        source = files[trial % len(files)]
        small = json.loads(source.read_text())
        small["records"] = small["records"][: 1 + trial % 4]
        path = tmp_path / "bad.json"
        path.write_text(json.dumps(damaged(small, random)))
        try:
            records = schema.read(path)
            assert all(entry.keys() >= schema.COMMON_FIELDS.keys() for entry in records)
        except UserError as error:
            assert str(path) in str(error)  # noqa: PT017
        try:
            document = collect.collect([path, files[0]])
        except UserError:
            continue
        json.dumps(document, allow_nan=False)
        collect.to_table(document["records"])
        left_out += bool(document["provenance"]["left_out"])
    assert left_out > 50


def test_damaged_results_are_refused_with_the_record(files, tmp_path):
    random = np.random.default_rng(1)
    document = collect.collect(files)
    document["records"] = document["records"][:: max(1, len(document["records"]) // 20)]
    path, refused = tmp_path / "phase3_results.json", 0
    for _ in range(300):
        path.write_text(json.dumps(damaged(document, random)))
        try:
            found = collect.read(path)
            assert all(entry.keys() >= schema.COMMON_FIELDS.keys() for entry in found["records"])
        except UserError as error:
            refused += 1
            assert str(path) in str(error)  # noqa: PT017
    assert refused > 50


@pytest.mark.parametrize("text", ["", "[" * 100_000, "1" * 10_000, '{"records": [', "\x00", "null", '"records"', "[]"])
def test_text_that_is_no_document_is_refused(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    for read in (schema.read, collect.read):
        with pytest.raises(UserError, match=r"bad\.json"):
            read(path)
