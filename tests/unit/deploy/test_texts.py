"""The examples that are handed over import from the public door alone."""

import ast

import pytest

from mlff_distiller import calculator
from mlff_distiller.deploy.texts import EXAMPLES, _stress, _three_lines, example, gain


@pytest.mark.parametrize("work", EXAMPLES)
def test_examples_import_from_the_door_what_is_there(work):
    text = example({"task": work, "device": "cpu", "threads": 2}) + "\n" + _three_lines({"task": work})
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if node.module.startswith("mlff_distiller")]
    assert {node.module for node in ours} == {"mlff_distiller.calculator"}
    assert {alias.name for node in ours for alias in node.names} <= set(calculator.__all__)


EVIDENCE = {
    "speedup": 17.86,
    "speedup_ci95": [17.4, 18.6],
    "processes": 1,
    "measured": "batches",
    "smallest_atoms": 24,
    "largest_atoms": 98304,
    "first_and_last_speedup": [78.7, 11.2],
    "atoms_per_s": 7135715.0,
}


def test_a_gain_that_depends_on_the_size_has_no_mean():
    assert gain("many_molecules", EVIDENCE) == (
        "79 to 11 times as fast as eager from 24 to 98,304 atoms in a call, up to 7,135,715 atoms a second"
    )


def test_one_process_has_no_interval():
    assert gain("one_molecule", EVIDENCE) == "18 times (one process) as fast as eager (batches)"
    enough = EVIDENCE | {"processes": 3}
    assert gain("one_molecule", enough) == "17.9 times (17.4 to 18.6) as fast as eager (batches)"


@pytest.mark.parametrize("gives_stress", [True, False])
def test_a_bundle_says_where_its_kernels_give_no_stress(gives_stress):
    assert ("no stress" in _stress({"gives_stress": gives_stress})) is not gives_stress
