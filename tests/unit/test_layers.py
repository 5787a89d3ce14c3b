"""The folders of the package are layers: each imports only from those above it, and no two modules import each other."""

import ast
from graphlib import TopologicalSorter

import pytest

from mlff_distiller.sources import ROOT, imports_of

#: In the order in which data flow; a folder may import from those before it.
LAYERS = (
    "utils",
    "records",
    "systems",
    "data",
    "neighbors",
    "student",
    "training",
    "kernels",
    "potentials",
    "variants",
    "md",
    "acceptance",
    "benchmark",
    "decisions",
    "deploy",
)
#: These may import from all layers; nothing but the command line and the rules may import from them.
ABOVE_ALL = ("report", "preflight")
#: The doors: what is called from outside the package.
DOORS = {"__init__", "__main__", "calculator", "cli", "sources"}
MODULES = sorted(ROOT.rglob("*.py"))


def name_of(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def folder_of(module):
    return module.partition(".")[0]


IMPORTS = {name_of(file): imports_of(file) for file in MODULES}


def test_every_module_is_in_a_folder_with_a_place():
    assert {folder_of(name) for name in IMPORTS} == {*LAYERS, *ABOVE_ALL, *DOORS}


@pytest.mark.parametrize("folder", LAYERS)
def test_a_folder_imports_only_from_those_before_it(folder):
    allowed = {*LAYERS[: LAYERS.index(folder) + 1]}
    backwards = {
        f"{name} -> {imported}"
        for name, imports in IMPORTS.items()
        for imported in imports
        if folder_of(name) == folder and folder_of(imported) not in allowed
    }
    assert not backwards


def test_the_two_folders_that_see_all_do_not_see_each_other():
    for one, other in (ABOVE_ALL, ABOVE_ALL[::-1]):
        assert not [
            n for n, imports in IMPORTS.items() if folder_of(n) == one for i in imports if folder_of(i) == other
        ]


def test_no_circle():
    # An import of a module of one's own folder runs that folder's __init__, which holds nothing.
    graph = {name: {i for i in imports if i in IMPORTS} for name, imports in IMPORTS.items()}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("file", [f for f in MODULES if f.name == "__init__.py"], ids=name_of)
def test_a_package_holds_a_docstring_and_nothing_else(file):
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value.value, str)


def test_the_tests_of_modules_mirror_the_folders():
    folders = {path.name for path in (ROOT.parents[1] / "tests" / "unit").iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {*LAYERS, *ABOVE_ALL}
