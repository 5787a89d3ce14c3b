"""When rounds end: the first limit that is reached is named; without one, another round follows."""

import json
import re

import pytest

from mlff_distiller.records import schema
from mlff_distiller.training import enough
from mlff_distiller.training.enough import why_enough
from mlff_distiller.training.round_limits import RoundLimits
from mlff_distiller.utils.files import write_json
from tests.conftest import run_stage

MEASURED = {"error": 25.0, "labels": 900, "labels_of_next": 100, "minutes": 40.0, "minutes_of_next": 20.0}


@pytest.mark.parametrize(
    ("limits", "measured", "words"),
    [
        ({}, {}, ""),
        ({"enough_mev_per_a": 24.9}, {}, ""),
        ({"enough_mev_per_a": 25.0}, {}, "25 meV/A, is not above enough_mev_per_a, 25"),
        ({"enough_mev_per_a": 25.0}, {"error": None}, ""),
        ({"max_labels": 1000}, {}, ""),
        ({"max_labels": 999}, {}, "900 labels and up to 100 of a further round would be more than max_labels, 999"),
        ({"max_minutes": 60.0}, {}, ""),
        ({"max_minutes": 59.0}, {}, "40 minutes and 20 of a further round.* more than max_minutes, 59"),
        ({"max_labels": 1, "enough_mev_per_a": 30.0}, {}, "enough_mev_per_a"),
    ],
)
def test_the_first_limit_that_is_reached_is_named(limits, measured, words):
    found = why_enough(RoundLimits.from_mapping(limits), **(MEASURED | measured))
    assert re.search(words, found) if words else found == ""


def written(path, time, **fields):
    return write_json(path, fields | {"provenance": {"time_utc": f"2026-01-01T{time}+00:00"}})


@pytest.mark.parametrize(
    ("longest", "reason"),
    [(59, "40 minutes and 20 of a further round, as long as the last, would be more than max_minutes, 59"), (60, None)],
)
def test_times_and_labels_are_those_of_the_records(tmp_path, capsys, longest, reason):
    """Begun at 10:00; the round could begin at 10:20 and ended at 10:40."""
    records = [
        schema.record("accuracy", variant="student", task="round", round=2, frames=frames, split="val", **fields)
        for frames, fields in {
            "explored": {"status": "unavailable", "reason": "no frame of a held-out molecule was labeled"},
            "sampled": {"force_mae_mev_per_a": 1.0},
        }.items()
    ]
    gain = written(tmp_path / "gain.json", "10:40:00", schema_version=schema.SCHEMA_VERSION, records=records)
    output = tmp_path / "enough.json"
    run_stage(
        enough,
        gain=gain,
        labels=[written(tmp_path / f"{n}.json", "10:05:00", configurations=n) for n in (300, 20)],
        begun=written(tmp_path / "machine.json", "10:00:00"),
        before=[written(tmp_path / f"{time[:2]}{time[3:5]}.json", time) for time in ("10:20:00", "10:07:00")],
        next_labels=100,
        settings=json.dumps({"enough_mev_per_a": 5.0, "max_labels": 420, "max_minutes": longest}),
        output=output,
    )
    (decided,) = schema.read(output)
    assert {name: decided[name] for name in ("round", "enough", "n_labels", "seconds")} == {
        "round": 2, "enough": reason, "n_labels": 320, "seconds": 2400.0
    }  # fmt: skip
    assert ("round 2: another one follows" in capsys.readouterr().out) == (reason is None)
