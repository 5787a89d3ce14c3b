"""Records and files: strict on the way in, atomic on the way out."""

import json
import math

import pytest

from mlff_distiller.records import schema
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings, read_json, write_bytes, write_json


def test_round_trip_with_provenance(tmp_path):
    entry = schema.record("benchmark", variant="eager", task="energy", samples_ms=[1.0, 2.0])
    path = schema.write(tmp_path / "a.json", [entry])
    assert schema.read(path) == [entry]
    assert json.loads(path.read_text())["provenance"]["packages"]["torch"]


def test_nan_becomes_null(tmp_path):
    trace = {"total_mev_per_atom": [1.0, math.inf]}
    made = schema.record("md", task="nve", max_momentum=math.nan, energy_trace=trace)
    (entry,) = schema.read(schema.write(tmp_path / "a.json", [made]))
    assert entry["max_momentum"] is None
    assert entry["energy_trace"] == {"total_mev_per_atom": [1.0, None]}


def test_a_failure_must_say_why():
    with pytest.raises(ValueError, match="must say why"):
        schema.record("compile", status="failed")


def test_unknown_kind_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'benchmark'"):
        schema.record("benchmrk")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"records": 3}', '{"schema_version": 99, "records": []}'])
def test_a_file_that_is_no_records_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json"):
        schema.read(path)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = write_json(tmp_path / "a.json", {"kept": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"bad": math.nan})
    with pytest.raises(TypeError):
        write_bytes(path, "text")
    assert read_json(path) == {"kept": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_settings_from_text_and_from_a_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("steps: 5\n")
    assert load_settings('{"steps": 5}') == load_settings(path) == {"steps": 5}


@pytest.mark.parametrize("given", ["nowhere.yaml", "{broken: [", "{1, 2}"])
def test_settings_that_cannot_be_read(given):
    with pytest.raises(UserError, match="--settings"):
        load_settings(given if given != "{1, 2}" else '{"a": 1')
