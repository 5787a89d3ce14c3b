"""The command line as a whole; its stages are tested with what they do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).parents[2] / "workflow"


@pytest.mark.parametrize("stage", ["compare", "compile"])
def test_without_the_environment_the_missing_package_and_the_way_out_are_named(stage):
    # -S: this Python without the packages that are installed in it.
    command = [sys.executable, "-S", "-m", "mlff_distiller", stage]
    done = subprocess.run(command, env={"PYTHONPATH": str(WORKFLOW)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search("the package '[a-z]+' is not installed", done.stderr)
    assert ". .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr
