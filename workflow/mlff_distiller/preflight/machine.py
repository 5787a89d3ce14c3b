"""Preflight: check the machine before any work, and stop with a message that says what to do.

A check that is not ``ok`` stops the run. One that is ``ok`` and has advice is a note: the run goes on, and the advice says
what will be missing.
"""

import argparse
import dataclasses
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

from mlff_distiller.preflight.machine_settings import MachineSettings, TorchSettings
from mlff_distiller.records import schema
from mlff_distiller.utils import provenance
from mlff_distiller.utils.compilers import find_compiler, nvcc_version, version_of
from mlff_distiller.utils.errors import UserError, Words
from mlff_distiller.utils.files import load_settings, user_cache

#: Instruction sets that decide how fast the CPU variants can be.
ISA_FLAGS = (
    "sse4_2",
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "asimd",
    "sve",
)
#: Compiles as compiled variants and torch-cluster will: Python's headers, the C++ library, OpenMP.
_TRIAL = "#include <Python.h>\n#include <omp.h>\n#include <vector>\nint threads() { return omp_get_max_threads(); }\n"


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one check: its name, what was found, whether the run can go on, and what to do (empty: nothing)."""

    name: str
    value: str
    ok: bool = True
    advice: str = ""


def examine(settings: MachineSettings) -> tuple[str, list[Check]]:
    """Run all checks.

    Args:
        settings: the requirements.

    Returns:
        The device to work on (``cpu`` or ``cuda``) and the checks. Nothing is raised for a failed check.
    """
    torch, torch_error = _import_torch()
    gpus = visible_gpus()
    device, device_check = check_device(settings.device, gpus, torch)
    checks = [
        check_python(),
        Check("system", provenance.operating_system()),
        check_cpu(torch),
        check_memory(settings.min_memory_gib),
        check_disk("disk for results", Path.cwd(), settings.min_disk_gib),
        check_disk("disk for the user's cache", user_cache(), 0.2),
        check_load(),
        check_compiler(),
        check_torch(settings.torch, torch, torch_error),
        Check("GPU", "; ".join(gpus) or "none"),
        device_check,
        check_triton(device),
        check_nvcc(device, torch),
        check_torch_cluster(),
    ]
    return device, checks


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs of this machine, with driver and memory where known; independent of torch."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader"]
    if listing := provenance.output_of(query):
        gpus = [[field.strip() for field in line.split(",")] for line in listing.splitlines()]
        return [
            f"{fields[0]} (driver {fields[1]}, {fields[2]}, compute capability {fields[3]})"
            for fields in gpus
            if len(fields) == 4
        ]
    if names := provenance.gpu_names():
        return [f"{name} (driver {provenance.gpu_driver() or 'unknown'})" for name in names]
    # In a container the driver's own listing may be hidden, while the devices are there.
    return ["NVIDIA GPU (no details to be had)" for _ in Path("/dev").glob("nvidia[0-9]*")]


def check_device(setting: str, gpus: list[str], torch: ModuleType | None) -> tuple[str, Check]:
    """Choose the device. A GPU that torch cannot use is an error unless the configuration says ``cpu``, so that CPU
    timings on a machine with a GPU are never an accident."""
    if torch is None:
        return "cpu", Check("device", f"{setting}: undecided, torch does not load")
    usable = torch.cuda.is_available()
    if setting == "cpu":
        return "cpu", Check("device", "cpu (by the configuration)")
    if usable and (lacking := without_kernels(torch)):
        return "cpu", Check("device", f"{setting}: {torch.cuda.get_device_name(0)}", False, lacking)
    if usable:
        return "cuda", Check("device", f"cuda: {torch.cuda.get_device_name(0)}")
    if not gpus:
        if setting == "cuda":
            advice = "no NVIDIA GPU is visible; set device: cpu or auto in the configuration, or use a machine with one"
            return "cpu", Check("device", "cuda asked for", False, advice)
        return "cpu", Check("device", "cpu")
    way_out = "or set device: cpu in the configuration to leave the GPU aside knowingly"
    if torch.version.cuda is None:
        advice = (
            f"this machine has a GPU, but torch {torch.__version__} is a CPU-only build; install the CUDA build "
            f"(the pinned one is: run `make`, or let Snakemake create the environment with --use-conda), {way_out}"
        )
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        advice = f"this machine has a GPU, but CUDA_VISIBLE_DEVICES hides it; unset that, {way_out}"
    else:
        advice = (
            f"this machine has a GPU, but torch {torch.__version__} cannot use it: its CUDA {torch.version.cuda} may "
            f"need a newer driver, or the GPU is not passed into this container; update the driver, {way_out}"
        )
    return "cpu", Check("device", f"{setting}: GPU present, torch cannot use it", False, advice)


def without_kernels(torch: ModuleType) -> Words:
    """What to do where this build of torch has no kernels for the GPU; empty where it has, or compiles them for it."""
    card = torch.cuda.get_device_capability(0)
    for name in torch.cuda.get_arch_list():
        kind, digits = name.split("_")
        made_for = int(digits.rstrip("af")[:-1]), int(digits.rstrip("af")[-1])
        # Machine code runs on cards of the same generation that are not older, intermediate code on all that are not.
        if made_for <= card and (kind == "compute" or made_for[0] == card[0]):
            return ""
    there = torch.cuda.get_arch_list()
    oldest = min(int(name.split("_")[1].rstrip("af")) for name in there)
    if 10 * card[0] + card[1] < oldest:
        advice = "older cards need an older torch, of which 2.5 is the oldest that this runs with: take another card"
    else:
        advice = (
            "newer cards need a newer torch (2.7 and CUDA 12.8 for Blackwell): install it and set "
            "torch: {allow_other: true}"
        )
    return (
        f"torch {torch.__version__} has kernels for {', '.join(there)}, and this GPU is sm_{card[0]}{card[1]}; {advice}, "
        "or set device: cpu in the configuration to leave the GPU aside knowingly"
    )


def check_torch(wanted: TorchSettings, torch: ModuleType | None, error: str) -> Check:
    """Torch loads and is the version that the results are meant for, unless the configuration allows another."""
    if torch is None:
        advice = "run `make` (or Snakemake with --use-conda) to install it"
        if provenance.package_version("torch"):
            advice = f"the installed one does not load: {error}; delete .venv and run `make` to install it again"
        return Check("torch", "not usable", False, advice)
    found = torch.__version__
    value = f"{found} (CUDA {torch.version.cuda or 'none: CPU-only build'})"
    if found.split("+")[0] == wanted.version:
        return Check("torch", value)
    if wanted.allow_other:
        return Check("torch", value, True, f"not the pinned {wanted.version}: allowed, and said in the report")
    advice = (
        f"this workflow is pinned to torch {wanted.version}: run it from its own environment (`make`), "
        "or accept this version with torch: {allow_other: true} in the configuration"
    )
    return Check("torch", value, False, advice)


def check_python() -> Check:
    """Python 3.11 or 3.12."""
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    advice = "" if ok else "Python 3.11 or 3.12 is needed: make PYTHON=python3.12"
    return Check("Python", f"{platform.python_version()} ({platform.python_implementation()})", ok, advice)


def check_cpu(torch: ModuleType | None) -> Check:
    """Model, usable cores, instruction sets, and the one that torch picked its kernels for."""
    flags: set[str] = set()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    except OSError:
        pass
    known = " ".join(flag for flag in ISA_FLAGS if flag in flags) or "instruction sets unknown"
    kernels = f"; torch kernels: {torch.backends.cpu.get_cpu_capability()}" if torch else ""
    return Check("CPU", f"{provenance.cpu_model()}, {provenance.usable_cores()} cores; {known}{kernels}")


def check_memory(minimum_gib: float) -> Check:
    """Enough memory for torch, its compiler and the molecules."""
    found = provenance.memory_gib()
    if found is None:
        return Check("memory", "unknown")
    ok = found >= minimum_gib
    return Check("memory", f"{found} GiB", ok, "" if ok else f"at least {minimum_gib} GiB are needed")


def check_disk(name: str, place: Path, minimum_gib: float) -> Check:
    """Enough room on the disk that holds ``place`` (or its nearest parent that exists), and permission to write there."""
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return Check(name, "not writable", False, f"no leave to write to {place}; set MLFF_DISTILLER_CACHE, or move")
    ok = free >= minimum_gib
    return Check(name, f"{free:.1f} GiB free", ok, "" if ok else f"free at least {minimum_gib} GiB there ({place})")


def check_load() -> Check:
    """Whether other programs use the cores that the timings need."""
    load, cores = os.getloadavg()[0], provenance.usable_cores()
    busy = load > max(1.0, 0.5 * cores)
    advice = "other programs keep the processor busy: timings will be noisy (and flagged so)" if busy else ""
    return Check("load", f"{load:.1f} on {cores} cores", True, advice)


def check_compiler() -> Check:
    """A C++ compiler that can build a Python extension with OpenMP; without one, a note."""
    without = "cpp, torch_compile and torch-cluster from source will be unavailable, the rest runs"
    compiler = find_compiler()
    if compiler is None:
        return Check("C++ compiler", "none", True, f"{without}; on Debian or Ubuntu: apt-get install g++")
    value = (version_of(compiler) or compiler[0]).splitlines()[0]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "trial.cpp")
        source.write_text(_TRIAL, encoding="utf-8")
        include = sysconfig.get_path("include")
        command = [*compiler, "-fopenmp", "-fPIC", "-shared", f"-I{include}", str(source), "-o", f"{folder}/trial.so"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return Check("C++ compiler", value)
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
    hint = "; on Debian or Ubuntu: apt-get install python3-dev" if "Python.h" in lines[0] else ""
    # The compiler's message from "error:" on; before that is a temporary path.
    complaint = re.sub(r"^.*?(?=(fatal )?error)", "", lines[0])
    return Check("C++ compiler", value, True, f"cannot build an extension ({complaint}): {without}{hint}")


def check_triton(device: str) -> Check:
    """Triton, which GPU variants are compiled with."""
    version = provenance.package_version("triton")
    advice = "GPU variants that need it will be unavailable" if device == "cuda" and not version else ""
    return Check("Triton", version or "not installed", True, advice)


def check_nvcc(device: str, torch: ModuleType | None) -> Check:
    """The CUDA compiler, for the variants of family cuda and, in the version of torch, to build torch-cluster for the GPU."""
    version = nvcc_version()
    cuda = torch.version.cuda if torch else None
    advice = ""
    if device == "cuda" and version != cuda:
        advice = f"torch has CUDA {cuda}: torch-cluster for the GPU needs a prebuilt wheel or nvcc {cuda}"
    return Check("nvcc", version or "none", True, advice)


def check_torch_cluster() -> Check:
    """Whether torch-cluster is installed already; if not, the stage of that name gets it."""
    version = provenance.package_version("torch-cluster")
    return Check("torch-cluster", version or "not installed: left to the torch-cluster stage")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``preflight``."""
    parser.description = "Record the machine and check that the workflow can run on it; fail early with advice."
    parser.add_argument("--settings", default="{}", help="device, torch, min_memory_gib, min_disk_gib (JSON or a file)")
    parser.add_argument("--output", required=True, help="the record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Examine, print the table, write the record; a failed check is a :class:`UserError` and leaves no record."""
    device, checks = examine(MachineSettings.from_mapping(load_settings(args.settings)))
    print_table(checks)
    if failed := [check for check in checks if not check.ok]:
        raise UserError("\n".join(f"preflight: {check.name}: {check.value}: {check.advice}" for check in failed))
    found = [dataclasses.asdict(check) for check in checks]
    schema.write(args.output, [schema.record("preflight", device=device, checks=found)])
    return 0


def print_table(checks: list[Check]) -> None:
    """The checks as a table on the screen."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Preflight")
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("")
    table.add_column("what to do", overflow="fold")
    for check in checks:
        verdict = "[red]FAILED" if not check.ok else "[yellow]note" if check.advice else "[green]ok"
        table.add_row(check.name, escape(check.value), verdict, escape(check.advice))
    console = Console()
    # Log files do not wrap lines: use a fixed width there.
    Console(width=console.width if console.is_terminal else 160).print(table)


def _import_torch() -> tuple[ModuleType | None, str]:
    try:
        import torch
    # A torch that is broken can fail in many ways (a library missing, one of another version); each is a finding.
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    return torch, ""
