"""What would let a run on Slurm wait for ever, or do the same work twice, found before its first job is submitted."""

import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.utils.provenance import output_of


def problems(
    folder: Path,
    cores: int,
    status_command: str | None,
    device: str,
    environment: Mapping[str, str] = os.environ,
    partition: str | None = None,
) -> list[str]:
    """What is wrong, each with what to do about it; empty if nothing is, or if Slurm does not answer.

    Args:
        folder: of the run.
        cores: the most that a job asks for.
        status_command: by which the state of jobs is asked for: ``sacct`` or ``squeue``.
        device: of the configuration.
        environment: names the job that Snakemake itself runs in, if it does.
        partition: that jobs go to; None: Slurm's default.
    """
    found = [
        _not_found_by_jobs(environment),
        _too_large(cores, partition),
        _unheard(status_command),
        _undecided(device),
        _still_running(folder, environment.get("SLURM_JOB_ID")),
    ]
    return [text for text in found if text]


def partition_of(default_resources: Any) -> str | None:
    """The partition that a profile or ``--default-resources`` names; None where they leave it to Slurm.

    Args:
        default_resources: Snakemake's ``Resources``, or None. What is asked of one that is not there has no text.
    """
    if default_resources is None:
        return None
    # The text that was given: Snakemake takes it for an expression, whose value it has for each job alone.
    text = default_resources.get("slurm_partition").raw
    return None if text is None else str(text).strip("'\"")


def ask_again_without_an_answer(executor: Any) -> None:
    """Let Snakemake ask for the state of its jobs later where Slurm does not answer.

    Its plugin (2.8.0) forgets all jobs whose state it could not read, so that none of them ever seems to end: one restart of the
    controller, or of the database of the accounting, and the run waits for ever.

    Args:
        executor: of Snakemake's plugin for Slurm.
    """
    look = executor.check_active_jobs

    async def look_again(jobs: list[Any]) -> AsyncIterator[Any]:
        answers = executor._status_query_calls
        running = [job async for job in look(jobs)]
        for job in running if executor._status_query_calls > answers else jobs:
            yield job

    executor.check_active_jobs = look_again


def _not_found_by_jobs(environment: Mapping[str, str]) -> str:
    """Snakemake's plugin takes SLURM_CONF from what a job starts; where Slurm is not found without it, every job fails."""
    sizes = ["sinfo", "--noheader", "--format=%c"]
    if not environment.get("SLURM_CONF") or not output_of(sizes) or output_of(["env", "-u", "SLURM_CONF", *sizes]):
        return ""
    return (
        f"Slurm is found by SLURM_CONF={environment['SLURM_CONF']} alone, which Snakemake does not hand on: all jobs would fail; "
        "have that file at /etc/slurm/slurm.conf, on all nodes"
    )


def _undecided(device: str) -> str:
    """Whatever node the check of the machine gets would decide for all others."""
    if device != "auto" or "gpu" not in (output_of(["sinfo", "--noheader", "--format=%G"]) or ""):
        return ""
    return (
        "device: auto, and some nodes of this cluster have GPUs: the first job's node would decide for all others; "
        "say `device: cuda` in the configuration (or --config device=cuda), or cpu"
    )


def _too_large(cores: int, partition: str | None) -> str:
    """A job that no node of its partition has the cores for waits for ever where Slurm is not set up to refuse it."""
    # The default partition has a star; "32+" are nodes of 32 cores and more.
    lines = re.findall(
        r"^(\S+?)(\*?) +(\d+)\+?$", output_of(["sinfo", "--noheader", "--format=%P %c"]) or "", re.MULTILINE
    )
    asked = partition.split(",") if partition else sorted({name for name, star, _ in lines if star})
    sizes = [int(size) for name, _, size in lines if name in asked]
    if not sizes or cores <= max(sizes):
        return ""
    return (
        f"cores: {cores}, and no node of the partition {', '.join(asked)} has more than {max(sizes)}: jobs would wait for ever; "
        f"say --cores {max(sizes)} or fewer, and set-threads likewise, or choose another slurm_partition"
    )


def _unheard(status_command: str | None) -> str:
    """Without accounting ``sacct`` knows no job, so that none ever seems to end."""
    if status_command != "sacct":
        return ""
    settings = output_of(["scontrol", "show", "config"]) or ""
    storage = re.search(r"^AccountingStorageType\s*=\s*(\S+)", settings, re.MULTILINE)
    if storage is None or storage[1] not in ("accounting_storage/none", "(null)"):
        return ""
    return "this Slurm keeps no account of its jobs, so that none would seem to end: add --slurm-status-command squeue"


def _still_running(folder: Path, own: str | None) -> str:
    """Jobs of a Snakemake that was killed go on; the same ones would be submitted beside them."""
    listed = output_of(["squeue", "--me", "--noheader", "--format=%i %Z"]) or ""
    jobs = [job for job, _, place in (line.partition(" ") for line in listed.splitlines()) if Path(place) == folder]
    jobs = [job for job in jobs if job != own]
    if not jobs:
        return ""
    return (
        f"{len(jobs)} job{'s' if len(jobs) > 1 else ''} of an earlier start still run in this folder, and the same work would be "
        f"done twice at once: wait for them, or `scancel {' '.join(jobs)}`"
    )
