"""Many random kills on a real Slurm of virtual nodes, and whether a result was lost. As root, after `start_slurm.sh install`:

    python -m tests.cluster.random_kills --kills 100

Runs a small distillation over and over: samples, labels in three shares, and a training. At random times it kills the program of
a job, cancels a job, ends the controller (which comes back after some seconds), or kills Snakemake, as a crash of the login node
does; then it starts Snakemake again where that has ended, as a person would. A result counts as lost where a file that a finished
job made is gone or another one later, or where the labels of a run are not byte for byte those of one machine without a fault.
"""

import argparse
import base64
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from tests.cluster.conftest import Cluster, processes_of
from tests.workflow.conftest import copy_workflow
from tests.workflow.test_shares import SMALL

LABELS, STUDENT = "results/tiny/dataset/labels.h5", "results/tiny/student/student.safetensors"
TARGETS = (LABELS, STUDENT, "--configfile", "tiny.yaml")
SETTINGS = {
    "run": "tiny",
    "student": {
        "checkpoint": None,
        "sampling": SMALL["student"]["sampling"] | {"molecules": 12, "configurations": 60, "max_atoms": 8},
        "training": {
            "max_seconds": None,
            "n_steps": 300,
            "checkpoint_seconds": 5,
            "student": {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1},
        },
    },
}


class Lost(Exception):
    """A result that was there is not, or another one is."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finished(folder: Path) -> dict[Path, str]:
    """Digests of the files that Snakemake has noted as made; shares go when they are gathered."""
    notes = folder / ".snakemake"
    begun = {path.name for path in (notes / "incomplete").rglob("*") if path.is_file()}
    found = {}
    for note in (notes / "metadata").rglob("*"):
        if note.is_file() and note.name not in begun:
            path = folder / base64.b64decode(note.name).decode()
            if path.suffix != ".npz" and path.is_file():
                found[path] = digest(path)
    return found


class Run:
    """One distillation in ``folder``, with kills, until it ends."""

    def __init__(self, cluster: Cluster, folder: Path, chance: random.Random, kills: Counter, most: int, gap: float):
        self.cluster, self.folder, self.chance, self.kills, self.most, self.gap = (
            cluster,
            folder,
            chance,
            kills,
            most,
            gap,
        )
        self.made: dict[Path, str] = {}
        self.controller_back: float | None = None

    def check(self) -> None:
        """Nothing that was finished may be gone, or another file."""
        for path, before in self.made.items():
            if not path.is_file() or digest(path) != before:
                raise Lost(f"{path}: {'made again' if path.is_file() else 'gone'}")
        self.made |= finished(self.folder)

    def to_the_end(self) -> None:
        process, next_kill, starts = None, time.monotonic() + self.chance.uniform(2, self.gap), 0
        while True:
            if self.controller_back is not None and time.monotonic() > self.controller_back:
                self.cluster.script("start")
                self.controller_back = None
            if process is None:
                self.bring_back_the_controller()
                self.check()
                if starts:
                    subprocess.run(
                        self.cluster.command(*TARGETS, "--unlock"),
                        cwd=self.folder,
                        env=self.cluster.environment,
                        capture_output=True,
                    )
                    self.wait_for_jobs()
                starts += 1
                if starts > 60:
                    raise Lost("no end after 60 starts")
                process = self.cluster.start(self.folder, *TARGETS, "--set-scatter", "labels=3")
            if (status := process.poll()) is not None:
                process = None
                if status == 0:
                    self.check()
                    return
            elif time.monotonic() > next_kill and self.kills.total() < self.most:
                if self.kill(process):
                    process.poll()
                next_kill = time.monotonic() + self.chance.uniform(2, self.gap)
            time.sleep(0.5)

    def kill(self, process: subprocess.Popen) -> bool:
        """One kill of a random kind, if what it is for is there."""
        kind = self.chance.choice(["job", "job", "scancel", "controller", "login node"])
        if kind == "login node":
            process.kill()
            process.wait()
        elif kind == "controller":
            if self.controller_back is not None:
                return False
            # It saves its state. One that is killed forgets the jobs of its last seconds, gives their numbers to others, and
            # drains the nodes where it finds both: what to do then only the site's administrator knows.
            self.cluster.script("kill", "slurmctld", "TERM")
            self.controller_back = time.monotonic() + self.chance.uniform(1, 15)
        else:
            if self.controller_back is not None:
                return False
            jobs = [job["id"] for job in self.cluster.jobs(self.folder) if job["state"] == "RUNNING"]
            if not jobs:
                return False
            job = self.chance.choice(jobs)
            if kind == "scancel":
                self.cluster.ask("scancel", job)
            else:
                for pid in processes_of(job)[1]:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
        self.kills[kind] += 1
        print(f"{time.strftime('%H:%M:%S')} kill {self.kills.total()}: {kind}", flush=True)
        return True

    def bring_back_the_controller(self) -> None:
        if self.controller_back is not None:
            self.cluster.script("start")
            self.controller_back = None

    def wait_for_jobs(self) -> None:
        """As Snakemake asks for after a crash: jobs of before end first, or are cancelled."""
        if self.chance.random() < 0.5:
            self.cluster.ask("scancel", "--me")
        while self.cluster.ask("squeue", "--noheader", "--me").strip():
            time.sleep(1)


def without_a_fault(folder: Path) -> str:
    """Digest of the labels that one machine makes."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    command = [sys.executable, "-m", "snakemake", LABELS, "-c2", "--configfile", "tiny.yaml"]
    subprocess.run(command, cwd=copy_workflow(folder).folder, check=True, capture_output=True)
    return digest(folder / LABELS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="how many")
    parser.add_argument("--gap", type=float, default=20.0, help="the longest time between two kills, s")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no further run after so many")
    parser.add_argument("--seed", type=int, default=0, help="of the times and kinds of kills")
    args = parser.parse_args()
    chance, kills, runs, begun = random.Random(args.seed), Counter(), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="random_kills_") as scratch, Cluster(Path(scratch) / "cluster") as cluster:
        cluster.folder.parent.chmod(0o755)
        (Path(scratch) / "here").mkdir()
        expected = without_a_fault(Path(scratch) / "here")
        while kills.total() < args.kills and time.monotonic() - begun < 60 * args.minutes:
            folder = Path(scratch) / f"run_{runs}"
            folder.mkdir()
            copy_workflow(folder)
            (folder / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
            run = Run(cluster, folder, chance, kills, args.kills, args.gap)
            try:
                run.to_the_end()
                if digest(folder / LABELS) != expected:
                    raise Lost(f"{LABELS}: other labels than those of one machine")
            except Lost as lost:
                print((folder / "screen").read_text()[-4000:])
                sys.exit(f"after {kills.total()} kills {dict(kills)}: {lost}")
            runs += 1
            print(
                f"{time.strftime('%H:%M:%S')} run {runs} has ended, all results there; {kills.total()} kills",
                flush=True,
            )
            shutil.rmtree(folder)
    print(f"{kills.total()} kills {dict(kills)} in {runs} runs: no result lost")


if __name__ == "__main__":
    main()
