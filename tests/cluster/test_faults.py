"""What a cluster does to a run: jobs are cancelled or out of time, the controller, a node or the login node fails.

The labels of a run that had a fault are byte for byte those of one without.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.cluster.conftest import processes_of, with_faults
from tests.workflow.conftest import copy_workflow
from tests.workflow.test_shares import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), with_faults]
LABELS = "results/tiny/dataset/labels.h5"
IN_SHARES = (LABELS, "--configfile", "tiny.yaml", "--set-scatter", "labels=3")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SMALL))
    return copy_workflow(tmp_path).folder


@pytest.fixture(scope="session")
def labels(tmp_path_factory):
    """Those of one machine, without a fault."""
    folder = copy_workflow(tmp_path_factory.mktemp("here")).folder
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SMALL))
    command = [sys.executable, "-m", "snakemake", LABELS, "-c2", "--configfile", "tiny.yaml"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    return (folder / LABELS).read_bytes()


def wait_for(what, seconds=200):
    """The first true value of ``what()``."""
    limit = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < limit, "not in time"
        time.sleep(0.5)
    return found


def running(slurm, folder, rule):
    """Jobs of ``rule`` that run, and have for some seconds."""
    return [job for job in slurm.jobs(folder) if job["rule"] == rule and job["state"] == "RUNNING"]


def ended(process, folder, seconds=600):
    """Wait for it; what was on the screen."""
    status = process.wait(timeout=seconds)
    screen = (folder / "screen").read_text()
    assert status == 0, screen[-6000:]
    return screen


def test_a_cancelled_job_is_tried_again(slurm, folder, labels):
    process = slurm.start(folder, *IN_SHARES)
    job = wait_for(lambda: running(slurm, folder, "label_share"))[0]
    slurm.ask("scancel", job["id"])
    screen = ended(process, folder)
    assert "SLURM status is: 'CANCELLED'" in screen
    assert (folder / LABELS).read_bytes() == labels


def test_a_controller_that_is_away_for_a_while_is_waited_for(slurm, folder, labels):
    process = slurm.start(folder, *IN_SHARES)
    wait_for(lambda: running(slurm, folder, "sample_configurations"))
    slurm.script("kill", "slurmctld")
    # Snakemake asks for the job's state, more than once, and gets no answer.
    time.sleep(40)
    assert process.poll() is None
    slurm.script("start")
    ended(process, folder)
    assert (folder / LABELS).read_bytes() == labels


def test_jobs_of_a_lost_node_run_on_another(slurm, folder, labels):
    process = slurm.start(folder, *IN_SHARES)
    job = wait_for(lambda: running(slurm, folder, "label_share"))[0]
    slurm.script("kill", f"slurmd-{job['node']}")
    for other in slurm.jobs(folder):
        if other["node"] == job["node"] and other["state"] == "RUNNING":
            for pid in set().union(*processes_of(other["id"])):
                os.kill(pid, signal.SIGKILL)
    ended(process, folder)
    assert (folder / LABELS).read_bytes() == labels
    nodes = {found["node"] for found in slurm.jobs(folder) if found["rule"] == "label_configurations"}
    assert job["node"] not in nodes


def test_a_login_node_that_crashes_is_no_loss(slurm, folder, labels):
    process = slurm.start(folder, *IN_SHARES)
    wait_for(lambda: running(slurm, folder, "label_share"))
    process.kill()
    process.wait()
    command = (*IN_SHARES, "--rerun-incomplete")
    status, screen = slurm.snakemake(folder, *command)
    assert status == 1
    assert "--unlock" in screen
    assert slurm.snakemake(folder, *command, "--unlock")[0] == 0
    status, screen = slurm.snakemake(folder, *command)
    if status:
        # Jobs of before still run, and the same ones are not started beside them.
        assert "of an earlier start still run" in screen
        wait_for(lambda: not slurm.ask("squeue", "--noheader", "--me").strip())
        slurm.snakemake(folder, *command, "--unlock")
        status, screen = slurm.snakemake(folder, *command)
    assert status == 0, screen[-6000:]
    assert (folder / LABELS).read_bytes() == labels


def test_a_training_that_is_out_of_time_goes_on_in_the_next_job(slurm, folder):
    training = {"max_seconds": 100, "student": {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1}}
    sampling = SMALL["student"]["sampling"] | {"molecules": 12, "configurations": 60, "max_atoms": 8}
    student = {"checkpoint": None, "sampling": sampling, "training": training}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"run": "tiny", "student": student}))
    trained = "results/tiny/student/student.safetensors"
    limit = ("--set-resources", "train_student:runtime=2 * attempt")
    status, screen = slurm.snakemake(folder, trained, "--configfile", "tiny.yaml", *limit, timeout=1200)
    assert status == 0, screen[-6000:]
    states = [(job["state"], job["minutes"]) for job in slurm.jobs(folder) if job["rule"] == "train_student"]
    assert [state for state, _ in states][-1] == "COMPLETED"
    assert len(states) > 1, states
    assert "paused at step" in screen
    record = json.loads((folder / "results/tiny/student/training.json").read_text())
    record = record["records"][0] if "records" in record else record[0]
    seconds = [point["seconds"] for point in record["learning_curve"]]
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 100, "the budget of the whole training, over its jobs"
    steps = [point["step"] for point in record["learning_curve"]]
    assert steps == sorted(set(steps)), "no step is trained twice"
