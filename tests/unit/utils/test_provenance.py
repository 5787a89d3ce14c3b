"""Provenance: complete, cheap, and without a word about who ran it where."""

import getpass
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlff_distiller.utils import provenance


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_says_what_explains_a_number():
    found = provenance.collect()
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert found["machine"]["cpu"]
    assert 0 < found["machine"]["memory_gib"] < 1e5
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"].startswith("2.")
    assert set(found["git"]) == {"commit", "dirty"}
    assert found["time_utc"].endswith("+00:00")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_names_the_node_of_a_batch_system_alone():
    code = (
        "import json; from mlff_distiller.utils import provenance; print(json.dumps(provenance.collect()['batch_job']))"
    )
    plain = {name: value for name, value in with_package().items() if not name.startswith(("SLURM", "PBS", "LSB"))}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=plain) == "null\n"
    job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "c1", "SLURM_CPUS_ON_NODE": "2"}
    found = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True, env=plain | job))
    assert found == {"system": "slurm", "node": "c1", "id": "7", "cpus": 2}


def test_names_no_host_user_or_place():
    text = json.dumps(provenance.collect())
    for private in (platform.node(), str(Path.home()), str(Path.cwd()), sys.prefix):
        # A host may be called something as short as "vm", which can stand in a word; then it must stand alone.
        assert f'"{private}"' not in text
        assert len(private) < 6 or private not in text
    assert f'"{getpass.getuser()}"' not in text


def test_callers_cannot_change_each_others_copy():
    provenance.collect()["machine"]["cpu"] = "changed"
    assert provenance.collect()["machine"]["cpu"] != "changed"


def test_is_cheap_and_loads_neither_torch_nor_the_teacher():
    code = (
        "import sys, time; from mlff_distiller.utils import provenance; start = time.process_time(); provenance.collect(); "
        "print(time.process_time() - start, *(m for m in ('torch', 'tblite', 'numpy') if m in sys.modules))"
    )
    seconds, *loaded = subprocess.check_output([sys.executable, "-c", code], text=True, env=with_package()).split()
    assert loaded == []
    assert float(seconds) < 0.2
    start = time.process_time()
    for _ in range(10):
        provenance.collect()
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(("variable", "value"), [("OMP_NUM_THREADS", "3"), ("OMP_STACKSIZE", "64K")])
def test_thread_settings_are_those_in_force(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert provenance.collect()["threads"][variable] == value
    monkeypatch.delenv(variable)
    assert provenance.collect()["threads"][variable] is None


@pytest.mark.parametrize(
    ("arguments", "stage"),
    [
        (["somewhere/mlff_distiller/__main__.py", "benchmark", "--output", "secret/place.json"], "benchmark"),
        (["bin/mlff-distiller", "benchmark", "--output", "secret/place.json"], "benchmark"),
        (["somewhere/mlff_distiller/__main__.py", "secret/place.json"], "__main__"),
        (["somewhere/tool.py"], "tool"),
        (["-c"], None),
    ],
)
def test_stage_is_the_sub_command(monkeypatch, arguments, stage):
    monkeypatch.setattr(sys, "argv", arguments)
    assert provenance.stage() == stage


def test_git_state(tmp_path):
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}
    git(tmp_path, "init", "--quiet")
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}, "no commit yet"
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    clean = provenance.git_state(tmp_path)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (tmp_path / "untracked").write_text("no matter")
    assert provenance.git_state(tmp_path) == clean
    (tmp_path / "file").write_text("two")
    assert provenance.git_state(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_without_git_on_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state(Path(__file__).parent) == {"commit": None, "dirty": None}


def with_package() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(provenance.__file__).parents[2])}


@pytest.mark.parametrize(
    ("group", "limit"),
    [
        ("0::/system.slice/job_7/step_0", "/sys/fs/cgroup/system.slice/job_7/memory.max"),
        ("4:cpu,memory:/slurm/uid_0/job_7", "/sys/fs/cgroup/memory/slurm/uid_0/job_7/memory.limit_in_bytes"),
        ("0::/", "/sys/fs/cgroup/memory.max"),
    ],
)
def test_memory_is_that_of_the_job(monkeypatch, group, limit):
    files = {
        "/proc/meminfo": ["MemTotal:  8388608 kB"],
        "/proc/self/cgroup": ["2:cpu:/elsewhere", group],
        limit: [str(2**30)],
        "/sys/fs/cgroup/memory/elsewhere/memory.limit_in_bytes": ["1"],
    }
    monkeypatch.setattr(provenance, "_lines", lambda path: files.get(str(path), []))
    assert provenance.memory_gib() == 1
    del files[limit]
    assert provenance.memory_gib() == 8


def test_processors_of_one_name_are_told_apart(monkeypatch):
    lines = ["model name\t: Xeon", "cpu family\t: 6", "model\t\t: 143", "stepping\t: 8", "cpu MHz\t\t: 2100.0"]
    monkeypatch.setattr(provenance, "_lines", lambda path: lines if path == "/proc/cpuinfo" else [])
    assert provenance.cpu_details() == "family 6, model 143, stepping 8, 2100 MHz"
    monkeypatch.setattr(provenance, "_lines", lambda path: [])
    assert provenance.cpu_details() is None


def test_the_limits_of_a_gpu_are_those_that_its_tool_says(monkeypatch):
    asked, answer = [], "1980 MHz, 700.00 W\n1980 MHz, 700.00 W"
    monkeypatch.setattr(provenance, "gpu_names", lambda: ["NVIDIA H200"] * 2)
    monkeypatch.setattr(provenance, "output_of", lambda command: asked.append(command) or answer)
    provenance.gpu_limits.cache_clear()
    assert provenance.gpu_limits() == "1980 MHz, 700.00 W"
    assert asked[0][0] == "nvidia-smi"
    provenance.gpu_limits.cache_clear()
    monkeypatch.setattr(provenance, "gpu_names", list)
    assert provenance.gpu_limits() is None
    provenance.gpu_limits.cache_clear()
