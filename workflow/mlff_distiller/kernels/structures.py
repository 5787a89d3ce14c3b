"""Structs that Python and a compiled kernel share must be the same on both sides: memory is written by their layout."""

import ctypes
from pathlib import Path

from mlff_distiller.utils.errors import UserError


def check_sizes(path: Path | str, library: ctypes.CDLL, sizes: dict[str, int]) -> None:
    """Compare sizes of structs with those that a library was compiled with.

    Args:
        path: of the library, for the message.
        library: exports each function that is named.
        sizes: name of a function that returns the size of a struct -> bytes that it has in Python.

    Raises:
        UserError: a size differs, or the library does not tell it.
    """
    for function, expected in sizes.items():
        try:
            compiled = getattr(library, function)()
        except AttributeError:
            compiled = "no"
        if compiled != expected:
            raise UserError(
                f"{path}: compiled from other sources than this package's ({function}: {compiled} bytes, here {expected}); "
                "delete it and run the compile stage again"
            )
