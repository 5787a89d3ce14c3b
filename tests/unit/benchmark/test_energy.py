"""Energy of calls: counters of stand-in files and of a stand-in for NVML's library, which count what each call adds."""

import sys
from types import SimpleNamespace

import pytest
import torch

from mlff_distiller.benchmark import energy

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RANGE = 1_000_000


class Clock:
    """Stands still unless a call takes time."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(energy, "time", clock)
    return clock


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two packages, and the memory controller of the first, which is a part of it."""
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    for name, start in (("intel-rapl:0", 0), ("intel-rapl:1", RANGE - 5), ("intel-rapl:0:0", 0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
        (folder / "energy_uj").write_text(f"{start}\n")
    return tmp_path


def spends(clock, packages, microjoules, seconds=0.01, every=1):
    """A call that takes ``seconds`` and spends ``microjoules`` in each package; counters tick at every ``every``th call."""

    def call(index):
        clock.now += seconds
        if index % every == 0:
            for folder in packages.iterdir():
                path = folder / "energy_uj"
                path.write_text(f"{(int(path.read_text()) + every * microjoules) % RANGE}\n")

    return call


@pytest.mark.parametrize(("every", "accuracy"), [(1, 1e-9), (7, 0.03)])
def test_both_packages_count_and_a_counter_may_start_again(clock, packages, every, accuracy):
    joule, name = energy.per_call(spends(clock, packages, 3000, every=every), CPU, lambda: None)
    assert joule == pytest.approx(2 * 3000e-6, rel=accuracy)
    assert name.startswith("RAPL")
    assert clock.now >= energy.SECONDS


def test_a_look_that_takes_as_long_as_many_calls_is_not_counted_with_them(clock, monkeypatch):
    """Calls of 0.1 ms at 300 W, and a board that takes 300 W also while its counter is read for 4 ms."""

    def read(_):
        clock.now += 4e-3
        return round(300e3 * clock.now)

    def call(_):
        clock.now += 1e-4

    monkeypatch.setitem(sys.modules, "pynvml", library(nvmlDeviceGetTotalEnergyConsumption=read))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0"))
    joule, _ = energy.per_call(call, GPU, lambda: None)
    assert joule == pytest.approx(300 * 1e-4, rel=0.03)


def test_a_counter_that_stands_still_is_no_energy(clock, packages):
    with pytest.raises(energy.NotReadable, match="stands still"):
        energy.per_call(spends(clock, packages, 0), CPU, lambda: None)


def test_a_machine_without_a_counter_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    with pytest.raises(energy.NotReadable, match="no counter of energy"):
        energy.per_call(lambda index: None, CPU, lambda: None)


def test_a_counter_for_root_alone_says_so(packages, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(energy.Counter, "_read", refuse)
    with pytest.raises(energy.NotReadable, match="energy_uj is readable by root alone"):
        energy.per_call(lambda index: None, CPU, lambda: None)


class NVMLError(Exception):
    pass


def library(**functions):
    return SimpleNamespace(
        NVMLError=NVMLError,
        **{
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        }
        | functions,
    )


def test_nvml_counts_millijoules_of_the_gpu_that_is_used(clock, monkeypatch):
    used = {"mj": 10**9}

    def call(index):
        clock.now += 0.01
        used["mj"] += 40

    monkeypatch.setitem(
        sys.modules,
        "pynvml",
        library(nvmlDeviceGetTotalEnergyConsumption=lambda handle: used["mj"] if handle == b"GPU-0-1" else 0),
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0-1"))
    joule, name = energy.per_call(call, GPU, lambda: None)
    assert joule == pytest.approx(0.04)
    assert name.startswith("NVML")


@pytest.mark.parametrize("broken", ["nvmlInit", "nvmlDeviceGetTotalEnergyConsumption"])
def test_what_nvml_refuses_is_said(monkeypatch, broken):
    def refuse(*_):
        raise NVMLError("Not Supported")

    monkeypatch.setitem(sys.modules, "pynvml", library(**{broken: refuse}))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0-1"))
    with pytest.raises(energy.NotReadable, match="NVML: Not Supported"):
        energy.per_call(lambda index: None, GPU, lambda: None)


def test_without_its_package_nvml_is_not_asked(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(energy.NotReadable, match="nvidia-ml-py"):
        energy.per_call(lambda index: None, GPU, lambda: None)
