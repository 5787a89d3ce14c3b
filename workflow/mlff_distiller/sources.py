"""What a stage's code means, file by file, read from the source files without importing anything.

The rules have it as a parameter, so that an edit reruns exactly the jobs whose result it can change: a module counts for
the stages that import it, and what only people read counts for none: comments, docstrings, help texts (of arguments and
settings), and the wording of errors, of what is printed, and of functions that return
:data:`~mlff_distiller.utils.errors.Words`.
"""

import ast
import functools
import hashlib
import re
from pathlib import Path

PACKAGE = "mlff_distiller"
ROOT = Path(__file__).parent
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
    checkout = ROOT.parent.parent
    return [f"{name} {_digest(checkout / name)}" for name in sources_of(*modules)]


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
        if file in found:
            continue
        found.add(file)
        found.update(path for path in file.parent.iterdir() if path.suffix in KERNEL_SUFFIXES)
        # Importing a module runs the __init__ of the packages around it.
        folders = file.relative_to(ROOT).parts[:-1]
        around = [".".join(folders[:depth]) for depth in range(len(folders) + 1)]
        waiting += [path for name in (*imports_of(file), *around) if (path := _file_of(name)) is not None]
    checkout = ROOT.parent.parent
    return sorted(str(path.relative_to(checkout)) for path in found)


@functools.cache
def imports_of(file: Path) -> frozenset[str]:
    """Modules of this package that ``file`` imports, named without the package's name."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # In ``from a import b``, b is a module or something in a.
            for alias in node.names:
                within = f"{node.module}.{alias.name}"
                names.add(
                    within if within.startswith(f"{PACKAGE}.") and _file_of(within.partition(".")[2]) else node.module
                )
    return frozenset(name.partition(".")[2] for name in names if name.startswith(f"{PACKAGE}."))


@functools.cache
def _digest(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    meaning = _python_meaning(text) if file.suffix == ".py" else _c_meaning(text)
    return hashlib.sha256(meaning.encode()).hexdigest()[:16]


def _python_meaning(text: str) -> str:
    """The program without line breaks, comments, docstrings and the wording of what people read."""
    tree = ast.parse(text)
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


def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    if path.with_suffix(".py").is_file() and path != ROOT:
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None
