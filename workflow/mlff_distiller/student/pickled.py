"""Reads a pickled PyTorch module without running any code of the file, and without the package that its classes are from.

A pickle may call any function. Here every class and function that it names, but tensors and plain containers, becomes an inert
:class:`Shell` that remembers its name and what it held, so that a model's parts can be looked at by name.
"""

import pickle
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch

from mlff_distiller.utils.errors import UserError, first_line

#: What is made as it is; all else is a shell.
PLAIN = {
    ("collections", "OrderedDict"),
    ("builtins", "set"),
    ("__builtin__", "set"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
}
#: Of tensors.
DTYPES = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool", "uint8")


class Shell:
    """An object of a class that was not imported; what it held is in its ``__dict__``."""

    #: Full name of the class or function.
    known_as: ClassVar[str] = ""

    def __init__(self, *arguments: Any, **named: Any):
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)

    def __call__(self, *arguments: Any, **named: Any) -> "Shell":
        return Shell(*arguments)

    # Lists, mappings and sets of other packages are filled by these.
    def append(self, item: Any) -> None:
        """Dropped."""

    def extend(self, items: Any) -> None:
        """Dropped."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Dropped."""

    def part(self, name: str) -> Any:
        """The submodule ``name``; None where there is none."""
        return self.__dict__.get("_modules", {}).get(name)

    def parts(self) -> "list[Shell]":
        """Submodules in their order."""
        return list(self.__dict__.get("_modules", {}).values())

    def tensor(self, name: str) -> Any:
        """The parameter or buffer ``name``; None where there is none."""
        found = self.__dict__.get("_parameters", {}).get(name)
        return self.__dict__.get("_buffers", {}).get(name) if found is None else found

    def walk(self, prefix: str = "") -> "Iterator[tuple[str, Shell]]":
        """This module and all below it, with the names that a state dict has before the tensors' own."""
        yield prefix, self
        for name, part in self.__dict__.get("_modules", {}).items():
            if isinstance(part, Shell):
                yield from part.walk(f"{prefix}{name}.")


def name_of(thing: Any) -> str:
    """Full name of a shell's class, or of a class or function that was met; of all else that of its type."""
    # Some functions of C are pickled as attributes.
    if isinstance(thing, Shell) and thing.known_as in ("builtins.getattr", "__builtin__.getattr"):
        return f"{name_of(thing.arguments[0])}.{thing.arguments[1]}"
    known = thing if isinstance(thing, type) else type(thing)
    return known.known_as if issubclass(known, Shell) else f"{known.__module__}.{known.__qualname__}"


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN or (module == "torch" and name in DTYPES):
            return super().find_class(module, name)
        return type(name.rpartition(".")[2], (Shell,), {"known_as": f"{module}.{name}"})


def read_pickled(path: str | Path) -> Any:
    """What :func:`torch.save` wrote to ``path``, tensors on the CPU, objects as shells.

    Raises:
        UserError: missing, damaged, or not written by PyTorch 1.6 or newer.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: not a file of torch.save in the form of PyTorch 1.6 or newer; load it where it was made and save it again"
        )
    reader = types.ModuleType("reader")
    reader.Unpickler = _Unpickler  # type: ignore[attr-defined]
    try:
        return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except Exception as error:
        # What a damaged pickle meets has many names.
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {first_line(error)})") from None
