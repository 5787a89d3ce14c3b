"""A potential on a GPU that is not the process's current one: launches, graphs and MD are made on its own."""

import copy

import pytest
import torch

from mlff_distiller.kernels.cuda.build import unavailable
from mlff_distiller.md.device import DeviceDynamics
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cuda import CudaPotential
from mlff_distiller.potentials.graphed import CALLS_BEFORE_CAPTURE, GraphedPotential
from mlff_distiller.potentials.triton import TritonPotential
from mlff_distiller.systems.batch import Batch

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
needs_kernels = pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
POTENTIALS = {
    "eager": AutogradPotential,
    "analytic": AnalyticPotential,
    "graph of analytic forces": lambda student: GraphedPotential(student, analytic_edge_gradient(student)),
    "triton": TritonPotential,
    "cuda": CudaPotential,
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_kernels if n == "cuda" else ()) for n in POTENTIALS])
@pytest.mark.parametrize("copies", [1, 40])
def test_the_second_gpu_answers_as_the_first(student, student64, molecules, name, copies):
    still = molecules["caffeine"]
    moved = still.copy()
    moved.rattle(0.05, seed=1)
    # In turn: a graph that was captured on the wrong GPU would go on giving what was right before.
    turns = [[atoms] * copies for atoms in (still, moved)]
    expected = [AutogradPotential(student64)(*Batch.from_atoms(systems, "cpu", torch.float64)) for systems in turns]
    for device in ("cuda:1", "cuda:0"):
        assert torch.cuda.current_device() == 0
        potential = POTENTIALS[name](copy.deepcopy(student).to(device))
        batches = [Batch.from_atoms(systems, device, torch.float32) for systems in turns]
        for call in range(2 * CALLS_BEFORE_CAPTURE + 2):
            energies, forces = potential(*batches[call % 2])
            assert energies.device == forces.device == torch.device(device)
            torch.testing.assert_close(energies.cpu(), expected[call % 2][0], rtol=1e-6, atol=2e-3)
            torch.testing.assert_close(forces.cpu().double(), expected[call % 2][1], rtol=1e-4, atol=2e-3)


@needs_kernels
def test_md_on_the_second_gpu_takes_the_steps_of_the_first(student, molecules):
    frames = []
    for device in ("cuda:0", "cuda:1"):
        there = copy.deepcopy(student).to(device)
        numbers, positions, batch, *_ = Batch.from_atoms([molecules["caffeine"]] * 3, device, torch.float32)
        masses = torch.as_tensor(molecules["caffeine"].get_masses(), dtype=torch.float64, device=device).repeat(3)
        dynamics = DeviceDynamics(
            CudaPotential(there), numbers, positions, batch, masses, timestep_fs=0.1, steps_per_replay=10
        )
        frames.append(list(dynamics.run(50))[-1])
    assert frames[1].positions.device == torch.device("cuda:1")
    torch.testing.assert_close(frames[0].positions.cpu(), frames[1].positions.cpu(), rtol=0, atol=1e-6)
