"""The command line as a whole; its stages are tested with what they do."""

import os
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


def test_a_stage_prints_where_the_locale_knows_ascii_alone():
    code = (
        "import sys, types; from mlff_distiller import cli; module = types.ModuleType('mlff_distiller.shown'); "
        "module.add_arguments = lambda parser: None; module.run = lambda args: print('3 \\u00c5') or 0; "
        "sys.modules['mlff_distiller.shown'] = module; cli.STAGES['shown'] = ('shown', 'prints'); "
        "sys.exit(cli.main(['shown']))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | plain, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3 \\xc5\n"), done.stderr
