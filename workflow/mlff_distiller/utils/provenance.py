"""Where a result came from: machine, versions, commit, time. Written into every file of records.

Only what explains a number: no user name, no path, and no host but a batch system's node, by its name there. Heavy
libraries are not imported (versions come from the installed packages' metadata) and no GPU tool is started, so this costs
a few milliseconds.
"""

import copy
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlff_distiller.utils.batch_system import batch_job

#: Packages whose version can change a number.
PACKAGES = (
    "torch",
    "triton",
    "torch-cluster",
    "vesin",
    "numpy",
    "ase",
    "tblite",
    "rdkit",
    "safetensors",
    "pandas",
    "matplotlib",
    "snakemake",
)
#: Environment variables that decide how many threads a library uses, or where they run.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OMP_STACKSIZE",
    "OMP_PROC_BIND",
    "OPENBLAS_CORETYPE",
)


def collect() -> dict[str, Any]:
    """What produced the results of this process.

    Returns:
        ``{"stage", "time_utc", "machine", "batch_job", "os", "python", "packages", "git", "threads"}``; everything but time
        and threads is gathered once per process. ``machine`` is :func:`machine`; ``batch_job`` is
        :func:`~mlff_distiller.utils.batch_system.batch_job`, null without a batch system; ``git`` is ``{"commit", "dirty"}``,
        both null outside a git checkout; ``packages`` maps a distribution's name to its version, null where it is missing.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return copy.deepcopy(_collect_once()) | {"time_utc": now, "threads": threads()}


@functools.cache
def _collect_once() -> dict[str, Any]:
    return {
        "stage": stage(),
        "time_utc": None,  # keeps its place in the file; collect() fills it in, threads likewise
        "machine": machine(),
        "batch_job": batch_job(),
        "os": operating_system(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "git": git_state(Path(__file__).resolve().parent),
        "threads": None,
    }


def stage() -> str | None:
    """The sub-command being run (``benchmark``), or the program's name; never a path or an argument's value."""
    program = Path(sys.argv[0])
    if (
        program.name in ("__main__.py", "mlff-distiller")
        and len(sys.argv) > 1
        and re.fullmatch(r"[a-z][a-z0-9-]*", sys.argv[1])
    ):
        return sys.argv[1]
    return None if program.name in ("", "-", "-c") else program.stem


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GiB, and GPUs with their driver and limits (empty list: none seen)."""
    return {
        "cpu": cpu_model(),
        "cpu_details": cpu_details(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "memory_gib": memory_gib(),
        "gpus": gpu_names(),
        "gpu_driver": gpu_driver(),
        "gpu_limits": gpu_limits(),
    }


def cpu_model() -> str:
    """The processor's marketing name."""
    for line in _lines("/proc/cpuinfo"):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def cpu_details() -> str | None:
    """What tells processors of one marketing name apart: ``family 6, model 143, stepping 8, 2100 MHz``; null where unknown."""
    text = "\n".join(_lines("/proc/cpuinfo")).partition("\n\n")[0]
    found = {
        word: match[1]
        for word, key in (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"), ("MHz", "cpu MHz"))
        if (match := re.search(rf"^{key}\s*: (\S+)$", text, re.MULTILINE))
    }
    parts = [f"{word} {value}" for word, value in found.items() if word != "MHz"]
    parts += [f"{float(found['MHz']):.0f} MHz"] if "MHz" in found else []
    return ", ".join(parts) or None


@functools.cache
def processor() -> str:
    """What ``-march=native`` depends on: the processor's model and instruction sets."""
    text = "\n".join(_lines("/proc/cpuinfo")).partition("\n\n")[0]
    kept = re.findall(r"^(?:vendor_id|cpu family|model|model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)
    return platform.machine() + ("\n".join(kept) or platform.processor())


def usable_cores() -> int:
    """Cores this process may run on; an affinity mask or a batch system may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float | None:
    """Physical memory in GiB, or the limit of a control group around this process where that is lower; null where unknown.

    A batch system's job and a container each have such a group.
    """
    sizes = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            sizes.append(int(line.split()[1]) * 1024)
    for limit in _memory_limits():
        sizes += [int(line) for line in _lines(limit) if line.strip().isdigit()]
    return round(min(sizes) / 2**30, 1) if sizes else None


def _memory_limits() -> list[Path]:
    """Files with the memory limits of the control groups around this process, of both versions that Linux has."""
    found = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    for line in _lines("/proc/self/cgroup"):
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = found[1] if controllers else found[0]
        inside = Path(place.lstrip("/"))
        found += [top.parent / group / top.name for group in (inside, *inside.parents)]
    return list(dict.fromkeys(found))


def gpu_names() -> list[str]:
    """The models of the NVIDIA GPUs that the driver shows, one entry each."""
    names = []
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in _lines(information):
            key, _, value = line.partition(":")
            if key.strip() == "Model":
                names.append(value.strip())
    return names


def gpu_driver() -> str | None:
    """The version of the NVIDIA kernel driver, or null without one."""
    for line in _lines("/proc/driver/nvidia/version"):
        if line.startswith("NVRM version:") and (found := re.search(r"\b\d{3}\.\d+(?:\.\d+)*\b", line)):
            return found.group()
    return None


@functools.cache
def gpu_limits() -> str | None:
    """The highest clock and the power cap of each GPU, as NVIDIA's tool says: ``1980 MHz, 700.00 W``; null without one."""
    if not gpu_names():
        return None
    found = output_of(["nvidia-smi", "--query-gpu=clocks.max.sm,power.limit", "--format=csv,noheader"])
    return "; ".join(dict.fromkeys(found.splitlines())) if found else None


def operating_system() -> str:
    """Distribution, kernel and C library in one line, such as ``Debian GNU/Linux 12, Linux 6.1.0, glibc 2.36``."""
    try:
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        distribution = ""
    libc = " ".join(platform.libc_ver()).strip()
    return ", ".join(part for part in (distribution, f"{platform.system()} {platform.release()}", libc) if part)


def package_version(name: str) -> str | None:
    """The installed version of distribution ``name``, without importing it; null where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_state(directory: Path) -> dict[str, Any]:
    """Commit of the checkout that holds ``directory`` and whether tracked files differ from it.

    Both are null outside a checkout or without git. Files that git does not track do not make a checkout dirty.
    """
    commit = _git(directory, "rev-parse", "--verify", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    changes = _git(directory, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def threads() -> dict[str, Any]:
    """The thread settings in force: environment variables as set (null: not set) and torch's own count once loaded."""
    settings: dict[str, Any] = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    # Only where the stage has loaded torch: importing it here would take seconds and break the teacher.
    torch = sys.modules.get("torch")
    settings["torch"] = torch.get_num_threads() if torch and hasattr(torch, "get_num_threads") else None
    return settings


def output_of(command: Sequence[str], timeout: float = 30) -> str | None:
    """What a program prints, without the blanks around it; None where it is missing, fails or takes longer, seconds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _git(directory: Path, *arguments: str) -> str | None:
    return output_of(["git", "--no-optional-locks", "-C", str(directory), *arguments], timeout=5)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
