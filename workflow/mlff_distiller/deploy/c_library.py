"""The C++ kernel in a bundle for programs without Python: header, library, weights, example, and what builds them anew.

::

    mlff.h         the interface, and its documentation
    libmlff.so     the kernel, compiled for this machine's processor; needs the C++ and OpenMP runtimes of the compiler alone
    weights.mlff   the student, in float32, with a checksum
    example.c, Makefile
    source/        what libmlff.so was compiled from
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.deploy import texts
from mlff_distiller.deploy.proof import not_equivalent
from mlff_distiller.kernels.cpu import build
from mlff_distiller.utils.errors import UserError, Words, first_line
from mlff_distiller.utils.files import write_bytes

if TYPE_CHECKING:
    from ase import Atoms

FOLDER = "c"
LIBRARY = "libmlff.so"
WEIGHTS = "weights.mlff"


@dataclass(frozen=True)
class CLibrary:
    """The files of the folder by their names in it, or why there are none."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    missing: Words | None = None

    def write(self, folder: Path) -> None:
        """Write the files into ``folder``, which is made where there are any."""
        for name, contents in self.files.items():
            write_bytes(folder / name, contents)


def make(checkpoint: Path, systems: "Sequence[Atoms]") -> CLibrary:
    """The library of a student, unless it cannot be compiled here, or does not equal the student.

    Args:
        checkpoint: the student (safetensors).
        systems: the molecules on which it is proven; the smallest is that of the example.
    """
    from mlff_distiller.potentials.cpp import CppPotential, build_library, sizes_of, weights_of
    from mlff_distiller.student.checkpoint import load_student

    try:
        student = load_student(checkpoint)
        library = build_library(student, beside_torch=False)
        # One thread: its OpenMP runtime is not that of torch, and two runtimes' threads are in each other's way.
        potential = CppPotential(student, threads=1, library=library)
    except UserError as error:
        return CLibrary(missing=first_line(error))
    if complaint := not_equivalent(potential, checkpoint, "float32", systems):
        return CLibrary(missing=f"it does not equal the student {complaint}")
    sources = {file: (build.HERE / file).read_bytes() for file in (build.SOURCE.name, *build.HEADERS)}
    header = build.PUBLIC_HEADER.name
    defines = build.defines_of(sizes_of(student), "float32")
    files = {
        header: sources.pop(header),
        LIBRARY: library.read_bytes(),
        WEIGHTS: weights_of(student),
        "example.c": texts.c_example(min(systems, key=len)).encode(),
        "Makefile": texts.makefile(build.FLAGS, build.FLAG_CHOICES[0], defines).encode(),
    }
    return CLibrary(files | {f"source/{name}": contents for name, contents in sources.items()})
