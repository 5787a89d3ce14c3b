"""ctypes binding of a compiled kernel. Calls release the GIL; any number of threads may call at the same time.

Models are opened as programs in C open them (``mlff.h``); energies are computed by calls of the library that only this package
makes, on batches that :class:`~mlff_distiller.potentials.checks.InputCheck` has checked.
"""

import ctypes
import weakref
from pathlib import Path

from mlff_distiller.utils.errors import UserError

#: Of ``mlff.h``, and of the calls for this package alone.
INTERFACE_VERSION, BATCH_VERSION = 5, 1
#: Bytes of a message.
MESSAGE = 1024
OK, BAD_POSITION, COINCIDING, BAD_NUMBER, BAD_CELL, BAD_BATCH, OUT_OF_MEMORY = range(7)
#: What is wrong with one atom.
OF_ATOMS = (BAD_POSITION, COINCIDING, BAD_NUMBER)

_pointer, _int64, _int, _double, _size = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double, ctypes.c_size_t
_VERSIONS = {"mlff_interface_version": INTERFACE_VERSION, "mlff_batch_version": BATCH_VERSION}
_SIGNATURES = {
    "mlff_interface_version": (_int, []),
    "mlff_batch_version": (_int, []),
    "mlff_open_memory": (_pointer, [ctypes.c_char_p, _size, ctypes.c_char_p, _size]),
    "mlff_free": (None, [_pointer]),
    "mlff_evaluate_batch": (_int, [_pointer, _int, _int64, _int64, *[_pointer] * 9]),
    "mlff_explain": (None, [_int, _pointer, _pointer, ctypes.c_char_p, _size]),
    "mlff_neighbors": (_int, [_double, _int64, _int64, *[_pointer] * 4, *[_pointer] * 3]),
    "mlff_take_neighbors": (None, [_pointer] * 4),
}


def load_library(path: str | Path) -> ctypes.CDLL:
    """Load the kernel at ``path`` and declare its signatures.

    Raises:
        UserError: it cannot be loaded here, or it is of another version of this package.
    """
    advice = "delete it and run the compile stage again"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise UserError(f"{path}: not a kernel for this machine ({error}); {advice}") from error
    for name, expected in _VERSIONS.items():
        if (version := getattr(library, name)()) != expected:
            raise UserError(f"{path}: {name} is {version}, this package has {expected}; {advice}")
    return library


class Model:
    """The packed weights; freed together with this object.

    Args:
        library: from :func:`load_library`.
        weights: from :func:`mlff_distiller.kernels.cpu.weights.weights_bytes`; copied by the constructor.

    Raises:
        UserError: the library was compiled for other sizes, or memory is short.
    """

    def __init__(self, library: ctypes.CDLL, weights: bytes):
        words = ctypes.create_string_buffer(MESSAGE)
        self.handle = library.mlff_open_memory(weights, len(weights), words, MESSAGE)
        if not self.handle:
            raise UserError(f"cpp kernel: {words.value.decode()}")
        self._free = weakref.finalize(self, library.mlff_free, self.handle)


def explain(library: ctypes.CDLL, status: int, where: ctypes.Array, positions: int) -> str:
    """The message for a status other than OK; ``where`` and the address of the positions are those of the call."""
    words = ctypes.create_string_buffer(MESSAGE)
    library.mlff_explain(status, where, positions, words, MESSAGE)
    return words.value.decode()
