"""Preflight: says what is there, stops where going on would mislead, and says what to do."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlff_distiller.preflight import machine
from mlff_distiller.preflight.machine_settings import MachineSettings, TorchSettings
from mlff_distiller.records import schema
from mlff_distiller.utils import compilers
from mlff_distiller.utils.errors import UserError

NVIDIA = Path(__file__).parents[2] / "standins" / "nvidia"
H100 = "NVIDIA H100 80GB HBM3 (driver 550.54.15, 81559 MiB, compute capability 9.0)"


def by_name(checks: list[machine.Check]) -> dict[str, machine.Check]:
    return {check.name: check for check in checks}


def run(tmp_path: Path, settings: str) -> Path:
    parser = argparse.ArgumentParser()
    machine.add_arguments(parser)
    output = tmp_path / "machine.json"
    assert machine.run(parser.parse_args(["--settings", settings, "--output", str(output)])) == 0
    return output


def test_record_holds_every_check(tmp_path, capsys):
    output = run(tmp_path, '{"device": "cpu", "torch": {"allow_other": true}}')
    (record,) = schema.read(output)
    assert (record["kind"], record["status"], record["device"]) == ("preflight", "ok", "cpu")
    found = {check["name"]: check for check in record["checks"]}
    assert set(found) >= {"Python", "CPU", "memory", "GPU", "C++ compiler", "nvcc", "torch", "Triton", "device"}
    assert all(set(check) == {"name", "value", "ok", "advice"} for check in record["checks"])
    assert torch.__version__ in found["torch"]["value"]
    shown = capsys.readouterr().out
    assert "Preflight" in shown
    assert torch.__version__ in shown


def test_other_torch_is_refused_unless_allowed(tmp_path):
    with pytest.raises(UserError, match=r"(?s)torch.*pinned to torch 1\.0\.0.*allow_other: true"):
        run(tmp_path, '{"device": "cpu", "torch": {"version": "1.0.0"}}')
    assert not (tmp_path / "machine.json").exists()
    check = machine.check_torch(TorchSettings(version="1.0.0", allow_other=True), torch, "")
    assert check.ok
    assert "not the pinned 1.0.0" in check.advice


def test_broken_torch_is_told_from_a_missing_one():
    check = machine.check_torch(TorchSettings(), None, "OSError: libcudart.so.12: cannot open")
    assert not check.ok
    assert "libcudart.so.12" in check.advice


@pytest.mark.parametrize("setting", ["auto", "cuda"])
def test_gpu_that_torch_cannot_use_is_an_error(setting):
    """In a process of its own, with torch's own word for it that it sees no GPU, on whatever machine."""
    code = (
        "import torch; from mlff_distiller.preflight import machine; gpus = machine.visible_gpus(); assert gpus, gpus; "
        f"device, check = machine.check_device({setting!r}, gpus, torch); "
        "print(device, check.ok, check.advice)"
    )
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "PATH": f"{NVIDIA}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(machine.__file__).parents[2]),
    }
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.startswith("cpu False this machine has a GPU")
    assert "set device: cpu" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_run_stops_on_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{NVIDIA}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.visible_gpus() == [H100]
    with pytest.raises(UserError, match=r"device: auto: GPU present, torch cannot use it: .* set device: cpu"):
        run(tmp_path, '{"torch": {"allow_other": true}}')
    assert not (tmp_path / "machine.json").exists()
    (record,) = schema.read(run(tmp_path, '{"device": "cpu", "torch": {"allow_other": true}}'))
    assert by_name([machine.Check(**check) for check in record["checks"]])["GPU"].value == H100


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_cpu_only_build_on_a_gpu_machine_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)  # all that tells a CPU-only build, seen from Python
    device, check = machine.check_device("auto", [H100], torch)
    assert (device, check.ok) == ("cpu", False)
    assert "CPU-only build" in check.advice
    assert "run `make`" in check.advice


#: Cards older than all that torch has kernels for.
OLDER = [((7, 5), ["sm_80", "sm_90"]), ((8, 0), ["sm_86"])]


@pytest.mark.parametrize(
    ("card", "kernels", "served"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((7, 5), ["sm_80", "sm_90"], False),
        ((8, 0), ["sm_86"], False),
        ((12, 0), ["sm_80", "sm_90"], False),
        ((12, 0), ["sm_80", "sm_90a"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((10, 0), ["sm_100", "compute_120"], True),
        ((10, 0), ["sm_90", "compute_120"], False),
    ],
)
def test_a_card_without_kernels_is_refused_before_any_job(card, kernels, served):
    cuda = SimpleNamespace(
        is_available=lambda: True,
        get_device_name=lambda index: "A card",
        get_device_capability=lambda index: card,
        get_arch_list=lambda: kernels,
    )
    device, check = machine.check_device("auto", ["A card"], SimpleNamespace(cuda=cuda, __version__="2.5.1"))
    assert (device, check.ok) == (("cuda", True) if served else ("cpu", False))
    if not served:
        age = "older cards need an older torch" if (card, kernels) in OLDER else "newer cards need a newer torch"
        assert f"this GPU is sm_{card[0]}{card[1]}; {age}" in check.advice


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use this machine's GPU")
def test_without_a_gpu():
    assert machine.check_device("auto", [], torch)[0] == "cpu"
    assert machine.check_device("auto", [], torch)[1].ok
    _, check = machine.check_device("cuda", [], torch)
    assert not check.ok
    assert "no NVIDIA GPU is visible" in check.advice


def test_compiler_that_works_or_does_not_never_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    assert machine.check_compiler() == machine.Check("C++ compiler", machine.check_compiler().value)

    broken = tmp_path / "c++"
    broken.write_text(
        "#!/bin/sh\necho 'trial.cpp:1:10: fatal error: Python.h: No such file or directory' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    check = machine.check_compiler()
    assert check.ok
    assert "Python.h" in check.advice
    assert "python3-dev" in check.advice

    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    check = machine.check_compiler()
    assert (check.value, check.ok) == ("none", True)
    assert "unavailable, the rest runs" in check.advice


def test_nvcc_version_is_read_from_the_compiler_that_torch_would_use(tmp_path, monkeypatch):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert compilers.nvcc_version() == "12.4"
    assert machine.check_nvcc("cpu", torch).advice == ""


def test_too_little_memory_or_disk(tmp_path):
    assert not machine.check_memory(1e6).ok
    assert machine.check_memory(0.1).ok
    assert not machine.check_disk("disk", tmp_path / "not" / "yet", 1e9).ok
    assert machine.check_disk("disk", tmp_path / "not" / "yet", 0).ok


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devise": "cpu"}, "unknown key 'devise'; did you mean 'device'"),
        ({"device": "cdua"}, "device: cannot be 'cdua'; did you mean 'cuda'"),
        ({"torch": {"verion": "2.5.1"}}, "torch: unknown key 'verion'; did you mean 'version'"),
    ],
)
def test_misspelt_settings(settings, message):
    with pytest.raises(UserError, match=message):
        MachineSettings.from_mapping(settings)
