"""Jobs beside one another spread over the GPUs of a machine."""

import os
import subprocess
import sys
from collections import Counter

import pytest
import torch

from mlff_distiller.utils import gpus, provenance

H200, OTHER = "NVIDIA H200", "NVIDIA T400"


def test_work_spreads_over_all_gpus_and_stays_where_it_was():
    work = [f"variant_{i} {system}" for i in range(20) for system in ("water", "caffeine", "cholesterol", "benzene")]
    first = [gpus.share(name, 4) for name in work]
    assert first == [gpus.share(name, 4) for name in work]
    counts = Counter(first)
    assert set(counts) == {0, 1, 2, 3}
    assert max(counts.values()) <= 2 * min(counts.values())


#: Takes a GPU of four, the second first; keeps it until it is told to end.
TAKES = """
import sys
from pathlib import Path
from mlff_distiller.utils.gpus import least_taken
print(least_taken(4, 1, Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def test_processes_at_the_same_time_have_a_gpu_each_while_there_are_any(tmp_path):
    processes = []

    def take():
        command = [sys.executable, "-c", TAKES, str(tmp_path)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return int(processes[-1].stdout.readline())

    try:
        assert [take() for _ in range(4)] == [1, 2, 3, 0]
        assert sorted(take() for _ in range(4)) == [0, 1, 2, 3]
        # One that is killed leaves its GPU to the next.
        processes[2].kill()
        processes[2].wait()
        assert take() == 3
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("models", "visible", "chosen", "taken"),
    [
        ([H200, H200], 2, None, ("0", "1")),
        ([H200, H200], 1, None, (None,)),
        ([H200, OTHER], 2, None, (None,)),
        ([H200], 1, None, ("0",)),
        ([], 0, None, (None,)),
        ([H200, H200], 2, "1,0", ("1,0",)),
    ],
    ids=["alike", "hidden", "unlike", "single", "none", "the user's choice"],
)
def test_one_of_several_alike_is_taken_unless_chosen_already(monkeypatch, tmp_path, models, visible, chosen, taken):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(provenance, "gpu_names", lambda: models)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen or "")
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gpus.take_one("cuda water")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") in taken
