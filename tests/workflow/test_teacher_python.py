"""The teacher's jobs run in an environment of their own where `teacher.python` names one."""

import sys
import venv

import yaml


def configured(checkout, python):
    (checkout.folder / "mine.yaml").write_text(yaml.safe_dump({"teacher": {"python": python}}))
    return checkout.snakemake("preflight", "--configfile", "mine.yaml", timeout=300)


def test_its_python_runs_the_teachers_jobs_and_no_others(fresh):
    mine = fresh.folder / "a {strange} place" / "python"
    mine.parent.mkdir()
    mine.write_text(f'#!/bin/sh\necho "$3" >> {fresh.folder}/used\nexec {sys.executable} "$@"\n')
    mine.chmod(0o755)
    done = configured(fresh, "a {strange} place/python")
    assert done.returncode == 0, done.stderr[-3000:]
    used = (fresh.folder / "used").read_text().split()
    # Asked first for the packages that it has.
    assert used == ["ase", "check-teacher"]


def test_what_cannot_run_them_is_refused_before_any_job(fresh):
    bare = fresh.folder / "bare"
    venv.create(bare, with_pip=False)
    (fresh.folder / "notes.txt").write_text("none")
    for python, words in {
        "bare/bin/python": "lacks ase h5py numpy pydantic rdkit rich pyyaml; `.venv/bin/uv pip install --python bare/bin/python",
        ".venv-chgnet/bin/python": "no such file; `make chgnet` makes it",
        "mine/bin/python": "mine/bin/python: no such file",
        "notes.txt": "notes.txt: not a program; name the Python of a virtual environment",
        "/bin/true": "/bin/true: does not answer as Python does",
    }.items():
        done = configured(fresh, python)
        assert done.returncode != 0
        assert f"teacher.python: {python}" in done.stdout + done.stderr
        assert words in done.stdout + done.stderr
    assert not (fresh.folder / "results").exists()
