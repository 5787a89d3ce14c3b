"""What is left of a Slurm job's time, by what Slurm's own command says."""

import pytest

from mlff_distiller.utils.time_left import seconds_left

JOB = {"SLURM_JOB_ID": "74"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("0:59", 59.0),
        ("12:05", 725.0),
        ("1:00:01", 3601.0),
        ("2-01:00:00", 176400.0),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("", None),
    ],
)
def test_what_slurm_says(tmp_path, monkeypatch, told, expected):
    command = tmp_path / "squeue"
    command.write_text(f'#!/bin/sh\n[ "$2" = --job=74 ] && echo "{told}"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert seconds_left(JOB) == expected


def test_without_slurm_there_is_no_limit(tmp_path, monkeypatch):
    assert seconds_left({}) is None
    assert seconds_left({"PBS_JOBID": "3"}) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert seconds_left(JOB) is None
