"""How long the batch system lets the job go on that this process is part of."""

import os
import re
from collections.abc import Mapping

from mlff_distiller.utils.batch_system import batch_job
from mlff_distiller.utils.provenance import output_of


def seconds_left(environment: Mapping[str, str] = os.environ) -> float | None:
    """Until Slurm ends the job, s; None without Slurm, without a limit, or if it does not answer."""
    job = batch_job(environment)
    if job is None or job["system"] != "slurm":
        return None
    told = output_of(["squeue", "--noheader", f"--job={job['id']}", "--format=%L"]) or ""
    # days-hours:minutes:seconds, without what would be zero in front.
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", told)
    if found is None:
        return None
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups())
    return float(((24 * days + hours) * 60 + minutes) * 60 + seconds)
