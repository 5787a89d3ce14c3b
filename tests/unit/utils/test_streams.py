"""A stage whose output nobody reads any more."""

import subprocess
import sys

STAGE = """
import sys, time
from pathlib import Path
from mlff_distiller.utils.streams import GoesOn

sys.stdout, sys.stderr = GoesOn(sys.stdout), GoesOn(sys.stderr)
print("begun", flush=True)
sys.stdin.read()
for line in range(1000):
    print("x" * 1000)
print("x", file=sys.stderr, flush=True)
Path(sys.argv[1]).write_text("saved")
sys.exit(75)
"""


def test_a_stage_goes_on_where_the_reader_of_its_output_has_ended(tmp_path):
    """As with a `tee` that the batch system ended first: the state is saved, and the exit status is the stage's."""
    pipe = subprocess.PIPE
    stage = subprocess.Popen(
        [sys.executable, "-c", STAGE, str(tmp_path / "state")], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    assert stage.stdout.readline() == "begun\n"
    stage.stdout.close()
    stage.stderr.close()
    stage.stdin.close()
    assert stage.wait(60) == 75
    assert (tmp_path / "state").read_text() == "saved"
