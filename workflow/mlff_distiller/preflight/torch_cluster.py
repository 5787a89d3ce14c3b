"""torch-cluster: found, fetched or built once, and cached for every later run; its failure stops nothing else.

torch-cluster is a compiled extension that fits one Python, one torch, one CUDA and one kind of processor only, and the
package index has its source alone. So it is not in the locked environment: this stage puts a tested wheel into the
user's cache, under a key that names all four, and
:func:`~mlff_distiller.neighbors.torch_cluster_wheel.activate` takes it from there.

    <user cache>/torch-cluster/<key>/<prebuilt|built>/   the wheel, and site/: the wheel unpacked, ready to import

Not to be confused with the package ``torch_cluster`` itself, which this module only ever imports absolutely.
"""

import argparse
import contextlib
import hashlib
import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mlff_distiller.neighbors.torch_cluster_wheel import Key, cache_folder, current_key
from mlff_distiller.preflight.torch_cluster_settings import TorchClusterSettings
from mlff_distiller.records import schema
from mlff_distiller.utils import provenance
from mlff_distiller.utils.compilers import no_compiler, nvcc_version
from mlff_distiller.utils.errors import UserError, Words
from mlff_distiller.utils.files import CHECKOUT, exclusive, load_settings

VERSION = "1.6.3"
#: The source archive, pinned with its hash.
LOCK = CHECKOUT / "envs" / "torch-cluster.lock"
#: Memory that one compiler process may take for torch's headers.
GIB_PER_BUILD_JOB = 2.0
#: Seconds after which a download or a build that hangs is stopped.
DOWNLOAD_TIMEOUT, BUILD_TIMEOUT = 120, 3600
#: Imports torch-cluster and checks radius() on six points against pairs found by hand, on the GPU too if built for
#: it. Prints one line of JSON. Runs in a process of its own: a wheel for another torch can crash it.
_TRIAL = """
import json, sys
import torch
sys.path[:0] = sys.argv[1:]
import torch_cluster
has_cuda = int(torch.ops.torch_cluster.cuda_version()) != -1
for device in ["cpu"] + ["cuda"] * (has_cuda and torch.cuda.is_available()):
    points = torch.tensor([[0.0], [1.0], [2.5], [0.0], [0.5], [9.0]], device=device)
    batch = torch.tensor([0, 0, 0, 1, 1, 1], device=device)
    found = torch_cluster.radius(points, points, 1.2, batch, batch).cpu()
    pairs = sorted(map(tuple, found.t().tolist()))
    expected = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3), (3, 4), (4, 3), (4, 4), (5, 5)]
    if pairs != expected:
        raise SystemExit(f"radius() on {device} found {pairs} instead of {expected}")
print(json.dumps({"version": torch_cluster.__version__, "has_cuda": has_cuda}))
"""


class Unavailable(Exception):
    """This route failed; the text says why."""


def obtain(settings: TorchClusterSettings, cores: int | None = None) -> dict[str, Any]:
    """Find, fetch or build torch-cluster by the routes that ``settings.mode`` allows, in this order: already
    installed (auto), the cache, a prebuilt wheel (auto, prebuilt), the source archive (auto, build).

    Args:
        settings: ``mode`` (auto | prebuilt | build | off), ``find_links`` (address of an index page in which
            ``{torch}`` and ``{cuda}`` are filled in, or a local folder of wheels; null: no prebuilt wheels) and
            ``build_jobs`` (compiler processes at a time; null: as many as cores and memory allow).
        cores: that a build may use; None: all that this process may run on.

    Returns:
        A record of kind ``torch_cluster`` with ``mode``, ``route`` ("already installed" | "cache" | "prebuilt" |
        "built from source", null if unavailable), ``origin`` ("installed" | "prebuilt" | "built"), ``key``,
        ``version``, ``has_cuda`` and ``build_s`` (null unless built now). Status ``unavailable`` carries the reason;
        nothing is raised for a route that fails.
    """
    mode = settings.mode
    made = {"mode": mode} | dict.fromkeys(("route", "origin", "key", "version", "has_cuda", "build_s"))
    if mode == "off":
        return _unavailable(made, "switched off in the configuration (torch_cluster: mode: off)")
    try:
        key = current_key()
    except Exception as error:
        return _unavailable(made, f"torch does not load: {error}")
    made["key"] = str(key)

    if mode == "auto" and importlib.util.find_spec("torch_cluster"):
        with contextlib.suppress(Unavailable):
            return _available(made, "already installed", "installed", try_out(None))

    origins = {"auto": ("prebuilt", "built"), "prebuilt": ("prebuilt",), "build": ("built",)}[mode]
    folder = cache_folder(str(key))
    with exclusive(folder, waiting="torch-cluster: another run is getting it; waiting for it") as alone:
        # The process that held the lock has ended, so its unfinished work is of no use.
        for leftover in folder.glob(".work-*") if alone else ():
            shutil.rmtree(leftover, ignore_errors=True)
        for origin in origins:
            if (folder / origin).is_dir():
                try:
                    return _available(made, "cache", origin, try_out(folder / origin / "site"))
                except Unavailable as why:
                    _say(f"the copy in the cache no longer works ({why}); getting it anew")
                    shutil.rmtree(folder / origin)
        reasons = []
        for origin in origins:
            start = time.monotonic()
            try:
                get = fetch_prebuilt if origin == "prebuilt" else partial(build, cores=cores)
                found = _keep(folder, origin, lambda work, get=get: get(key, settings, work))
            except (Unavailable, OSError) as why:
                reasons.append(f"{'prebuilt' if origin == 'prebuilt' else 'from source'}: {why}")
                _say(reasons[-1])
                continue
            if origin == "built":
                made["build_s"] = round(time.monotonic() - start, 1)
            return _available(made, "prebuilt" if origin == "prebuilt" else "built from source", origin, found)
    return _unavailable(made, "; ".join(reasons))


def try_out(site: Path | None) -> dict[str, Any]:
    """Import torch-cluster from ``site`` (null: as installed) in a fresh process and run ``radius`` on six points.

    Returns:
        ``{"version", "has_cuda"}``.

    Raises:
        Unavailable: it does not import, crashes, or finds other pairs than there are.
    """
    command = [sys.executable, "-c", _TRIAL, *([str(site)] if site else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        raise Unavailable("it does not answer") from None
    if done.returncode:
        raise Unavailable(f"it does not work with this torch ({_last_line(done.stderr, done.returncode)})")
    return json.loads(done.stdout.splitlines()[-1])


def fetch_prebuilt(key: Key, settings: TorchClusterSettings, work: Path) -> Path:
    """Put the prebuilt wheel for ``key`` into folder ``work``; the first place that has one wins.

    From an index page only the wheel labelled for exactly this torch and CUDA is taken; from a local folder also one
    without a label, as one's own build makes it.

    Raises:
        Unavailable: nothing suitable there.
    """
    places = index_places(settings.find_links, key)
    if not places:
        raise Unavailable("no index page or folder of wheels is configured (torch_cluster: find_links)")
    reasons = []
    for place in places:
        local = Path(place).is_dir()
        if not local and "://" not in place:
            raise Unavailable(f"{place}: no such folder, and no address")
        for requirement in (f"torch-cluster==={VERSION}+{key.label}", *([f"torch-cluster==={VERSION}"] * local)):
            command = ["download", "--no-index", "--find-links", place, "--only-binary", ":all:", "--dest", str(work)]
            # One short try: without a network, the build should begin at once.
            done = _pip([*command, "-vv", "--timeout", "15", "--retries", "0", requirement], DOWNLOAD_TIMEOUT)
            wheels = list(work.glob("*.whl"))
            if done.returncode == 0 and wheels:
                return wheels[0]
        # A failed connection shows in pip's debug output only; its error is that there is no such version.
        failed = re.search(r"Could not fetch URL \S+?: (.+?)( - skipping)?$", done.stdout + done.stderr, re.MULTILINE)
        what = f"no wheel {VERSION}+{key.label} for {key.python} on {platform.machine()}"
        reasons.append(f"{place}: {(_no_connection(failed.group(1)) or failed.group(1)) if failed else what}")
    raise Unavailable("; ".join(reasons))


def index_places(find_links: str | None, key: Key) -> list[str]:
    """Where prebuilt wheels may be: ``find_links`` with ``{torch}`` and ``{cuda}`` filled in; for a page also that of
    the minor version's first release, since one set of wheels serves all releases of a minor version."""
    if not find_links:
        return []
    first = ".".join([*key.torch.split(".")[:2], "0"])
    versions = [key.torch] + ([first] if "{torch}" in find_links and first != key.torch else [])
    return [find_links.replace("{torch}", version).replace("{cuda}", key.flavor) for version in versions]


def build(key: Key, settings: TorchClusterSettings, work: Path, cores: int | None = None) -> Path:
    """Build the wheel from the hash-pinned source archive in folder ``work``, several files at a time, without debug
    information (which takes more than half of the time), with the progress on the screen.

    Raises:
        Unavailable: no compiler or Python headers, no source archive, or the compiler's first error.
    """
    if reason := no_compiler():
        raise Unavailable(reason)
    jobs = settings.build_jobs or default_build_jobs(cores)
    environment = _build_environment(key, jobs, work)
    wheels, log = work / "wheels", work / "build.log"
    command = ["wheel", "--verbose", "--require-hashes", "--no-deps", "--no-build-isolation", "--no-binary", ":all:"]
    # pip's cache of wheels does not tell apart wheels built against different versions of torch.
    command += ["--no-cache-dir", "--wheel-dir", str(wheels), "--requirement", str(LOCK)]
    if settings.find_links and Path(settings.find_links).is_dir():
        command += ["--find-links", settings.find_links]
    _say(f"building {VERSION} from source ({key}), {jobs} files at a time; kept in the cache for later runs")
    with log.open("wb") as stream:
        builder = subprocess.Popen(
            [sys.executable, "-m", "pip", *command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # so that its compilers can be ended with it
        )
        try:
            _watch(builder, work, "FORCE_ONLY_CUDA" in environment)
        finally:
            if builder.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(builder.pid, signal.SIGKILL)
                builder.wait()
    found = list(wheels.glob("*.whl"))
    if builder.returncode or not found:
        said = log.read_text(encoding="utf-8", errors="replace")
        if _was_stopped(said, builder.returncode):
            # Not a record of status unavailable: the next run would find it and not build again.
            raise UserError("torch-cluster: the build was stopped from outside; run the workflow again to build it")
        raise Unavailable(_build_error(said, builder.returncode))
    return found[0]


def default_build_jobs(cores: int | None = None) -> int:
    """As many compilers as there are cores, or as ``cores`` says, as long as each has :data:`GIB_PER_BUILD_JOB` of memory."""
    by_memory = int((provenance.memory_gib() or GIB_PER_BUILD_JOB) / GIB_PER_BUILD_JOB)
    usable = provenance.usable_cores()
    return max(1, min(usable if cores is None else min(cores, usable), by_memory))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``torch-cluster``."""
    parser.description = "Find, fetch or build torch-cluster for this Python, torch, CUDA and processor."
    parser.add_argument("--settings", default="{}", help="mode, find_links, build_jobs (JSON text or a file)")
    parser.add_argument("--output", required=True, help="the record to write (JSON)")
    parser.add_argument("--cores", type=int, help="that a build may use (default: all)")


def run(args: argparse.Namespace) -> int:
    """Obtain torch-cluster and write the record; that it is unavailable is a result, not an error."""
    made = obtain(TorchClusterSettings.from_mapping(load_settings(args.settings)), args.cores)
    if made["status"] == "ok":
        built = f" in {_duration(made['build_s'])}" if made["build_s"] else ""
        _say(f"{made['version']} for {made['key']}: {made['route']}{built}")
    else:
        _say(f"unavailable: {made['reason']}")
    schema.write(args.output, [made])
    return 0


def _available(made: dict[str, Any], route: str, origin: str, found: dict[str, Any]) -> dict[str, Any]:
    return schema.record("torch_cluster", **made | {"route": route, "origin": origin} | found)


def _unavailable(made: dict[str, Any], reason: str) -> dict[str, Any]:
    return schema.record("torch_cluster", **made, status="unavailable", reason=reason)


def _keep(folder: Path, origin: str, get: Any) -> dict[str, Any]:
    """Have ``get(work folder)`` make a wheel, unpack it, try it out, and only then move both to ``folder/origin``."""
    with _stopped_by_sigterm():
        work = Path(tempfile.mkdtemp(prefix=".work-", dir=folder))
        try:
            wheel = get(work)
            finished = work / "finished"
            finished.mkdir()
            target = ["--no-index", "--no-deps", "--no-compile", "--target", str(finished / "site")]
            done = _pip(["install", *target, str(wheel)], DOWNLOAD_TIMEOUT)
            if done.returncode:
                raise Unavailable(f"the wheel does not unpack ({_last_line(done.stderr, done.returncode)})")
            found = try_out(finished / "site")
            data = wheel.read_bytes()
            shutil.copy2(wheel, finished / wheel.name)
            (finished / f"{wheel.name}.sha256").write_text(
                f"{hashlib.sha256(data).hexdigest()}  {wheel.name}\n", encoding="utf-8"
            )
            os.replace(finished, folder / origin)
            return found
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM (how Snakemake and batch systems end a job) raise, so that unfinished work is removed."""

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, where signals arrive
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _build_environment(key: Key, jobs: int, work: Path) -> dict[str, str]:
    scratch = work / "scratch"
    scratch.mkdir()
    options = work / "distutils.cfg"
    options.write_text(f"[build_ext]\nparallel={jobs}\n", encoding="utf-8")
    environment = os.environ | {
        "TMPDIR": str(scratch),
        "DIST_EXTRA_CONFIG": str(options),
        # No debugging information, a quarter less to compile: older setuptools give CFLAGS to C++ too, newer ones CXXFLAGS.
        "CFLAGS": f"{os.environ.get('CFLAGS', '')} -g0".strip(),
        "CXXFLAGS": f"{os.environ.get('CXXFLAGS', '')} -g0".strip(),
        "MAX_JOBS": str(jobs),
        # The build must use this environment's packages only.
        "PYTHONPATH": "",
    }
    if key.flavor == "cpu":
        return environment | {"FORCE_ONLY_CPU": "1"}
    nvcc = nvcc_version()
    if nvcc is None or "cu" + nvcc.replace(".", "") != key.flavor:
        have = f"nvcc is {nvcc}" if nvcc else "there is no nvcc"
        _say(f"torch is built for {key.flavor} and {have}: building for the CPU only")
        return environment | {"FORCE_ONLY_CPU": "1"}
    capability = key.processor.rpartition("-sm")[2]
    # The CUDA extensions hold the CPU code too. Built together with CPU extensions, both would write the same object files,
    # possibly at the same time.
    return environment | {"FORCE_ONLY_CUDA": "1", "TORCH_CUDA_ARCH_LIST": f"{capability[:-1]}.{capability[-1]}"}


def _watch(builder: subprocess.Popen, work: Path, with_cuda: bool) -> None:
    """Say how far the build is, every few seconds while that changes."""
    start = said_at = time.monotonic()
    said = -1
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            builder.wait(timeout=2)
            return
        elapsed = time.monotonic() - start
        if elapsed > BUILD_TIMEOUT:
            raise Unavailable(f"the build did not end within {_duration(BUILD_TIMEOUT)}")
        objects = sum(name.endswith(".o") for name in _files_under(work / "scratch"))
        # Every 5 seconds after progress, else every 30, to keep logs short.
        if time.monotonic() - said_at > (5 if objects != said else 30):
            total = _count_sources(work, with_cuda)
            of = f" of {total}" if total else ""
            _say(f"{objects}{of} files compiled, {_duration(elapsed)}")
            said, said_at = objects, time.monotonic()


def _count_sources(work: Path, with_cuda: bool) -> int:
    """How many files the build will compile, once the archive is unpacked (0 before)."""
    source = r"/csrc/([^/]+\.cpp|cpu/[^/]+_cpu\.cpp" + (r"|cuda/[^/]+_cuda\.cu" if with_cuda else "") + ")$"
    return sum(re.search(source, name) is not None for name in _files_under(work / "scratch"))


def _files_under(folder: Path) -> Iterator[str]:
    """Paths of files; folders that pip removes meanwhile are skipped, where ``Path.glob`` would raise."""
    for parent, _, names in os.walk(folder):
        yield from (f"{parent}/{name}" for name in names)


def _was_stopped(log: str, returncode: int) -> bool:
    """Whether pip or one of its compilers was ended by SIGINT or SIGTERM, as when a run is interrupted."""
    stopped = (-signal.SIGINT, -signal.SIGTERM)
    return returncode in stopped or any(int(status) in stopped for status in re.findall(r"exit status (-\d+)\b", log))


def _no_connection(words: str) -> Words:
    """pip's reason for a failed connection, shortened; empty for other messages."""
    failed = re.search(r"Failed to establish a new connection: (?:\[Errno -?\d+\] )?([^'\")]+)", words)
    return f"no connection ({failed.group(1).strip()})" if failed else ""


def _build_error(log: str, returncode: int) -> Words:
    """The most informative line of the build's log."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any("Python.h: No such file" in line for line in lines):
        return "Python's headers are missing; on Debian or Ubuntu: apt-get install python3-dev"
    if "No matching distribution found" in log and (offline := _no_connection(log)):
        return f"the source archive could not be downloaded: {offline}"
    for sign in ("fatal error:", " error:", "ERROR: ", "Error: ", "error: "):
        if found := [line for line in lines if sign in line]:
            # Without the temporary path in front of the compiler's words.
            return "the build failed: " + found[0][found[0].find(sign) :].strip()
    return f"the build failed ({lines[-1] if lines else 'no message'}; exit status {returncode})"


def _pip(arguments: list[str], timeout: int) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", arguments[0], "--no-deps", "--disable-pip-version-check"]
    try:
        return subprocess.run([*command, *arguments[1:]], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"Could not fetch URL -: no answer within {timeout} s")


def _last_line(text: str, returncode: int) -> Words:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {returncode}, no message"


def _duration(seconds: float) -> Words:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _say(text: str) -> None:
    print(f"torch-cluster: {text}", file=sys.stderr, flush=True)
