"""The conda environments under ``snakemake --use-conda``, with a stand-in for conda that keeps its rules."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlff_distiller.preflight import pins

STANDIN = Path(__file__).parents[1] / "standins" / "conda" / "bin"
#: A job that says where it runs and what it sees there.
SNAKEFILE = """
rule look_around:
    output: "seen.json"
    conda: "{environment}"
    shell: "python look.py > {{output}}"
"""
LOOK = """
import importlib.metadata as metadata, json, os, sys
import jinja2, markdown_it, matplotlib, pandas, rich, yaml
versions = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
print(json.dumps({"prefix": sys.prefix, "pythonpath": os.environ.get("PYTHONPATH"), "versions": versions}))
"""


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Snakemake in ``folder``, with the stand-in as the only conda and the checkout's package on PYTHONPATH."""
    environment = os.environ | {
        "PATH": f"{STANDIN}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(pins.REPOSITORY / "workflow"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        # uv's own cache stays the machine's: it holds what was downloaded before.
        "UV_CACHE_DIR": subprocess.check_output(
            [Path(sys.executable).with_name("uv"), "cache", "dir"], text=True
        ).strip(),
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--use-conda", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def write_workflow(folder: Path, environment: Path) -> None:
    (folder / "Snakefile").write_text(SNAKEFILE.format(environment=environment))
    (folder / "look.py").write_text(LOOK)


def test_job_runs_in_the_pinned_environment_alone(tmp_path):
    write_workflow(tmp_path, pins.REPOSITORY / "envs" / "report.yaml")
    first = snakemake(tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Creating conda environment" in first.stderr

    seen = json.loads((tmp_path / "seen.json").read_text())
    assert Path(seen["prefix"]).is_relative_to(tmp_path / ".snakemake" / "conda")
    assert not seen["pythonpath"], "Snakemake clears PYTHONPATH in conda jobs: rules must set it themselves"
    wanted = pins.closure(pins.parse_lock((pins.REPOSITORY / "envs" / "requirements.lock").read_text()), "report")
    assert {pin.name.replace("_", "-"): pin.version for pin in wanted if not pin.marker} == {
        name.replace("_", "-"): version for name, version in seen["versions"].items()
    }
    again = snakemake(tmp_path)
    assert "Nothing to be done" in again.stderr
    assert "Creating conda environment" not in again.stderr


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("jinja2==3.1.6", "hash"),
        ("-r requirements.lock", "requirements.lock"),
        (f"markupsafe==3.0.4 --hash=sha256:{0:064}", "Hash mismatch"),
    ],
)
def test_environment_that_is_not_hash_locked_is_refused(tmp_path, line, complaint):
    loose = tmp_path / "loose.yaml"
    loose.write_text(f"dependencies:\n  - python={pins.CONDA_PYTHON}\n  - pip\n  - pip:\n      - {line}\n")
    write_workflow(tmp_path, loose)
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert "Could not create conda environment" in done.stderr
    assert complaint in done.stderr
    assert not (tmp_path / "seen.json").exists()
