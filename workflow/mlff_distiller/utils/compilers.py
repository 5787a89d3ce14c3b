"""The compilers of this machine: where they are, and what to say when there is none."""

import functools
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlff_distiller.utils import provenance
from mlff_distiller.utils.errors import Words

COMPILERS = ("c++", "g++", "clang++")


def find_compiler() -> tuple[str, ...] | None:
    """The command of a C++ compiler as PyTorch looks for it: ``$CXX`` (with arguments), else the first of
    :data:`COMPILERS`; None when there is none."""
    for candidate in (os.environ.get("CXX"), *COMPILERS):
        if candidate and (path := shutil.which(shlex.split(candidate)[0])):
            return (path, *shlex.split(candidate)[1:])
    return None


def no_compiler() -> Words | None:
    """What is missing and how to get it, in words; None when there is a C++ compiler."""
    if find_compiler() is None:
        return f"no C++ compiler ({', '.join(COMPILERS)} or $CXX) on this machine; on Debian: `apt-get install g++`"
    return None


def find_nvcc() -> str | None:
    """The CUDA compiler that PyTorch would use: of ``$CUDA_HOME``, else on the PATH, else in its usual place."""
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        return shutil.which(str(Path(home, "bin", "nvcc")))
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def nvcc_version() -> str | None:
    """``major.minor`` of :func:`find_nvcc`; None without one."""
    nvcc = find_nvcc()
    found = re.search(r"release (\d+\.\d+)", version_of((nvcc,))) if nvcc else None
    return found.group(1) if found else None


@functools.cache
def nvcc_architectures(nvcc: str) -> frozenset[str]:
    """What this CUDA compiler makes machine code for, such as ``sm_90``; empty where it does not tell."""
    return frozenset(re.findall(r"sm_\d+", provenance.output_of([nvcc, "--list-gpu-code"]) or ""))


@functools.cache
def version_of(compiler: tuple[str, ...]) -> str:
    """What a compiler says to ``--version``; empty where it says nothing."""
    return provenance.output_of([*compiler, "--version"]) or ""


@contextmanager
def small_numbers_kept() -> Iterator[None]:
    """For the first calls of what Inductor compiles, which load its libraries.

    Inductor compiles with `-ffast-math`. GCC before version 13 then adds code that runs when the library is loaded, and makes
    the thread round all numbers below the normal ones (float64: 2e-308) to zero from then on, in whatever it computes.
    """
    import torch

    try:
        yield
    finally:
        torch.set_flush_denormal(False)
