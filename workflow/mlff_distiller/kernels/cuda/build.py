"""Compiling the kernels: one shared library for the student's sizes and the device's architecture."""

import ctypes
import hashlib
import subprocess
import time
from pathlib import Path

from mlff_distiller.kernels.compile_time import note_seconds
from mlff_distiller.kernels.new_library import new_library
from mlff_distiller.student import wall
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.utils.compilers import find_nvcc, version_of
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import user_cache

SOURCE = Path(__file__).parent
FEATURES = 128
MAX_GAUSSIANS = 23


def padded(width: int) -> int:
    """The next multiple of 4: rows are read 16 bytes at a time."""
    return (width + 3) // 4 * 4


def definitions(config: StudentConfig) -> list[str]:
    """What is compiled in, as compiler flags; by ``BUILT_FOR`` a library says it.

    Raises:
        UserError: sizes for which the kernels are not written.
    """
    return [*(f"-D{name}={value}" for name, value in _compiled_in(config).items()), f"-DBUILT_FOR={_built_for(config)}"]


def _compiled_in(config: StudentConfig) -> dict[str, int | str]:
    """The student's sizes, and constants that are written down elsewhere."""
    if config.n_features != FEATURES:
        raise UserError(f"the CUDA kernels are written for n_features {FEATURES}, not {config.n_features}")
    if config.n_radial > MAX_GAUSSIANS:
        raise UserError(f"the CUDA kernels take at most {MAX_GAUSSIANS} Gaussians, not {config.n_radial}")
    if config.n_blocks < 2:
        raise UserError(f"the CUDA kernels need n_blocks of at least 2, not {config.n_blocks}")
    return {
        "FEATURES": config.n_features,
        "HIDDEN": padded(config.mlp_width),
        "READOUT": padded(config.readout_width),
        "GAUSSIANS": config.n_radial,
        "LAYERS": config.n_blocks,
        "ELEMENTS": config.max_atomic_number + 1,
        "NORM_EPSILON": f"{config.norm_epsilon!r}f",
        "WALL_REST": f"{wall.REST!r}f",
    }


def check_built_for(path: Path, library: ctypes.CDLL, name: str, config: StudentConfig) -> None:
    """Refuse a compiled library that has other sizes or constants than a student.

    Args:
        path: of the library, for the message.
        library: compiled from ``name``.cu.
        name: of its source.
        config: the student's.

    Raises:
        UserError: it was compiled for another student; both are named.
    """
    tell = getattr(library, f"{name}_built_for")
    tell.restype = ctypes.c_char_p
    compiled, wanted = tell().decode(), _built_for(config)
    if compiled != wanted:
        raise UserError(
            f"{path}: compiled for another student ({compiled}; this one is {wanted}); "
            "run the compile stage again for this one"
        )


def _built_for(config: StudentConfig) -> str:
    """The same as one word that a compiler takes for a name."""
    words = (f"{name}_{value}" for name, value in _compiled_in(config).items())
    return "_".join(words).translate({ord("."): "p", ord("-"): "m"})


def unavailable() -> str | None:
    """Why the kernels cannot be built or run here, in words; None when they can."""
    import torch

    if not torch.cuda.is_available():
        return "the CUDA kernels need a CUDA device"
    if torch.cuda.get_device_capability() < (9, 0):
        return f"the CUDA kernels need clusters of blocks (Hopper or newer); this is a {torch.cuda.get_device_name()}"
    if find_nvcc() is None:
        return "the CUDA kernels need nvcc (the CUDA toolkit)"
    return None


def build(config: StudentConfig, architecture: str, name: str = "molecule") -> Path:
    """The shared library of ``name``.cu, from the user's cache when it was built before.

    Args:
        config: the student's sizes.
        architecture: such as ``sm_90``.
        name: of the source file.

    Raises:
        UserError: no compiler, sizes that do not fit, or nvcc failed.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise UserError("nvcc not found; install the CUDA toolkit or use the variant triton")
    flags = ["-O3", "-std=c++17", f"-arch={architecture}", "-shared", "-Xcompiler", "-fPIC", *definitions(config)]
    digest = hashlib.sha256(" ".join([*flags, version_of((nvcc,))]).encode())
    for file in sorted([*SOURCE.glob("*.cu"), *SOURCE.glob("*.cuh")]):
        digest.update(file.name.encode() + file.read_bytes())
    library = user_cache() / "cuda" / f"{name}-{digest.hexdigest()[:16]}.so"
    if not library.is_file():
        start = time.perf_counter()
        with new_library(library) as made:
            done = subprocess.run(
                [nvcc, *flags, str(SOURCE / f"{name}.cu"), "-o", str(made)], capture_output=True, text=True
            )
            if done.returncode:
                raise UserError(f"nvcc could not compile {name}.cu:\n{done.stderr[-4000:]}")
        note_seconds(library, time.perf_counter() - start)
    return library
