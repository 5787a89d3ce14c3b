"""Messages over pairs: both derivatives, and the kernels for a GPU under Triton's interpreter or compiled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mlff_distiller.training.data import N_GHOSTS, Capacity, Configurations
from mlff_distiller.training.messages import Graph, message, message_gradient, message_second_gradient
from tests.unit.data.labeled_sets import in_boxes, morse_dataset

ROOT = Path(__file__).parents[3]
OPERATIONS = {
    "message": message,
    "message_gradient": message_gradient,
    "message_second_gradient": message_second_gradient,
}


def pairs_of_small_boxes() -> tuple[Graph, int, int]:
    """Pairs of four molecules in boxes in which atoms see their own images, of a batch with padding; its atoms and pairs."""
    dataset = in_boxes(morse_dataset(4), 3.5)
    configurations = Configurations.build(dataset, np.zeros(101), 4.0, dtype=torch.float64)
    n_pairs = int(configurations.host_pair_counts.sum())
    capacity = Capacity(int(configurations.host_atom_counts.sum()) + N_GHOSTS, n_pairs + 37, 6)
    graph = configurations.batch(torch.tensor([2, 0, -1, 1, 3]), capacity).graph
    assert (graph.first[:n_pairs] == graph.second[:n_pairs]).any()
    return graph, capacity.n_atoms, n_pairs


def arguments(operation: str, features: int, carries: bool, dtype=torch.float64) -> tuple[list[torch.Tensor], Graph]:
    """Random arguments of an operation; as in a training, those of the pairs of padding are zero."""
    graph, n_atoms, n_real = pairs_of_small_boxes()
    n_pairs, width = len(graph.first), (3 if carries else 2) * features
    random = torch.Generator().manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        x = torch.randn(*shape, generator=random, dtype=torch.float64)
        if shape[0] == n_pairs:
            x[n_real:] = 0.0
        # Ghosts have no gradient: no loss depends on them.
        x[n_atoms - N_GHOSTS : n_atoms] = 0.0
        return x.to(dtype)

    plain = [(n_atoms, width), (n_atoms if carries else 0, 3, features), (n_pairs, width), (n_pairs, 3)]
    by_results = [(n_atoms, features), (n_atoms, 3, features)]
    shapes = {
        "message": plain,
        "message_gradient": by_results + plain,
        "message_second_gradient": plain + by_results + plain,
    }
    return [values(*shape) for shape in shapes[operation]], graph


def written_out(phi, v, filters, directions, graph: Graph):
    """The messages, edge by edge and by the definition."""
    features = v.shape[-1]
    ds, dv = phi.new_zeros(len(phi), features), phi.new_zeros(len(phi), 3, features)
    for pair, (first, second) in enumerate(zip(graph.first.tolist(), graph.second.tolist(), strict=True)):
        for i, j, sign in ((first, second, 1.0), (second, first, -1.0)):
            weights = phi[j] * filters[pair]
            ds[i] += weights[:features]
            dv[i] += sign * directions[pair][:, None] * weights[None, features : 2 * features]
            if len(v):
                dv[i] += weights[None, 2 * features :] * v[j]
    return ds, dv


@pytest.mark.parametrize("carries", [True, False])
def test_messages_are_those_of_the_definition(carries):
    given, graph = arguments("message", 5, carries)
    torch.testing.assert_close(message(*given, *graph), written_out(*given, graph))


@pytest.mark.parametrize("carries", [True, False])
@pytest.mark.parametrize("operation", ["message", "message_gradient"])
def test_derivatives_are_those_of_finite_differences(operation, carries):
    given, graph = arguments(operation, 2, carries)
    leaves = [x.requires_grad_(x.numel() > 0) for x in given]
    assert torch.autograd.gradcheck(lambda *some: OPERATIONS[operation](*some, *graph), leaves, fast_mode=True)


def test_neighbors_sorted_by_atom_are_the_pairs():
    graph, n_atoms, n_pairs = pairs_of_small_boxes()
    found = []
    for atom in range(n_atoms):
        for slot in range(int(graph.starts[atom]), int(graph.starts[atom + 1])):
            pair, side = divmod(int(graph.codes[slot]), 2)
            ends = (int(graph.first[pair]), int(graph.second[pair]))
            assert (atom, int(graph.others[slot])) == (ends if side == 0 else ends[::-1])
            found.append((pair, side))
    assert sorted(found) == [(pair, side) for pair in range(n_pairs) for side in (0, 1)]


def test_interpreted_kernels_equal_pytorch():
    pytest.importorskip("triton")
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'workflow'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(Path(__file__).parent / "interpreted_messages.py")]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads(done.stdout.splitlines()[-1])
    assert len(rows) == 18
    for row in rows:
        assert row["error"] < (1e-12 if row["dtype"] == "torch.float64" else 2e-4), row


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("carries", [True, False])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_compiled_kernels_equal_pytorch(operation, carries):
    for features in (24, 128):
        given, graph = arguments(operation, features, carries)
        found = OPERATIONS[operation](*(x.float().cuda() for x in given), *(x.cuda() for x in graph))
        for a, b in zip(found, OPERATIONS[operation](*given, *graph), strict=True):
            torch.testing.assert_close(a.double().cpu(), b, rtol=1e-4, atol=2e-4)
