"""Simulations beside one another spread over the GPUs of a machine, each always on the same."""

import os
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
def test_one_of_several_alike_is_taken_unless_chosen_already(monkeypatch, models, visible, chosen, taken):
    monkeypatch.setattr(provenance, "gpu_names", lambda: models)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen or "")
    if chosen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gpus.take_one("cuda water")
    assert os.environ.get("CUDA_VISIBLE_DEVICES") in taken
