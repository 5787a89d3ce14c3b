"""Jobs beside one another spread over the GPUs of a machine, each always on the same."""

from collections import Counter

import torch

from mlff_distiller import gpu_choice


def test_work_spreads_over_all_gpus_and_stays_where_it_was():
    work = [f"variant_{i} {system}" for i in range(20) for system in ("water", "caffeine", "cholesterol", "benzene")]
    first = [gpu_choice.chosen(name, ["0", "1", "2", "3"]) for name in work]
    assert first == [gpu_choice.chosen(name, ["0", "1", "2", "3"]) for name in work]
    counts = Counter(first)
    assert set(counts) == {"0", "1", "2", "3"}
    assert max(counts.values()) <= 2 * min(counts.values())


def test_one_of_the_gpus_that_are_visible_is_taken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    gpu_choice.take_one("cuda water")
    assert gpu_choice.os.environ["CUDA_VISIBLE_DEVICES"] in ("5", "7")


def test_a_single_gpu_or_none_is_left_as_it_is(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for n in (0, 1):
        monkeypatch.setattr(torch.cuda, "device_count", lambda n=n: n)
        gpu_choice.take_one("cuda water")
        assert "CUDA_VISIBLE_DEVICES" not in gpu_choice.os.environ
