"""The workflow on a real Slurm of two virtual nodes, in the few minutes of a continuous integration."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.cluster.conftest import CORES, jobs_beside, on_slurm
from tests.workflow.conftest import ROOT, copy_workflow
from tests.workflow.test_cluster_plan import TIMED
from tests.workflow.test_failures import SNAKEFILE
from tests.workflow.test_shares import SMALL
from tests.workflow.test_smoke import TINY as SMALLEST

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500), on_slurm]
#: Each job costs as much as two starts of Snakemake, whatever it does: few of each kind.
TINY = {
    **SMALL,
    "torch_cluster": {"mode": "off"},
    "molecules": {"systems": ["water"]},
    "accuracy": {"visited_frames": 0},
    "acceptance": SMALLEST["acceptance"],
    "benchmark": {"warmup": 1, "runs": 5, "replicates": 1, "threads": 1, "scaling": {"variants": []}},
    "md": {"systems": [], "timestep": {"variants": []}, "long": {"variants": []}},
    "report": {"figures": ["ladder"]},
    "deploy": {"engines": []},
}
#: Beside its two Snakemakes it holds 600 MB, and long enough to be seen.
GREEDY = """
rule greedy:
    output: "greedy"
    resources: mem_mb=lambda w, attempt: 500 + 1000 * (attempt - 1)
    shell: "python -c 'import time; held = bytes([1]) * 600_000_000; time.sleep(5)' && touch {output}"
"""


def test_a_job_that_fails_is_on_the_screen_and_one_that_needs_more_memory_gets_it(slurm, tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE + GREEDY)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    status, screen = slurm.snakemake(tmp_path, "broken", "greedy", "--retries", "1", timeout=300)
    assert status == 1, screen
    for text in ("Error in rule broken:", "logs/broken.log", "\nthe reason stands here\n", "Error in rule greedy:"):
        assert text in screen, screen
    assert "exceeded memory limit" in screen, screen
    assert (tmp_path / "greedy").exists(), screen
    assert sorted(job["state"] for job in slurm.jobs(tmp_path)) == ["COMPLETED", "FAILED", "FAILED", "FAILED"]


def test_the_whole_chain_ends_in_a_report_and_timings_have_a_node_alone(slurm, tmp_path):
    folder = copy_workflow(tmp_path).folder
    default = yaml.safe_load((folder / "config/config.yaml").read_text())
    wanted = TINY | {"variants": {name: None for name in default["variants"] if name not in ("eager", "vesin")}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(wanted))
    status, screen = slurm.snakemake(folder, "report", "--configfile", "tiny.yaml", "--set-scatter", "labels=2")
    assert status == 0, screen[-6000:]

    jobs = slurm.jobs(folder)
    # The longest time that the partition allows, 110 minutes, is that of each job, not of all at once.
    first_end = min(job["end"] for job in jobs)
    assert sum(job["minutes"] for job in jobs if job["submit"] < first_end) > 110
    assert "copy_student" not in {job["rule"] for job in jobs}
    assert [job["rule"] for job in jobs].count("label_share") == 2
    timings = [job for job in jobs if job["rule"] in TIMED]
    assert {job["rule"] for job in timings} == TIMED - {"measure_scaling", "measure_engine"}
    for timing in timings:
        assert timing["cores"] == CORES
        beside = jobs_beside(timing, jobs)
        assert not beside, (timing, beside)

    document = json.loads((folder / "results/tiny/report/phase3_results.json").read_text())
    assert set(document["provenance"]["nodes"]) <= {"c1", "c2"}
    assert document["provenance"]["batch_systems"] == ["slurm"]
    timed = [entry for entry in document["records"] if entry["kind"] == "benchmark"]
    assert timed
    assert all(entry["nodes"] and entry["others_cores"] is not None for entry in timed)
    page = (folder / "results/tiny/report/PHASE3_REPORT.md").read_text()
    assert re.search(r"; nodes? c[12](, c2)? \(slurm\)", page)

    # What ran there need not run here again; and labels of several nodes are those of one.
    def here(*arguments):
        command = [sys.executable, "-m", "snakemake", *arguments, "-c2", "--configfile", "tiny.yaml"]
        done = subprocess.run(command, cwd=folder, env=slurm.environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-6000:]
        return done.stdout + done.stderr

    assert "Nothing to be done" in here("report", "--dry-run")
    labels = folder / "results/tiny/dataset/labels.h5"
    shared = labels.read_bytes()
    shutil.rmtree(labels.parent)
    here(str(labels.relative_to(folder)))
    assert labels.read_bytes() == shared
