"""The C++ kernel: hand-derived forces, vectorized and threaded, compiled by the system's compiler in seconds."""

from mlff_distiller.kernels.compile_time import copy_seconds
from mlff_distiller.potentials.cpp import CppPotential, build_library
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.utils.files import write_bytes
from mlff_distiller.variants.base import VariantFamily

ARTIFACT = "painn.so"


class Cpp(VariantFamily):
    """No options. The artifact is a program for this machine's processor: load only what this workflow built."""

    only_device = "cpu"

    def unavailable(self, spec, device):
        """It needs the CPU and a compiler."""
        if device != "cpu":
            return f"the C++ kernel runs on the CPU; this run measures {device}"
        return no_compiler()

    def build(self, student, spec, folder):
        """Compile, or take from the user's cache, and copy."""
        library = build_library(student)
        write_bytes(folder / ARTIFACT, library.read_bytes())
        copy_seconds(library, folder)
        return ARTIFACT

    def load(self, student, spec, folder):
        """The potential; it uses as many threads as torch does."""
        return CppPotential(student, library=folder / ARTIFACT)

    def in_double(self, student):
        """The kernel for fp64, from the user's cache or built."""
        return CppPotential(student)


FAMILY = Cpp()
