"""Checks that the structs passed to a compiled kernel have the same size in Python."""

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
        UserError: a size differs, or the library has no such function.
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
