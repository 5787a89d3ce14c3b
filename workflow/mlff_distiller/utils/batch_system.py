"""The batch system's job that this process is part of, as the batch system's own variables tell it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def batch_job(environment: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """``{"system", "node", "id", "cpus"}`` of the job, or None without a batch system: then no host is named.

    ``system`` is ``slurm``, ``pbs`` or ``lsf``; ``node`` is the batch system's name for the node, ``cpus`` how many cores of it
    the job was given. A part that the batch system does not tell is None.
    """
    for system, key in (("slurm", "SLURM_JOB_ID"), ("pbs", "PBS_JOBID"), ("lsf", "LSB_JOBID")):
        if job := environment.get(key):
            node, cpus = _READERS[system](environment)
            return {"system": system, "node": node or None, "id": job, "cpus": cpus}
    return None


def _slurm(environment: Mapping[str, str]) -> tuple[str | None, int | None]:
    return environment.get("SLURMD_NODENAME"), _count(environment, "SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK")


def _pbs(environment: Mapping[str, str]) -> tuple[str | None, int | None]:
    """PBS lists the job's nodes in a file, once or once for each core; jobs of this workflow have one node."""
    try:
        listed = Path(environment.get("PBS_NODEFILE", "")).read_text(encoding="utf-8").split()
    except OSError:
        listed = []
    return listed[0] if listed else None, _count(environment, "NCPUS", "PBS_NP", "PBS_NUM_PPN")


def _lsf(environment: Mapping[str, str]) -> tuple[str | None, int | None]:
    """LSF lists ``node cores``, pair by pair."""
    words = environment.get("LSB_MCPU_HOSTS", "").split() or environment.get("LSB_HOSTS", "").split()
    cpus = _count(environment, "LSB_DJOB_NUMPROC")
    if cpus is None and len(words) > 1 and words[1].isdecimal():
        cpus = int(words[1])
    return words[0] if words else None, cpus


_READERS = {"slurm": _slurm, "pbs": _pbs, "lsf": _lsf}


def _count(environment: Mapping[str, str], *names: str) -> int | None:
    """The first of these variables that holds a number."""
    found = (environment.get(name, "") for name in names)
    return next((int(text) for text in found if text.isdecimal()), None)
