import subprocess
import sys
import time

import pytest
import torch

from mlff_distiller.benchmark.profiling import profile_call
from mlff_distiller.variants import diagnostics


def operations(call):
    return profile_call(call, torch.device("cpu"))["n_operations"]


def test_operations_are_counted_once_each_whatever_they_call_themselves():
    matrix = torch.ones(4, 4)
    linear = torch.nn.Linear(4, 4)
    assert operations(lambda: matrix.add(1).mul(2)) == 2.0
    assert operations(lambda: linear(matrix)) == 1.0, "addmm and t are inside linear"


def test_the_backward_pass_is_counted_too():
    leaf = torch.ones(3, requires_grad=True)
    forward = operations(lambda: leaf.sin())
    both = operations(lambda: torch.autograd.grad(leaf.sin().sum(), leaf))
    assert both > forward + 2


def test_first_calls_are_timed_one_by_one():
    pauses = iter([0.03, 0.0, 0.0])
    times = diagnostics.timed_calls(lambda: time.sleep(next(pauses)), 3)
    assert len(times) == 3
    assert times[0] >= 30 > min(times)


COMPILED = """
import torch
from mlff_distiller.variants.diagnostics import compiler_counts

def broken(x):
    y = x * 2
    if y.sum() > 0:  # what the branch does depends on data: the graph ends here
        y = y + 1
    return y.sin()

def whole(x):
    return (x * 2).sin()

{calls}
print(compiler_counts())
"""


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ("", {}),
        ("f = torch.compile(whole, dynamic=True, backend='eager'); f(torch.ones(4)); f(torch.ones(5))",
         {"n_graphs": 1, "n_graph_breaks": 0, "n_recompiles": 0}),
        ("f = torch.compile(whole, dynamic=True, backend='eager'); f(torch.ones(4)); f(torch.ones(4, 4))",
         {"n_graphs": 2, "n_graph_breaks": 0, "n_recompiles": 1}),
        ("f = torch.compile(broken, dynamic=True, backend='eager'); f(torch.ones(4))",
         {"n_graphs": 2, "n_graph_breaks": 1, "n_recompiles": 0}),
    ],
)  # fmt: skip
def test_what_the_compiler_did(calls, expected):
    # In a process of its own: the counters are the process's.
    program = [sys.executable, "-c", COMPILED.format(calls=calls)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.strip() == str(expected)
