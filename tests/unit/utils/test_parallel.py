"""Workers of a parallel stage end with it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlff_distiller.sources import ROOT
from mlff_distiller.utils.files import CHECKOUT

#: Two workers with tasks that take a minute; each writes its number first.
STAGE = """
import sys
from tests.unit.utils.test_parallel import tell_and_sleep
from mlff_distiller.utils.parallel import run_in_parts
if __name__ == "__main__":
    run_in_parts(tell_and_sleep, [sys.argv[1]] * 4, sys.argv[1] + "/parts", "key", 2, "sleeping")
"""


def tell_and_sleep(folder):
    with open(f"{folder}/{os.getpid()}.pid", "w", encoding="utf-8"):
        pass
    time.sleep(60)
    return {"slept": np.ones(1)}


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_stage_that_is_killed(tmp_path, how):
    program = tmp_path / "stage.py"
    program.write_text(STAGE, encoding="utf-8")
    paths = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT.parent, CHECKOUT)))}
    command = [sys.executable, str(program), str(tmp_path)]
    stage = subprocess.Popen(command, env=os.environ | paths, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    stage.send_signal(how)
    stage.wait()
    wait_for(lambda: not any(map(runs, workers)), 5.0)


def runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # Where nobody waits for it, a dead process keeps its number.
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return not sys.platform.startswith("linux")
    return status.rpartition(")")[2].split()[0] != "Z"
