"""An engine that is not installed: its tests are skipped, and fail where all engines are asked for."""

import subprocess
import sys

import pytest

from mlff_distiller.sources import ROOT
from tests.engines import needed

CHECKOUT = ROOT.parents[1]
TESTS = """\
from tests.engines import needed

needed.{what}("no_such_engine", "openmm")


def test_it():
    pass
"""


@pytest.mark.parametrize("what", ["module", "program"])
@pytest.mark.parametrize("required", [False, True])
def test_a_missing_engine(tmp_path, monkeypatch, what, required):
    (tmp_path / "test_engine.py").write_text(TESTS.format(what=what))
    monkeypatch.delenv(needed.ALL, raising=False)
    if required:
        monkeypatch.setenv(needed.ALL, "1")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT.parent}:{CHECKOUT}")
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert 'OpenMM is not installed: pip install ".[openmm]"' in done.stdout
    # pytest's own: 2 for an error while it gathers tests, 5 for no test.
    assert done.returncode == (2 if required else 5), done.stdout


def test_what_is_there_is_given():
    assert needed.module("json", "openmm").loads("1") == 1
    assert needed.program("python", "openmm").endswith("python")
