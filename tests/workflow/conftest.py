"""A copy of the workflow in which Snakemake can be asked what it would do."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PARTS = ("Snakefile", "config", "envs", "profiles", "resources", "workflow")


class Checkout:
    """A working copy, and Snakemake in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def snakemake(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
        """Run Snakemake here; the outcome with its text, whatever the exit status."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=timeout)

    def plan(self, *arguments: str) -> Counter:
        """How many jobs of each rule a dry run would start."""
        done = self.snakemake(*arguments, "--dry-run", "--quiet", "rules")
        text = done.stdout + done.stderr
        assert done.returncode == 0, text
        table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal ", text, re.DOTALL)
        if table is None:
            assert "Nothing to be done" in text, text
            return Counter()
        return Counter({name: int(count) for name, count in (line.split() for line in table[1].splitlines())})

    def reasons(self, *arguments: str) -> str:
        """The text of a dry run with the reason of every job."""
        done = self.snakemake(*arguments, "--dry-run", "--quiet", "host")
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in a file; it must be there."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{old!r} is not in {path}"
        file.write_text(text.replace(old, new))

    def change_code(self, path: str) -> None:
        """Add a statement to a module of the package."""
        with (self.folder / "workflow/mlff_distiller" / path).open("a") as stream:
            stream.write("A_CHANGE = True\n")


def copy_workflow(folder: Path) -> Checkout:
    """The workflow's files, without results."""
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    return Checkout(folder)


@pytest.fixture
def fresh(tmp_path):
    """Nothing has run yet."""
    return copy_workflow(tmp_path)


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    """Every output is there and marked as made by these rules with these parameters."""
    checkout = copy_workflow(tmp_path_factory.mktemp("finished"))
    summary = checkout.snakemake("--summary")
    assert summary.returncode == 0, summary.stderr
    for line in summary.stdout.splitlines():
        name = line.split("\t")[0]
        if name.startswith("results/"):
            path = checkout.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    touched = checkout.snakemake("--touch", "--forceall")
    assert touched.returncode == 0, touched.stderr
    return checkout


@pytest.fixture
def finished(_finished, tmp_path):
    """A copy of the finished run, to be changed."""
    folder = tmp_path / "checkout"
    shutil.copytree(_finished.folder, folder, symlinks=True)
    return Checkout(folder)
