"""The conda environments under ``snakemake --use-conda``, with a stand-in for conda that keeps its rules."""

import json
import os
import re
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
    # Of a clone whose path holds a blank.
    tmp_path = tmp_path / "a clone"
    tmp_path.mkdir()
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
    # What an interruption left half-made is noticed, and made anew.
    python = Path(seen["prefix"]) / "bin/python"
    python.unlink()
    Path(f"{seen['prefix']}.env_setup_done").unlink()
    mended = snakemake(tmp_path, "--forceall")
    assert mended.returncode == 0, mended.stderr
    assert "Creating conda environment" in mended.stderr
    assert python.exists()


def test_channels_that_the_newest_conda_does_not_know_are_refused(tmp_path):
    """So that no environment names one: `nodefaults` was a word for none until conda 26.5."""
    old = (pins.REPOSITORY / "envs" / "report.yaml").read_text()
    (tmp_path / "old.yaml").write_text(old.replace("  - conda-forge\n", "  - conda-forge\n  - nodefaults\n"))
    write_workflow(tmp_path, tmp_path / "old.yaml")
    done = snakemake(tmp_path)
    assert done.returncode != 0
    assert "UnavailableInvalidChannel" in done.stderr


def test_editing_one_environment_reruns_its_stages_alone(fresh):
    environment = os.environ | {"PATH": f"{STANDIN}:{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def call(*arguments):
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--use-conda", "preflight", *arguments]
        done = subprocess.run(command, cwd=fresh.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    for name in ("machine", "inputs", "teacher", "torch_cluster"):
        path = fresh.folder / f"results/default/preflight/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    call("--touch", "--forceall")
    assert "check_" not in call("--dry-run")
    fresh.edit("envs/teacher.yaml", "  - pip:\n", "  # another comment changes it, too\n  - pip:\n")
    planned = call("--dry-run")
    assert "rule check_teacher:" in planned
    assert "rule check_machine:" not in planned
    assert "rule check_inputs:" not in planned


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


def test_rules_that_ask_the_teacher_do_so_in_the_teachers_environment():
    """Which `teacher.environment` may name; a rule that named a file would miss the packages of another teacher."""
    asking = 0
    for file in (pins.REPOSITORY / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"\n *rule ", file.read_text())[1:]:
            if re.search(r"settings\((LABELING|SAMPLING|\{\"teacher\": config\[\"teacher\"\])", rule):
                asking += 1
                assert re.search(r"conda:\n +TEACHER_ENVIRONMENT\n", rule), (file.name, rule.partition(":")[0])
    assert asking >= 8
