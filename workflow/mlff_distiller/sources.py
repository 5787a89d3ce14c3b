"""What a stage's code means, file by file, read from the source files without importing anything.

The rules have it as a parameter, so that an edit reruns exactly the jobs whose result it can change: a module counts for
the stages that import it, and what only people read counts for none: comments, docstrings, help texts (of arguments and
settings), and the wording of errors, of what is printed, and of functions that return
:data:`~mlff_distiller.utils.errors.Words`.
"""

import ast
import contextlib
import functools
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import CHECKOUT, user_cache, write_json

PACKAGE = "mlff_distiller"
ROOT = Path(__file__).resolve().parent
#: What a module's folder may hold besides Python that is compiled into a kernel.
KERNEL_SUFFIXES = (".h", ".cpp", ".hpp", ".cu", ".cuh")
#: Arguments of argparse that only people read.
_HELP = ("help", "description", "epilog", "metavar")
#: Functions whose arguments only people read.
_SAYING = ("print", "warn", "_say")
#: Text in C.
_C_STRING = r'"(?:[^"\\\n]|\\.)*"'
#: Arguments of pydantic's ``Field`` that only people read.
_FIELD_HELP = ("description", "title", "examples")


def code_of(*modules: str) -> list[str]:
    """``"<file> <digest>"`` for each file of :func:`sources_of`; a digest changes with the meaning of its file alone.

    Raises:
        ValueError: there is no such module.
    """
    code = [f"{name} {_read(CHECKOUT / name).digest}" for name in sources_of(*modules)]
    _keep()
    return code


def sources_of(*modules: str) -> list[str]:
    """Files behind ``modules`` (such as ``"variants.families.eager"``) and all they import from this package, sorted.

    Paths are relative to the checkout (``workflow/mlff_distiller/...``). Imports inside functions count too, and so do the
    C++ and CUDA files that lie beside a module.

    Raises:
        ValueError: there is no such module.
    """
    found: set[Path] = set()
    waiting = [_file_of(module) for module in modules]
    if None in waiting:
        raise ValueError(f"no such module among {modules}")
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            found.update(_kernels_in(file.parent))
            waiting += _needed_by(file)
    return sorted(str(path.relative_to(CHECKOUT)) for path in found)


@functools.cache
def _needed_by(file: Path) -> tuple[Path, ...]:
    """Files of this package that importing ``file`` runs: those it imports, and the ``__init__`` of the packages around it."""
    folders = file.relative_to(ROOT).parts[:-1]
    around = [".".join(folders[:depth]) for depth in range(len(folders) + 1)]
    return tuple({path: None for path in map(_file_of, (*imports_of(file), *around)) if path is not None})


def imports_of(file: Path) -> frozenset[str]:
    """Modules of this package that ``file`` imports, named without the package's name."""
    # In ``from a import b``, b is a module or something in a.
    within = ((f"{module}.{name}".strip("."), module) for module, name in _read(file).imports)
    return frozenset(longer if _file_of(longer) else module for longer, module in within) - {""}


@functools.cache
def _kernels_in(folder: Path) -> tuple[Path, ...]:
    return tuple(path for path in folder.iterdir() if path.suffix in KERNEL_SUFFIXES)


class Source(NamedTuple):
    """What a file says: the digest of its meaning, and ``(module, name)`` for each import of this package.

    ``import a.b`` is ``("b", "")`` and ``from a.b import c`` is ``("b", "c")`` where a is this package.
    """

    digest: str
    imports: tuple[tuple[str, str], ...]


@functools.cache
def _read(file: Path) -> Source:
    text = file.read_text(encoding="utf-8")
    key = hashlib.sha256(f"{file.suffix} {text}".encode()).hexdigest()
    known = _known()
    if key not in known:
        known[key] = _parsed(file.suffix, text)
        _new.append(key)
    return known[key]


def _parsed(suffix: str, text: str) -> Source:
    if suffix != ".py":
        return Source(_digest(_c_meaning(text)), ())
    tree = ast.parse(text)
    # First: the meaning leaves parts out.
    imports = _imports_in(tree)
    return Source(_digest(_python_meaning(tree)), imports)


def _digest(meaning: str) -> str:
    return hashlib.sha256(meaning.encode()).hexdigest()[:16]


#: Keys of what this process parsed and has not yet kept.
_new: list[str] = []


def _cache() -> Path:
    """Where is kept what files say, by their contents: all is parsed in seconds, and each start of Snakemake asks for it.

    Other rules of what counts, and another Python's way to write a program, have a file of their own.
    """
    rules = f"{sys.version_info[:2]}".encode() + Path(__file__).read_bytes()
    return user_cache() / "code" / f"{hashlib.sha256(rules).hexdigest()[:16]}.json"


@functools.cache
def _known() -> dict[str, Source]:
    with contextlib.suppress(OSError, UserError, ValueError, TypeError):
        kept = dict(json.loads(_cache().read_text(encoding="utf-8")))
        return {key: Source(digest, tuple(map(tuple, imports))) for key, (digest, imports) in kept.items()}
    return {}


def _keep() -> None:
    if _new:
        # Without a cache that can be written to, the files are parsed again next time.
        with contextlib.suppress(OSError, UserError):
            write_json(_cache(), _known())
        _new.clear()


def _imports_in(tree: ast.AST) -> tuple[tuple[str, str], ...]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {(node.module, alias.name) for alias in node.names}
    inside = [(module.split("."), name) for module, name in sorted(found)]
    return tuple((".".join(parts[1:]), name) for parts, name in inside if parts[0] == PACKAGE)


def _python_meaning(tree: ast.AST) -> str:
    """The program without line breaks, comments, docstrings and the wording of what people read; changes ``tree``."""
    for node in ast.walk(tree):
        for words in _words_in(node):
            for part in ast.walk(words):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    part.value = ""
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            # Those of attributes too, which stand below them.
            node.body = [line for line in node.body if not _is_docstring(line)] or [ast.Pass()]
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("add_argument", "add_parser"):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _HELP]
        if isinstance(node, ast.Call) and "Field" in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in _FIELD_HELP]
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") in _HELP:
            node.value = ast.Constant("")
    return ast.unparse(tree)


def _words_in(node: ast.AST) -> list[ast.AST]:
    """The parts of ``node`` whose text only people read."""
    if isinstance(node, ast.Raise):
        return [node]
    if isinstance(node, ast.Call):
        return [node] if getattr(node.func, "attr", getattr(node.func, "id", "")) in _SAYING else []
    if isinstance(node, ast.FunctionDef) and node.returns is not None and "Words" in ast.unparse(node.returns):
        return [part for part in ast.walk(node) if isinstance(part, ast.Return)]
    return []


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)


def _c_meaning(text: str) -> str:
    """The program without comments, indentation and the wording of messages, which calls of ``say`` hand on."""
    without = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    without = re.sub(rf"\bsay\((?:[^;\"]|{_C_STRING})*;", lambda call: re.sub(_C_STRING, '""', call[0]), without)
    return "\n".join(" ".join(line.split()) for line in without.splitlines() if line.strip())


@functools.cache
def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    if path.with_suffix(".py").is_file() and path != ROOT:
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None
