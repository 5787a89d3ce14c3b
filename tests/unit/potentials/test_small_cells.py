"""Cells smaller than the cutoff: every variant against neighbors that are counted out image by image."""

import pytest
import torch

from mlff_distiller.neighbors.search import available_backends, choose_neighbor_search
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.potentials.edgewise import EdgewisePotential, autograd_edge_gradient
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.utils.compilers import no_compiler
from tests.unit.potentials.small_cells import SMALL_CELLS, counted_edges, right_answer, small_cell

POTENTIALS = {
    "eager": AutogradPotential,
    "edgewise": lambda student: EdgewisePotential(student, autograd_edge_gradient(student)),
    "analytic": AnalyticPotential,
    "graphed": lambda student: GraphedPotential(student, analytic_edge_gradient(student)),
    "cpp": pytest.param(
        CppPotential, id="cpp", marks=pytest.mark.skipif(no_compiler() is not None, reason=no_compiler() or "")
    ),
}


@pytest.mark.parametrize("name", SMALL_CELLS)
@pytest.mark.parametrize("make", POTENTIALS.values(), ids=POTENTIALS)
def test_forces_of_small_cells(student64, make, name):
    arguments = small_cell(name)
    energies, forces, pull = right_answer(student64, *arguments)
    found, found_forces = make(student64)(*arguments)
    assert (found - energies).abs().max() < 1e-9 * max(1.0, pull)
    assert (found_forces - forces).abs().max() < 1e-10 * max(1.0, pull)


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("name", SMALL_CELLS)
def test_every_search_counts_the_same_images(backend, name):
    _, positions, batch, cell, pbc = small_cell(name)
    receivers, senders, shifts = choose_neighbor_search(backend)(positions, 5.0, batch, cell, pbc)
    vectors = positions[senders] - positions[receivers] + shifts.to(cell.dtype) @ cell[0]
    i, j, translations = counted_edges(positions, cell[0], pbc[0].tolist(), 5.0)
    wanted = torch.cat([i[:, None], j[:, None], positions[j] - positions[i] + translations], dim=1)
    found = torch.cat([receivers[:, None], senders[:, None], vectors], dim=1)
    # Plus zero: minus zero sorts elsewhere.
    assert sorted((found.round(decimals=6) + 0.0).tolist()) == sorted((wanted.round(decimals=6) + 0.0).tolist())
