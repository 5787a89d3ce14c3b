"""Graphs with fixed buffers: all pairs, padded edges; on a CPU the same buffers without capture, on a GPU captured."""

import copy
import gc
import weakref

import pytest
import torch

from mlff_distiller.potentials.analytic import analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.edgewise import autograd_edge_gradient
from mlff_distiller.potentials.graphed import (
    ALL_PAIRS_LIMIT,
    CALLS_BEFORE_CAPTURE,
    GRAPHS_KEPT,
    GraphedPotential,
    edge_capacity,
)

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
GRADIENTS = {"autograd": autograd_edge_gradient, "analytic": analytic_edge_gradient}


def random_batch(sizes, spread, seed, device):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(1, 10, [sum(sizes)], generator=generator)
    positions = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64) * spread * max(sizes) ** (1 / 3)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return numbers.to(device), positions.to(device), batch.to(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_size_is_captured_once_it_was_called_often_enough(student):
    moved = copy.deepcopy(student).to("cuda")
    potential = GraphedPotential(moved, analytic_edge_gradient(moved))
    numbers, positions, batch = random_batch([24], 1.2, 0, "cuda")
    answers = []
    for calls in range(CALLS_BEFORE_CAPTURE + 2):
        answers.append(potential(numbers, positions.float(), batch)[1])
        ((_, call),) = potential.graphs.values()
        assert (call.graph is not None) is (calls >= CALLS_BEFORE_CAPTURE)
    # What is added in another order may round otherwise.
    for forces in answers:
        torch.testing.assert_close(forces, answers[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("forces", GRADIENTS)
@pytest.mark.parametrize("sizes", [[3], [24, 5, 1], [1], [ALL_PAIRS_LIMIT + 20]])
def test_equals_autograd_while_atoms_cross_the_cutoff(student64, forces, sizes, device):
    """The same topology again and again, from everything in reach of everything to almost nothing in reach."""
    student = copy.deepcopy(student64).to(device)
    potential, reference = GraphedPotential(student, GRADIENTS[forces](student)), AutogradPotential(student)
    numbers, _, batch = random_batch(sizes, 1.0, 0, device)
    results = []
    for seed, spread in enumerate([1.5, 0.9, 3.0, 8.0, 1.5]):
        positions = random_batch(sizes, spread, seed, device)[1]
        energies, gradient = reference(numbers, positions, batch)
        found, found_forces = potential(numbers, positions, batch)
        scale = max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(found, energies, rtol=0, atol=1e-10 * scale)
        torch.testing.assert_close(found_forces, gradient, rtol=0, atol=1e-11 * scale)
        results.append((found_forces, found_forces.clone()))
    # What was returned earlier is the caller's: no later call has changed it.
    assert all(torch.equal(given, kept) for given, kept in results)


@pytest.mark.parametrize("device", DEVICES)
def test_other_molecules_of_the_same_size(student64, device):
    """A graph is found by its sizes; the elements and the systems are those of the call."""
    student = copy.deepcopy(student64).to(device)
    potential, reference = GraphedPotential(student, analytic_edge_gradient(student)), AutogradPotential(student)
    for seed, sizes in enumerate([[6, 4], [4, 6], [6, 4], [5, 5]]):
        arguments = random_batch(sizes, 1.2, seed, device)
        torch.testing.assert_close(potential(*arguments)[1], reference(*arguments)[1], rtol=0, atol=1e-10)
    numbers, positions, batch = random_batch([6, 4], 1.2, 9, device)
    potential(numbers, positions, batch)
    numbers[0] = 16  # in place: the tensor is the same object
    torch.testing.assert_close(potential(numbers, positions, batch)[0], reference(numbers, positions, batch)[0])


@pytest.mark.parametrize("device", DEVICES)
def test_periodic(student64, device):
    student = copy.deepcopy(student64).to(device)
    potential, reference = GraphedPotential(student, analytic_edge_gradient(student)), AutogradPotential(student)
    cell = (torch.eye(3, dtype=torch.float64) * 7.5)[None].to(device)
    pbc = torch.ones([1, 3], dtype=torch.bool, device=device)
    for seed in range(3):
        numbers, positions, batch = random_batch([20], 2.0, seed, device)
        energies, forces = reference(numbers, positions, batch, cell, pbc)
        found, found_forces = potential(numbers, positions, batch, cell, pbc)
        scale = forces.abs().max().item()
        torch.testing.assert_close(found, energies, rtol=0, atol=1e-10 * scale)
        torch.testing.assert_close(found_forces, forces, rtol=0, atol=1e-11 * scale)


def test_capacity_leaves_room_and_wastes_little():
    for n_edges in [1, 63, 64, 100, 1000, 12345, 299_999]:
        capacity = edge_capacity(n_edges)
        assert n_edges < capacity <= max(192, n_edges * 1.4)
    assert len({edge_capacity(n) for n in range(1, 300_000, 97)}) < 60


def test_old_graphs_are_forgotten(student64):
    potential = GraphedPotential(student64, analytic_edge_gradient(student64))
    for n_atoms in range(2, GRAPHS_KEPT + 6):
        potential(*random_batch([n_atoms], 1.2, n_atoms, "cpu"))
    assert len(potential.graphs) == GRAPHS_KEPT


def test_graphs_die_with_their_buffers(student64):
    """Not in a later collection of garbage, which may come in the middle of a capture."""
    potential = GraphedPotential(student64, analytic_edge_gradient(student64))
    potential(*random_batch([5], 1.2, 0, "cpu"))
    ((graph, call),) = potential.graphs.values()
    ends = weakref.ref(graph), weakref.ref(call)
    del graph, call
    gc.disable()
    try:
        potential.release()
        assert [end() for end in ends] == [None, None]
    finally:
        gc.enable()
