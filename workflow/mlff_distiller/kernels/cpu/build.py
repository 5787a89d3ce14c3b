"""Compiles the C++ kernel for one student's sizes, one dtype and this machine's processor, and caches the result.

Sizes are compiled in: with loops of known length the compiler keeps tiles in registers. This module imports no torch.
"""

import functools
import hashlib
import importlib.util
import subprocess
import time
from pathlib import Path

from mlff_distiller.kernels.compile_time import note_seconds
from mlff_distiller.kernels.new_library import new_library
from mlff_distiller.utils import provenance
from mlff_distiller.utils.compilers import find_compiler, no_compiler, version_of
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import user_cache

HERE = Path(__file__).parent
SOURCE = HERE / "painn.cpp"
#: What programs in C include.
PUBLIC_HEADER = HERE / "mlff.h"
_OWN = ("simd", "gemm", "filters", "neighbors", "wall", "words", "weights", "painn", "domain", "system")
HEADERS = (PUBLIC_HEADER.name, *(f"{name}.hpp" for name in _OWN))
FLAGS = ("-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-fvisibility=hidden", "-shared")
#: Tried in order until one compiles: some compilers do not support this processor, some have no OpenMP.
FLAG_CHOICES = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-fopenmp",),
    ("-march=native",),
    (),
)
DTYPES = {"float32": "float", "float64": "double"}
#: Longest time for one compilation, s; usually it takes about 10 s.
TIMEOUT = 300


def build(sizes: dict[str, int], dtype: str, beside_torch: bool = True) -> Path:
    """Path of the shared library for a student of ``sizes``; compiled unless the user's cache has it.

    Args:
        sizes: ``n_features``, ``mlp_width``, ``readout_width``, ``n_blocks``, ``n_radial``.
        dtype: ``float32`` or ``float64``.
        beside_torch: whether it will run in a process with torch, whose OpenMP runtime it then takes; else the compiler's.

    Raises:
        UserError: no compiler, or it fails (the message has its output).
    """
    reason = no_compiler()
    if reason:
        raise UserError(f"cpp kernel: {reason}")
    defines = defines_of(sizes, dtype)
    runtime = _torch_openmp() if beside_torch else None
    path = user_cache() / "cpp" / _key(defines, runtime) / "painn.so"
    if not path.is_file():
        start = time.perf_counter()
        with new_library(path) as made:
            _compile(defines, made, runtime)
        note_seconds(path, time.perf_counter() - start)
    return path


def defines_of(sizes: dict[str, int], dtype: str) -> list[str]:
    """The compiler's arguments that fix sizes and precision; as :func:`build` has them."""
    return [
        f"-DMLFF_REAL={DTYPES[dtype]}",
        f"-DMLFF_FEATURES={sizes['n_features']}",
        f"-DMLFF_MLP={sizes['mlp_width']}",
        f"-DMLFF_READOUT={sizes['readout_width']}",
        f"-DMLFF_LAYERS={sizes['n_blocks']}",
        f"-DMLFF_RADIAL={sizes['n_radial']}",
    ]


def _key(defines: list[str], runtime: Path | None) -> str:
    """Hash of everything that the machine code depends on."""
    digest = hashlib.sha256()
    for name in (SOURCE.name, *HEADERS):
        digest.update((HERE / name).read_bytes())
    version = version_of(find_compiler()).partition("\n")[0]
    for entry in (version, *FLAGS, repr(FLAG_CHOICES), *defines, provenance.processor(), str(runtime)):
        digest.update(entry.encode() + b"\0")
    return digest.hexdigest()[:24]


@functools.cache
def _torch_openmp() -> Path | None:
    """The OpenMP runtime in torch's wheel; a second runtime's idle threads would compete for the cores."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted((Path(spec.submodule_search_locations[0]) / "lib").glob("libgomp*.so*"))
    return found[0] if found else None


def _compile(defines: list[str], made: Path, runtime: Path | None) -> None:
    compiler = find_compiler()
    complaints = []
    for choice in FLAG_CHOICES:
        command = [*compiler, *FLAGS, *choice, *defines, str(SOURCE), "-o", str(made)]
        if "-fopenmp" in choice and runtime and "clang" not in version_of(compiler).partition("\n")[0]:
            # It is named first and resolves the symbols; --as-needed then leaves out the compiler's own runtime.
            command += ["-Wl,--as-needed", str(runtime), f"-Wl,-rpath,{runtime.parent}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            complaints.append(f"{compiler[0]} took longer than {TIMEOUT} s")
            continue
        if done.returncode == 0:
            return
        complaints.append(done.stderr.strip() or f"{compiler[0]} ended with {done.returncode}")
    raise UserError(f"cpp kernel: {compiler[0]} cannot compile {SOURCE.name}:\n{complaints[0][-2000:]}")
