"""A job that fails says so on the screen: its rule, its log file and what stands in it."""

import shutil
import subprocess
import sys

import pytest

from tests.workflow.conftest import ROOT
from tests.workflow.test_cluster_plan import needs_plugin

SNAKEFILE = """
rule broken:
    output: "made"
    log: "logs/broken.log"
    shell: "echo the reason stands here > {log}; exit 3"
"""


def test_a_failing_job_is_on_the_screen_with_its_log(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-c1"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    screen = done.stdout + done.stderr
    assert done.returncode == 1, screen
    for text in ("Error in rule broken:", "log: logs/broken.log", "\nthe reason stands here\n"):
        assert text in screen


def test_a_stage_that_fails_is_on_the_screen_with_its_reason(fresh):
    (fresh.folder / "resources/molecules/water.extxyz").write_text("3\n\nO 0 0 0\n")
    done = fresh.snakemake("preflight", "--until", "check_inputs")
    screen = done.stdout + done.stderr
    assert done.returncode == 1, screen
    for text in ("Error in rule check_inputs:", "logs/default/check_inputs.log", "water.extxyz: "):
        assert text in screen


@pytest.mark.parametrize("going", [(), ("--keep-going",)], ids=["", "where a run keeps going, as on Slurm"])
def test_a_teacher_that_is_refused_labels_nothing(fresh, going):
    (fresh.folder / "wrong.py").write_text(
        "from ase.calculators.emt import EMT\n\n\nclass Wrong(EMT):\n    def calculate(self, *given):\n"
        "        super().calculate(*given)\n        self.results['forces'] = 2 * self.results['forces']\n"
    )
    (fresh.folder / "wrong.yaml").write_text("teacher: {calculator: 'wrong:Wrong'}\n")
    labels = "results/default/dataset/labels.h5"
    done = fresh.snakemake("distill", labels, *going, "--configfile", "wrong.yaml")
    screen = done.stdout + done.stderr
    assert done.returncode == 1, screen
    assert "Error in rule check_teacher:" in screen
    assert "not the gradient of" in screen
    assert not (fresh.folder / labels).exists()
    if going:
        assert "the teacher was refused (logs/default/check_teacher.log)" in screen


@needs_plugin
def test_without_a_number_of_cores_a_run_says_which_one_to_give(fresh):
    command = [sys.executable, "-m", "snakemake", "preflight", "--executor", "slurm", "--jobs", "4"]
    command += ["--workflow-profile", "none"]
    done = subprocess.run(command, cwd=fresh.folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "Say --cores N; on a cluster" in done.stdout + done.stderr


@needs_plugin
def test_timings_are_put_into_no_group(fresh):
    grouped = ("--groups", "benchmark_variant=timing", "--group-components", "timing=100")
    done = fresh.snakemake("benchmark", "--executor", "slurm", "--jobs", "4", *grouped)
    assert done.returncode == 1
    assert "--groups benchmark_variant: what is timed is no job of a group" in done.stdout + done.stderr
    assert fresh.plan("report", "--groups", "plot_figure=figures")["plot_figure"] > 5


#: What Snakemake's scheduler has when it begins, in place of the work.
LOOK = """
from snakemake.cli import main
from snakemake.scheduling.job_scheduler import JobScheduler

def look(self):
    print("limit:", self.job_rate_limiter)
    print("asks by:", self._executor.check_active_jobs.__name__ if hasattr(self._executor, "check_active_jobs") else "nothing")
    return True

JobScheduler.schedule = look
main(["preflight", "--cores", "2", *{options}])
"""


def test_snakemake_sleeps_while_a_job_is_timed(fresh):
    """A limit of jobs a second would wake it up every second, more and more often: a quarter of a core after 100 jobs."""
    command = [sys.executable, "-c", LOOK.format(options=["--max-jobs-per-timespan", "100/1s"])]
    done = subprocess.run(command, cwd=fresh.folder, capture_output=True, text=True, timeout=100)
    assert "limit: None\n" in done.stdout, done.stdout + done.stderr


@needs_plugin
def test_on_slurm_a_limit_of_jobs_a_second_holds_and_a_controller_that_does_not_answer_is_asked_again(fresh):
    """Both are set on what Snakemake and its plugin have made, in their present versions."""
    options = [
        "--executor",
        "slurm",
        "--jobs",
        "4",
        "--slurm-status-command",
        "squeue",
        "--max-jobs-per-timespan",
        "100/1s",
    ]
    command = [sys.executable, "-c", LOOK.format(options=options)]
    done = subprocess.run(command, cwd=fresh.folder, capture_output=True, text=True, timeout=100)
    said = done.stdout + done.stderr
    assert "limit: None" not in said, said
    assert "limit: " in said, said
    assert "asks by: look_again\n" in said, said
