"""Text is read and written as UTF-8, whatever the locale says."""

import ast

import pytest

from mlff_distiller.sources import ROOT

TEXT = {"read_text", "write_text", "open"}


def without_encoding(text):
    """Lines of calls that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or {k.arg for k in node.keywords} & {"encoding"}:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        # The package's own write_text(path, text) always writes UTF-8.
        if name not in TEXT or (name == "write_text" and isinstance(node.func, ast.Name)):
            continue
        modes = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        if name != "open" or not any(isinstance(mode, str) and "b" in mode for mode in modes):
            yield node.lineno


def test_the_package_names_the_encoding():
    places = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in sorted(ROOT.rglob("*.py"))
        for line in without_encoding(file.read_text(encoding="utf-8"))
    ]
    assert not places


@pytest.mark.parametrize("call", ["p.read_text()", "p.write_text('a')", "open(p)", "p.open('w')"])
def test_a_missing_encoding_is_found(call):
    assert list(without_encoding(call)) == [1]
    assert not list(without_encoding("p.open('rb'); p.read_text(encoding='utf-8'); write_text(p, 'a')"))
