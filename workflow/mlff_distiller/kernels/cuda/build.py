"""Compiling the kernels: one shared library for the student's sizes and the device's architecture."""

import ctypes
import hashlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mlff_distiller.kernels.compile_time import note_seconds
from mlff_distiller.kernels.new_library import new_library
from mlff_distiller.student import wall
from mlff_distiller.student.config import StudentConfig
from mlff_distiller.utils.compilers import find_nvcc, nvcc_architectures, nvcc_version, version_of
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import user_cache

SOURCE = Path(__file__).parent
#: The oldest compute capability that the kernels are compiled for.
OLDEST = (8, 0)
FEATURES = 128
MAX_GAUSSIANS = 23


@dataclass(frozen=True)
class Form:
    """A form of molecule.cu: how the weights are dealt out to blocks, and how these exchange features.

    Attributes:
        ranks: blocks of a group, which together hold all weights in shared memory.
        clustered: a group is a cluster of blocks (compute capability 9.0), and they read each other's shared memory.
        shared_limit: bytes of shared memory that one block can have on the cards that the form is for.
    """

    ranks: int
    clustered: bool
    shared_limit: int

    @property
    def flags(self) -> list[str]:
        """For the compiler."""
        clustered = str(self.clustered).lower()
        return [f"-DRANKS={self.ranks}", f"-DCLUSTERED={clustered}", f"-DSHARED_LIMIT={self.shared_limit}"]

    @property
    def needs(self) -> str:
        """What it needs of a card, in words."""
        clusters = "clusters of blocks (compute capability 9.0 or newer) and " if self.clustered else ""
        return f"{clusters}{self.shared_limit // 1024} KB of shared memory a block"

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Whether cards of a compute capability have what it needs."""
        return self.shared_limit <= shared_memory(capability) and (not self.clustered or capability >= (9, 0))


def shared_memory(capability: tuple[int, int]) -> int:
    """Bytes that one block can have on a card of a compute capability, by the CUDA programming guide (table of technical
    specifications); for one that is not in it, the least that any from 8.0 has."""
    most = {(8, 0): 163, (8, 7): 163, (9, 0): 227, (10, 0): 227, (10, 3): 227, (11, 0): 227}
    return most.get(capability, 99) * 1024


#: The forms of molecule.cu, best first.
FORMS = {
    "clusters": Form(ranks=8, clustered=True, shared_limit=227 * 1024),
    "grid16": Form(ranks=16, clustered=False, shared_limit=163 * 1024),
    "grid32": Form(ranks=32, clustered=False, shared_limit=99 * 1024),
}


def form_for(capability: tuple[int, int]) -> str:
    """Of :data:`FORMS`, the best for cards of a compute capability of at least :data:`OLDEST`."""
    return next(name for name, form in FORMS.items() if form.runs_on(capability))


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


def unavailable(form: str | None = None) -> str | None:
    """Why the kernels cannot be built or run here, in words; None when they can.

    Args:
        form: of ``molecule``, one of :data:`FORMS`; the one for the card otherwise.
    """
    import torch

    if not torch.cuda.is_available():
        return "the CUDA kernels need a CUDA device"
    card, name = torch.cuda.get_device_capability(), torch.cuda.get_device_name()
    if card < OLDEST:
        return f"the CUDA kernels need compute capability 8.0 (Ampere) or newer; this is a {name}, {card[0]}.{card[1]}"
    if form and not FORMS[form].runs_on(card):
        return f"form {form} needs {FORMS[form].needs}; this is a {name}, {card[0]}.{card[1]}: use {form_for(card)}"
    nvcc = find_nvcc()
    if nvcc is None:
        return "the CUDA kernels need nvcc (the CUDA toolkit)"
    known = nvcc_architectures(nvcc)
    if known and f"sm_{card[0]}{card[1]}" not in known:
        return (
            f"the CUDA kernels need an nvcc that knows sm_{card[0]}{card[1]} ({name}); {nvcc} is of CUDA {nvcc_version()}: "
            "install a toolkit that does (12.8 or newer for Blackwell) and set CUDA_HOME to it"
        )
    return None


def build(config: StudentConfig, capability: tuple[int, int], name: str, form: str | None = None) -> Path:
    """The shared library of ``name``.cu, from the user's cache when it was built before.

    Args:
        config: the student's sizes.
        capability: compute capability of the card.
        name: of the source file.
        form: of ``molecule``, one of :data:`FORMS`; the one for the card otherwise.

    Raises:
        UserError: no compiler, sizes that do not fit, or nvcc failed.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise UserError("nvcc not found; install the CUDA toolkit or use the variant triton")
    architecture = f"sm_{capability[0]}{capability[1]}"
    flags = ["-O3", "-std=c++17", f"-arch={architecture}", "-shared", "-Xcompiler", "-fPIC", *definitions(config)]
    if name == "molecule":
        form = form or form_for(capability)
        if not FORMS[form].runs_on(capability):
            raise UserError(f"form {form} needs {FORMS[form].needs}; for {architecture} use {form_for(capability)}")
        flags += FORMS[form].flags
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
