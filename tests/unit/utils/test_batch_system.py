"""Whose node a record was made on: by the variables that each batch system sets, and no word without one."""

import pytest

from mlff_distiller.utils.batch_system import batch_job


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HOSTNAME": "mine", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JOB_ID": ""}, None),
        (
            {"SLURM_JOB_ID": "74", "SLURMD_NODENAME": "c1", "SLURM_CPUS_ON_NODE": "4", "SLURM_CPUS_PER_TASK": "2"},
            ("slurm", "c1", "74", 4),
        ),
        # An allocation's shell on the login node: part of the job, on none of its nodes.
        ({"SLURM_JOB_ID": "74", "SLURM_CPUS_ON_NODE": "32(x2)"}, ("slurm", None, "74", None)),
        ({"PBS_JOBID": "12.server", "NCPUS": "8"}, ("pbs", None, "12.server", 8)),
        ({"PBS_JOBID": "12.server", "PBS_NODEFILE": "NODES", "PBS_NP": "2"}, ("pbs", "n007", "12.server", 2)),
        ({"LSB_JOBID": "5", "LSB_MCPU_HOSTS": "h3 16", "LSB_HOSTS": "h3 h3"}, ("lsf", "h3", "5", 16)),
        ({"LSB_JOBID": "5", "LSB_HOSTS": "h3 h3", "LSB_DJOB_NUMPROC": "2"}, ("lsf", "h3", "5", 2)),
    ],
)
def test_the_job_is_what_the_batch_system_says(tmp_path, environment, expected):
    (tmp_path / "nodes").write_text("n007\nn007\n")
    environment = {name: value.replace("NODES", str(tmp_path / "nodes")) for name, value in environment.items()}
    found = batch_job(environment)
    assert (found and tuple(found[part] for part in ("system", "node", "id", "cpus"))) == expected
