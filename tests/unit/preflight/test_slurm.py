"""What would let a run on Slurm wait for ever is found by what Slurm's own commands say."""

import asyncio
import os

import pytest

from mlff_distiller.preflight import slurm


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Writes commands that print what Slurm would; none of them is there until it is written."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(**said):
        for name, text in said.items():
            (folder / name).write_text(f"#!/bin/sh\ncat << END\n{text}\nEND\n")
            os.chmod(folder / name, 0o755)

    write(
        sinfo="small 16\ncpu* 16\ncpu* 32+", scontrol="AccountingStorageType   = accounting_storage/slurmdbd", squeue=""
    )
    return write


def test_a_sound_cluster_gives_no_word(cluster, tmp_path):
    assert slurm.problems(tmp_path, 32, "sacct", "cpu", {}) == []


def test_more_cores_than_any_node_has(cluster, tmp_path):
    (said,) = slurm.problems(tmp_path, 64, "sacct", "cpu", {})
    assert "no node of the partition cpu has more than 32" in said
    assert "--cores 32" in said


def test_more_cores_than_any_node_of_the_partition_has(cluster, tmp_path):
    (said,) = slurm.problems(tmp_path, 32, "sacct", "cpu", {}, partition="small")
    assert "no node of the partition small has more than 16" in said
    assert slurm.problems(tmp_path, 32, "sacct", "cpu", {}, partition="small,cpu") == []
    assert slurm.problems(tmp_path, 16, "sacct", "cpu", {}, partition="small") == []


@pytest.mark.parametrize(
    ("words", "partition"),
    [
        ([], None),
        (["--default-resources", "mem_mb=2000"], None),
        (["--default-resources", "mem_mb=2000", "slurm_partition=cpu"], "cpu"),
        (["--default-resources", "slurm_partition='cpu,gpu'"], "cpu,gpu"),
    ],
)
def test_the_partition_is_the_one_that_snakemake_was_told(words, partition):
    """As its own command line reads it."""
    from snakemake.cli import parse_args

    told = parse_args(["--dry-run", "--workflow-profile", "none", *words])[1]
    assert slurm.partition_of(told.default_resources) == partition


@pytest.mark.parametrize("storage", ["accounting_storage/none", "(null)"])
def test_no_accounting(cluster, tmp_path, storage):
    cluster(scontrol=f"MinJobAge = 300 sec\nAccountingStorageType   = {storage}\nEnd")
    (said,) = slurm.problems(tmp_path, 8, "sacct", "cpu", {})
    assert "--slurm-status-command squeue" in said
    assert slurm.problems(tmp_path, 8, "squeue", "cpu", {}) == []


def test_jobs_of_a_killed_snakemake(cluster, tmp_path):
    cluster(squeue=f"74 {tmp_path}\n75 {tmp_path}/another\n76 {tmp_path}\n80 {tmp_path}")
    (said,) = slurm.problems(tmp_path, 8, "sacct", "cpu", {"SLURM_JOB_ID": "80"})
    assert "2 jobs" in said
    assert "`scancel 74 76`" in said


def test_without_an_answer_there_is_nothing_to_say(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.problems(tmp_path, 1000, "sacct", "cpu", {}) == []


def test_a_device_that_the_first_node_would_choose(cluster, tmp_path):
    assert slurm.problems(tmp_path, 8, "sacct", "auto", {}) == []
    cluster(sinfo="(null)\ngpu:h200:8(S:0-1)\n16")
    (said,) = slurm.problems(tmp_path, 8, "sacct", "auto", {})
    assert "`device: cuda` in the configuration" in said
    assert slurm.problems(tmp_path, 8, "sacct", "cuda", {}) == slurm.problems(tmp_path, 8, "sacct", "cpu", {}) == []


def test_a_slurm_that_its_jobs_would_not_find(cluster, tmp_path, monkeypatch):
    found = {"SLURM_CONF": "/somewhere/slurm.conf"}
    monkeypatch.setenv("SLURM_CONF", found["SLURM_CONF"])
    assert slurm.problems(tmp_path, 8, "sacct", "cpu", found) == []
    (tmp_path / "bin/sinfo").write_text('#!/bin/sh\n[ -n "$SLURM_CONF" ] && echo 16 || exit 1\n')
    (said,) = slurm.problems(tmp_path, 8, "sacct", "cpu", found)
    assert "SLURM_CONF=/somewhere/slurm.conf alone" in said
    assert "/etc/slurm/slurm.conf" in said


class Plugin:
    """Forgets the jobs that it is asked for while Slurm does not answer, as Snakemake's plugin does."""

    def __init__(self):
        self._status_query_calls = 0
        self.answers = False
        self.ended = set()

    async def check_active_jobs(self, jobs):
        if self.answers:
            self._status_query_calls += 1
            for job in jobs:
                if job not in self.ended:
                    yield job


def test_without_an_answer_no_job_is_forgotten():
    executor = Plugin()
    slurm.ask_again_without_an_answer(executor)

    def look(jobs):
        async def running():
            return [job async for job in executor.check_active_jobs(jobs)]

        return asyncio.run(running())

    assert look(["a", "b"]) == ["a", "b"]
    executor.answers, executor.ended = True, {"a"}
    assert look(["a", "b"]) == ["b"]
    executor.answers = False
    assert look(["b"]) == ["b"]
