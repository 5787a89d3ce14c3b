"""A real Slurm of virtual nodes on this machine (start_slurm.sh), and Snakemake on it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlff_distiller.utils.files import exclusive
from tests.workflow.conftest import ROOT

SCRIPT = Path(__file__).with_name("start_slurm.sh")
#: Slurm's daemons lie where only root looks.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
CORES = os.cpu_count()
#: What `make test-slurm` sets, and `make test-slurm FAULTS=1`.
WANTED = os.environ.get("TEST_SLURM", "")
on_slurm = pytest.mark.skipif(not WANTED, reason="installs and starts Slurm: `make test-slurm`, as root")
with_faults = pytest.mark.skipif(
    WANTED != "faults", reason="takes a quarter of an hour: `make test-slurm FAULTS=1`, as root"
)


class Cluster:
    """The daemons, all state in ``folder``; a context that starts and ends them."""

    def __init__(self, folder: Path, **settings: str):
        self.folder = folder
        self.environment = os.environ | {"SLURM_TEST_DIR": str(folder), "PATH": PATH} | settings

    def __enter__(self):
        self.script("start")
        return self

    def __exit__(self, *_):
        self.script("stop")
        shutil.rmtree(self.folder)

    def script(self, *words: str) -> None:
        subprocess.run([SCRIPT, *words], env=self.environment, check=True, timeout=100)

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        return subprocess.check_output(command, env=self.environment, text=True, timeout=100)

    def jobs(self, folder: Path) -> list[dict]:
        """What Slurm remembers of each job of ``folder``: id, rule (or group), state, node, submit, start, end, cores, minutes
        that it may take."""
        found = []
        for line in self.ask("scontrol", "show", "jobs", "--oneliner").splitlines():
            told = dict(word.split("=", 1) for word in line.split() if "=" in word)
            if told.get("WorkDir") != str(folder):
                continue
            rule = re.match(r"rule_(.*?)(?:_wildcards_|$)", told["Comment"])
            found.append(
                {
                    "id": told["JobId"],
                    "rule": rule[1] if rule else told["Comment"],
                    "state": told["JobState"],
                    "node": told["NodeList"],
                    "submit": told["SubmitTime"],
                    "start": told["StartTime"],
                    "end": told["EndTime"],
                    "cores": int(told["NumCPUs"]),
                    "minutes": sum(60**i * int(n) for i, n in enumerate(reversed(told["TimeLimit"].split(":")[:2]))),
                }
            )
        return found

    def command(self, *arguments: str) -> list[str]:
        """Snakemake with the project's profile for Slurm, made to fit the nodes."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--workflow-profile", "profiles/slurm"]
        command += [
            "--cores",
            str(CORES),
            "--slurm-status-command",
            "squeue",
            "--resources",
            "mem_mb=5800",
            "runtime=110",
        ]
        command += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]
        threads = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())["set-threads"]
        return [*command, "--set-threads", *(f"{rule}={min(CORES, number)}" for rule, number in threads.items())]

    def snakemake(self, folder: Path, *arguments: str, timeout: float = 900) -> tuple[int, str]:
        """Run it in ``folder``; its exit status, and what is on the screen."""
        done = subprocess.run(
            self.command(*arguments), cwd=folder, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        return done.returncode, done.stdout + done.stderr

    def start(self, folder: Path, *arguments: str) -> subprocess.Popen:
        """Start it in ``folder``; the screen goes into the file ``screen`` there, which what was on it before keeps."""
        with (folder / "screen").open("a") as screen:
            return subprocess.Popen(
                self.command(*arguments), cwd=folder, env=self.environment, stdout=screen, stderr=subprocess.STDOUT
            )


def jobs_beside(one: dict, jobs: list[dict]) -> list[dict]:
    """Those of ``jobs`` that ran on the node of ``one`` meanwhile; one may start in the second in which another ends."""
    return [
        job
        for job in jobs
        if job is not one
        and job["node"] == one["node"]
        and max(job["start"], one["start"]) < min(job["end"], one["end"])
    ]


def processes_of(job: str) -> tuple[set[int], set[int]]:
    """Numbers of the processes of a job: Slurm's own for each of its steps, and all below them."""
    parents, steps = {}, set()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if path.joinpath("cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode()):
                steps.add(int(path.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = set(steps)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return steps, found - steps


@pytest.fixture(scope="session")
def _cluster():
    """For the tests of one process at a time."""
    shared = Path("/tmp/mlff_slurm_test")
    with (
        exclusive(shared, "another test has the cluster; waiting for it"),
        Cluster(shared / "cluster", NODE_TIMEOUT="30") as cluster,
    ):
        yield cluster


@pytest.fixture
def slurm(_cluster):
    """The cluster with all of its daemons."""
    _cluster.script("start")
    return _cluster
