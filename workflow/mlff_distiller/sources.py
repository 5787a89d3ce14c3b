"""Which source files of this package a module depends on, read from its import statements without importing anything.

The rules list these files as inputs, so that an edit reruns exactly the jobs that depend on it.
"""

import ast
import functools
from pathlib import Path

PACKAGE = "mlff_distiller"
ROOT = Path(__file__).parent


def sources_of(*modules: str) -> list[str]:
    """Files behind ``modules`` (``"benchmark"``, ``"variants.eager"``) and all they import from this package, sorted.

    Paths are relative to the checkout (``workflow/mlff_distiller/...``), as the rules write them. Imports inside
    functions count too.

    Raises:
        ValueError: there is no such module.
    """
    found: set[Path] = set()
    waiting = [_file_of(f"{PACKAGE}.{module}") for module in modules]
    if None in waiting:
        raise ValueError(f"no such module among {modules}")
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        # Importing a module runs the __init__ of the packages around it.
        names = _imports(file) | {f"{PACKAGE}.{'.'.join(file.relative_to(ROOT).parts[:-1])}".rstrip(".")}
        waiting += [path for name in names if (path := _file_of(name)) is not None]
    checkout = ROOT.parent.parent
    return sorted(str(path.relative_to(checkout)) for path in found)


@functools.cache
def _imports(file: Path) -> frozenset[str]:
    """Names of modules of this package that ``file`` imports; for ``from a import b`` both ``a`` and ``a.b``."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in names if name.split(".")[0] == PACKAGE)


def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")[1:])
    if path.with_suffix(".py").is_file() and path != ROOT:
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None
