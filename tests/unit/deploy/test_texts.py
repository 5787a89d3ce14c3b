"""The examples that are handed over import from the public door alone."""

import ast

import pytest

from mlff_distiller import calculator
from mlff_distiller.deploy.texts import EXAMPLES, _three_lines, example


@pytest.mark.parametrize("work", EXAMPLES)
def test_examples_import_from_the_door_what_is_there(work):
    text = example({"task": work, "device": "cpu", "threads": 2}) + "\n" + _three_lines({"task": work})
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.startswith("mlff_distiller")]
    assert {node.module for node in ours} == {"mlff_distiller.calculator"}
    assert {alias.name for node in ours for alias in node.names} <= set(calculator.__all__)
