"""The default configuration on a real Slurm of one virtual node, several times, and once without Slurm: whether every timing
had its node to itself, and whether the figures are the same. As root, after `start_slurm.sh install`; a quarter of an hour each:

    python -m tests.cluster.default_runs --runs 3 --folder /tmp/default_runs

What has ended is not run again. Nothing else should run on the machine meanwhile. In the end `FOLDER/comparison` holds the
report of all runs side by side.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from mlff_distiller.decisions.comparison import changes, load_comparable
from tests.cluster.conftest import Cluster, jobs_beside
from tests.workflow.conftest import copy_workflow
from tests.workflow.test_cluster_plan import TIMED

RESULTS = "results/default"


def on_slurm(folder: Path) -> None:
    """Run there until the report; what Slurm said of the jobs goes into ``jobs.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_workflow(folder)
    jobs: dict[str, dict] = {}
    with Cluster(folder.parent / "cluster", NODES="1", NODE_MEMORY="16000") as cluster:
        process = cluster.start(folder, "report")
        while process.poll() is None:
            time.sleep(10)
            jobs |= {job["id"]: job for job in cluster.jobs(folder)}
        jobs |= {job["id"]: job for job in cluster.jobs(folder)}
    if process.returncode:
        sys.exit(f"{folder}/screen: Snakemake ended with {process.returncode}")
    (folder / "jobs.json").write_text(json.dumps(list(jobs.values()), indent=1))


def without_slurm(folder: Path) -> None:
    """Run there on this machine until the report."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "screen").open("w") as screen:
        command = [sys.executable, "-m", "snakemake", "report", "--cores", "all"]
        subprocess.run(command, cwd=copy_workflow(folder).folder, check=True, stdout=screen, stderr=subprocess.STDOUT)


def results(folder: Path) -> Path:
    """The merged results of the run in ``folder``, under a name that tells it from the others."""
    link = folder / folder.name
    if not link.is_symlink():
        link.symlink_to(RESULTS)
    return link


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how many on Slurm")
    parser.add_argument("--folder", type=Path, required=True, help="where they go")
    args = parser.parse_args()
    root = args.folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    folders = [root / f"slurm_{k}" for k in range(1, args.runs + 1)]
    for folder in folders:
        begun = time.monotonic()
        if not (folder / "jobs.json").exists():
            on_slurm(folder)
        jobs = json.loads((folder / "jobs.json").read_text())
        timings = [job for job in jobs if job["rule"] in TIMED]
        disturbed = [job["id"] for job in timings if jobs_beside(job, jobs)]
        seconds = time.monotonic() - begun
        print(f"{folder.name}: {len(jobs)} jobs in {seconds:.0f} s, {len(timings)} of them timings or compilations")
        print(f"  of these beside other jobs: {len(disturbed)} {disturbed or ''}", flush=True)
    local = root / "local"
    if not (local / RESULTS).is_dir():
        without_slurm(local)
    members = load_comparable([results(folder) for folder in (local, *folders)])
    for member in members:
        alone = [entry["alone"] for entry in member.run.of("benchmark") if entry.get("alone") is not None]
        print(f"{member.label}: {alone.count(False)} of {len(alone)} timings beside work of others")
    found = changes(members)
    print(f"against {members[0].label}, a variant each: {dict(Counter(one.verdict for one in found))}")
    for one in found:
        print(f"  {one.label:10s} {one.task:15s} {one.variant:28s} {one.time} {one.verdict}")
    command = [
        sys.executable,
        "-m",
        "mlff_distiller",
        "compare",
        *(str(results(folder)) for folder in (local, *folders)),
    ]
    subprocess.run([*command, "--output-dir", str(root / "comparison")], check=True)


if __name__ == "__main__":
    main()
