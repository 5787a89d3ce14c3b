"""The torch-cluster stage: the right wheel or none, built once, nothing left half done, and never a reason to stop.

The packages here are small ones made on the spot; each is fetched, built, unpacked, imported and tried as the real one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlff_distiller.neighbors import torch_cluster_wheel
from mlff_distiller.preflight import torch_cluster
from mlff_distiller.preflight.torch_cluster_settings import TorchClusterSettings
from mlff_distiller.records import schema
from mlff_distiller.utils.errors import UserError
from tests.standins import wheels

KEY = torch_cluster_wheel.current_key()
#: Runs the stage as the command line does, with the lock given by the caller.
STAGE = """
import argparse, sys
from pathlib import Path
from mlff_distiller.preflight import torch_cluster
parser = argparse.ArgumentParser()
torch_cluster.add_arguments(parser)
if sys.argv[1]:
    torch_cluster.LOCK = Path(sys.argv[1])
raise SystemExit(torch_cluster.run(parser.parse_args(sys.argv[2:])))
"""
ACTIVATE = """
import sys
from mlff_distiller.neighbors import torch_cluster_wheel
module = torch_cluster_wheel.activate(sys.argv[1])
print(module.MARK, module.__file__)
"""
OTHER_LABEL = KEY.label.replace("pt2", "pt1")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and no package index: what is not in the given folder is not to be had."""
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(torch_cluster.__file__).parents[2]))
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


def prebuilt(folder: Path | None) -> dict:
    return torch_cluster.obtain(
        TorchClusterSettings.from_mapping({"mode": "prebuilt", "find_links": folder and str(folder)})
    )


def run_stage(tmp_path: Path, lock: str | None, **settings) -> subprocess.Popen:
    """Start the stage in a process of its own; its record goes to ``tmp_path/record.json``."""
    lock_file = ""
    if lock:
        lock_file = tmp_path / "torch-cluster.lock"
        lock_file.write_text(lock)
    output = str(tmp_path / "record.json")
    command = [sys.executable, "-c", STAGE, str(lock_file), "--settings", json.dumps(settings), "--output", output]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kept(cache: Path) -> list[str]:
    """What the cache holds for this Python and torch, without the lock file."""
    return sorted(entry.name for entry in (cache / "torch-cluster" / str(KEY)).iterdir() if entry.name != "lock")


def test_wheel_for_this_torch_is_chosen_kept_and_imported(folder, cache, tmp_path):
    wheels.make_wheel(folder, label=OTHER_LABEL, code=wheels.FOREIGN)
    wheels.make_wheel(folder, label=KEY.label)
    wheels.make_wheel(folder)
    found = prebuilt(folder)
    assert (found["status"], found["route"], found["version"], found["has_cuda"]) == ("ok", "prebuilt", "1.6.3", False)
    assert found["key"] == str(KEY)
    assert kept(cache) == ["prebuilt"]

    for wheel in folder.iterdir():
        wheel.unlink()
    again = prebuilt(folder)
    assert (again["route"], again["origin"]) == ("cache", "prebuilt")

    schema.write(tmp_path / "record.json", [again])
    mark, path = subprocess.check_output([sys.executable, "-c", ACTIVATE, tmp_path / "record.json"], text=True).split()
    assert mark == KEY.label
    assert Path(path).is_relative_to(cache)


def test_own_unlabeled_wheel_will_do_from_a_folder(folder):
    wheels.make_wheel(folder)
    assert prebuilt(folder)["status"] == "ok"


@pytest.mark.parametrize(
    ("label", "tag"),
    [(OTHER_LABEL, "py3-none-any"), (KEY.label, "cp39-cp39-linux_x86_64"), (KEY.label, "py3-none-win32")],
)
def test_wheel_for_another_torch_python_or_system_is_left_alone(folder, cache, label, tag):
    wheels.make_wheel(folder, label=label, tag=tag)
    found = prebuilt(folder)
    assert (found["status"], found["route"]) == ("unavailable", None)
    assert f"no wheel 1.6.3+{KEY.label} for {KEY.python}" in found["reason"]
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("code", "reason"), [(wheels.FOREIGN, "undefined symbol"), (wheels.WRONG, "radius() on cpu found []")]
)
def test_wheel_that_does_not_work_is_not_kept(folder, cache, code, reason):
    wheels.make_wheel(folder, label=KEY.label, code=code)
    found = prebuilt(folder)
    assert found["status"] == "unavailable"
    assert reason in found["reason"]
    assert kept(cache) == []


def test_spoiled_copy_in_the_cache_is_replaced(folder, cache):
    wheels.make_wheel(folder, label=KEY.label)
    prebuilt(folder)
    (module,) = cache.glob("torch-cluster/*/prebuilt/site/torch_cluster/__init__.py")
    module.write_text("half a fi")
    assert prebuilt(folder)["route"] == "prebuilt"
    assert "half" not in module.read_text()


def test_index_page_is_asked_for_this_release_and_for_the_first_of_its_minor_version():
    key = torch_cluster_wheel.Key("cp312", "2.5.1", "abi0", "cu124", "x86_64-sm90")
    assert torch_cluster.index_places("https://example.org/torch-{torch}+{cuda}.html", key) == [
        "https://example.org/torch-2.5.1+cu124.html",
        "https://example.org/torch-2.5.0+cu124.html",
    ]
    assert torch_cluster.index_places("wheels", key) == ["wheels"]
    assert torch_cluster.index_places(None, key) == []
    assert key.label == "pt25cu124"


def test_index_page_that_cannot_be_reached_is_said_so():
    found = torch_cluster.obtain(
        TorchClusterSettings.from_mapping(
            {"mode": "prebuilt", "find_links": "http://127.0.0.1:9/torch-{torch}+{cuda}.html"}
        )
    )
    assert found["status"] == "unavailable"
    assert "onnection" in found["reason"]


def test_a_source_archive_that_cannot_be_reached_is_said_so():
    """pip itself says that there is no such version."""
    log = (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"HTTPSConnection(host='i', "
        "port=443): Failed to establish a new connection: [Errno -3] Temporary failure in name resolution\")': /simple/\n"
        "ERROR: Could not find a version that satisfies the requirement torch-cluster==1.6.3 (from versions: none)\n"
        "ERROR: No matching distribution found for torch-cluster==1.6.3"
    )
    found = torch_cluster._build_error(log, 1)
    expected = "the source archive could not be downloaded: no connection (Temporary failure in name resolution)"
    assert found == expected
    assert torch_cluster._build_error(log.splitlines()[1] + "\n" + log.splitlines()[2], 1).startswith(
        "the build failed"
    )


def test_nowhere_to_look(tmp_path):
    assert "find_links" in prebuilt(None)["reason"]
    assert "no such folder" in prebuilt(tmp_path / "missing")["reason"]


def test_two_runs_at_once_fetch_once(folder, tmp_path):
    wheels.make_wheel(folder, label=KEY.label)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    both = [run_stage(tmp_path / name, None, mode="prebuilt", find_links=str(folder)) for name in ("one", "two")]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    routes = {schema.read(tmp_path / name / "record.json")[0]["route"] for name in ("one", "two")}
    assert routes == {"prebuilt", "cache"}


def test_built_from_source_once_with_progress(folder, cache, tmp_path):
    _, lock = wheels.make_source_archive(folder, seconds=6)
    process = run_stage(tmp_path, lock, mode="auto", find_links=str(folder), build_jobs=2)
    said, _ = process.communicate()
    (found,) = schema.read(tmp_path / "record.json")
    assert (process.returncode, found["status"], found["route"]) == (0, "ok", "built from source"), said
    assert found["build_s"] > 6
    assert "2 files at a time" in said
    assert "files compiled" in said
    assert kept(cache) == ["built"]
    again = torch_cluster.obtain(TorchClusterSettings.from_mapping({"mode": "auto", "find_links": None}))
    assert (again["route"], again["origin"], again["build_s"]) == ("cache", "built", None)


def test_folders_that_vanish_while_progress_is_counted(tmp_path):
    for name in ("one", "two", "three"):
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "deeper" / "source.o").touch()
    found = torch_cluster._files_under(tmp_path)
    assert next(found).endswith("source.o")
    # As pip does with its temporary folders, whose names have been read already.
    for name in ("one", "two", "three"):
        shutil.rmtree(tmp_path / name)
    assert list(found) == []


def test_build_that_fails_stops_nothing_and_leaves_nothing(folder, cache, tmp_path):
    _, lock = wheels.make_source_archive(folder, cpp="#error this compiler is too old\n")
    process = run_stage(tmp_path, lock, mode="build", find_links=str(folder))
    said, _ = process.communicate()
    (found,) = schema.read(tmp_path / "record.json")
    assert (process.returncode, found["status"]) == (0, "unavailable"), said
    assert "this compiler is too old" in found["reason"]
    assert str(tmp_path) not in found["reason"]
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("said", "returncode", "stopped"),
    [
        ("error: command '/usr/bin/g++' failed: exit status -15", 1, True),
        ("", -signal.SIGINT, True),
        ("g++: fatal error: Killed signal terminated program cc1plus; exit status -9", 1, False),
        ("error: command '/usr/bin/g++' failed with exit code 1", 1, False),
    ],
)
def test_a_build_stopped_from_outside_is_no_failed_build(said, returncode, stopped):
    assert torch_cluster._was_stopped(said, returncode) is stopped


def test_source_archive_with_another_hash_is_refused(folder, cache, tmp_path):
    _, lock = wheels.make_source_archive(folder)
    wheels.make_source_archive(folder, cpp="int changed;\n")
    process = run_stage(tmp_path, lock, mode="build", find_links=str(folder))
    process.communicate()
    (found,) = schema.read(tmp_path / "record.json")
    assert found["status"] == "unavailable"
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in found["reason"]
    assert kept(cache) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_build_leaves_nothing_half_done(folder, cache, tmp_path, number):
    _, lock = wheels.make_source_archive(folder, seconds=20)
    process = run_stage(tmp_path, lock, mode="build", find_links=str(folder))
    deadline = time.monotonic() + 60
    while not list(cache.glob("torch-cluster/*/.work-*/scratch/*/*/setup.py")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert not (tmp_path / "record.json").exists()
    if number != signal.SIGKILL:
        assert kept(cache) == []
    # What a killed run could not clear away is cleared by the next one, which gets what it asks for.
    wheels.make_wheel(folder)
    assert prebuilt(folder)["route"] == "prebuilt"
    assert kept(cache) == ["prebuilt"]


def test_without_a_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = torch_cluster.obtain(TorchClusterSettings.from_mapping({"mode": "build"}))
    assert found["status"] == "unavailable"
    assert "no C++ compiler" in found["reason"]


def test_off_is_recorded_and_activate_gives_the_reason(tmp_path):
    record = tmp_path / "record.json"
    for off in ("off", False):  # YAML reads a bare off as false
        found = torch_cluster.obtain(TorchClusterSettings.from_mapping({"mode": off}))
        assert (found["status"], found["mode"]) == ("unavailable", "off")
    schema.write(record, [found])
    with pytest.raises(UserError, match="switched off in the configuration"):
        torch_cluster_wheel.activate(record)


def test_activate_refuses_what_does_not_fit(folder, cache, tmp_path):
    wheels.make_wheel(folder, label=KEY.label)
    found = prebuilt(folder)
    record = tmp_path / "record.json"
    schema.write(record, [found | {"key": "cp39-torch1.0.0-abi0-cpu-x86_64"}])
    with pytest.raises(UserError, match=r"found for cp39-torch1\.0\.0.*delete the file"):
        torch_cluster_wheel.activate(record)
    schema.write(record, [found])
    os.rename(cache, tmp_path / "moved")
    with pytest.raises(UserError, match="no longer in the cache"):
        torch_cluster_wheel.activate(record)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "prebuild"}, "torch_cluster.mode: cannot be 'prebuild'; did you mean 'prebuilt'"),
        ({"find_link": "x"}, "unknown key 'find_link'; did you mean 'find_links'"),
        ({"build_jobs": 0}, "build_jobs: expected whole number >= 1 or null, got 0"),
    ],
)
def test_misspelt_settings(settings, message):
    with pytest.raises(UserError, match=message):
        TorchClusterSettings.from_mapping(settings)
