"""The workflow on a real Slurm of two virtual nodes on this machine (start_slurm.sh)."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlff_distiller.utils.files import exclusive
from tests.workflow.conftest import ROOT, copy_workflow
from tests.workflow.test_cluster_plan import TIMED
from tests.workflow.test_failures import SNAKEFILE
from tests.workflow.test_shares import SMALL
from tests.workflow.test_smoke import TINY as SMALLEST

SCRIPT = Path(__file__).with_name("start_slurm.sh")
#: Slurm's daemons lie where only root looks.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif("TEST_SLURM" not in os.environ, reason="installs and starts Slurm: `make test-slurm`, as root"),
]
CORES = os.cpu_count()
TINY = {
    **SMALL,
    "torch_cluster": {"mode": "off"},
    "molecules": {"systems": ["water"]},
    "accuracy": {"visited_frames": 0},
    "acceptance": SMALLEST["acceptance"],
    "benchmark": {"warmup": 1, "runs": 10, "replicates": 2, "threads": 1, "scaling": {"variants": []}},
    "md": {"systems": [], "timestep": {"variants": []}, "long": {"variants": []}},
    "report": {"figures": ["ladder"]},
}


@pytest.fixture
def slurm(tmp_path_factory):
    """The cluster, for one test at a time."""
    shared = Path("/tmp/mlff_slurm_test")
    with exclusive(shared, "another test has the cluster; waiting for it"):
        environment = os.environ | {"SLURM_TEST_DIR": str(shared / "cluster"), "PATH": PATH}
        subprocess.run([SCRIPT, "start"], env=environment, check=True, timeout=100)
        yield environment
        subprocess.run([SCRIPT, "stop"], env=environment, check=True, timeout=100)
        shutil.rmtree(shared / "cluster")


def command_of(*arguments):
    """Snakemake with the project's profile for Slurm, made to fit the nodes."""
    command = [sys.executable, "-m", "snakemake", *arguments, "--workflow-profile", "profiles/slurm"]
    command += ["--cores", str(CORES), "--slurm-status-command", "squeue", "--resources", "mem_mb=5800", "runtime=110"]
    command += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]
    threads = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())["set-threads"]
    return [*command, "--set-threads", *(f"{rule}={min(CORES, number)}" for rule, number in threads.items())]


def snakemake(folder, environment, *arguments, timeout=900):
    """Run it in ``folder``; the outcome and its text."""
    done = subprocess.run(
        command_of(*arguments), cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )
    return done, done.stdout + done.stderr


def jobs_of(environment):
    """What Slurm remembers of each job: rule, node, start, end, cores."""
    text = subprocess.check_output(["scontrol", "show", "jobs", "--oneliner"], env=environment, text=True)
    jobs = []
    for line in text.splitlines():
        found = dict(word.split("=", 1) for word in line.split() if "=" in word)
        rule = re.match(r"rule_(.*?)_wildcards_", found["Comment"])
        jobs.append(
            {
                "rule": rule[1] if rule else found["Comment"],
                "node": found["NodeList"],
                "start": found["StartTime"],
                "end": found["EndTime"],
                "cores": int(found["NumCPUs"]),
            }
        )
    return jobs


def test_a_failing_job_is_on_the_screen_and_tried_again_with_more_memory(slurm, tmp_path):
    (tmp_path / "Snakefile").write_text(
        SNAKEFILE.replace("    shell", "    resources: mem_mb=lambda w, attempt: 300 * attempt\n    shell")
    )
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    done, screen = snakemake(tmp_path, slurm, "--retries", "1", timeout=300)
    assert done.returncode == 1, screen
    for text in (
        "Error in rule broken:",
        "logs/broken.log",
        "\nthe reason stands here\n",
        "mem_mb=300,",
        "mem_mb=600,",
    ):
        assert text in screen, screen


def test_labels_of_jobs_on_several_nodes_are_those_of_one(slurm, tmp_path):
    folder = copy_workflow(tmp_path).folder
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    labels = "results/tiny/dataset/labels.h5"
    done, screen = snakemake(folder, slurm, labels, "--configfile", "tiny.yaml", "--set-scatter", "labels=3")
    assert done.returncode == 0, screen[-6000:]
    assert [job["rule"] for job in jobs_of(slurm)].count("label_share") == 3
    shared = (folder / labels).read_bytes()
    here = [sys.executable, "-m", "snakemake", labels, "-c2", "--configfile", "tiny.yaml"]
    shutil.rmtree(folder / "results/tiny/dataset")
    done = subprocess.run(here, cwd=folder, env=slurm, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    assert (folder / labels).read_bytes() == shared


def test_the_whole_chain_ends_in_a_report_and_timings_have_a_node_alone(slurm, tmp_path):
    folder = copy_workflow(tmp_path).folder
    default = yaml.safe_load((folder / "config/config.yaml").read_text())
    wanted = TINY | {"variants": {name: None for name in default["variants"] if name not in ("eager", "vesin")}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(wanted))
    done, screen = snakemake(folder, slurm, "report", "--configfile", "tiny.yaml")
    assert done.returncode == 0, screen[-6000:]

    jobs = jobs_of(slurm)
    timings = [job for job in jobs if job["rule"] in TIMED]
    assert {job["rule"] for job in timings} == TIMED - {"measure_scaling", "measure_engine"}
    for timing in timings:
        assert timing["cores"] == CORES
        beside = [
            job
            for job in jobs
            if job is not timing
            and job["node"] == timing["node"]
            and max(job["start"], timing["start"]) < min(job["end"], timing["end"])
        ]
        assert not beside, (timing, beside)

    document = json.loads((folder / "results/tiny/report/phase3_results.json").read_text())
    assert set(document["provenance"]["nodes"]) <= {"c1", "c2"}
    assert document["provenance"]["batch_systems"] == ["slurm"]
    timed = [entry for entry in document["records"] if entry["kind"] == "benchmark"]
    assert timed
    assert all(entry["nodes"] and entry["others_cores"] is not None for entry in timed)
    page = (folder / "results/tiny/report/PHASE3_REPORT.md").read_text()
    assert re.search(r"; nodes? c[12](, c2)? \(slurm\)", page)
    # What ran there need not run here again.
    here = [sys.executable, "-m", "snakemake", "report", "-c2", "--configfile", "tiny.yaml", "--dry-run"]
    again = subprocess.run(here, cwd=folder, env=slurm, capture_output=True, text=True, timeout=100)
    assert "Nothing to be done" in again.stdout + again.stderr
