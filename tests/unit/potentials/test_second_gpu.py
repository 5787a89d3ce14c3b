"""A potential on a GPU that is not the process's current one: launches, graphs and MD are made on its own."""

import copy

import pytest
import torch

from mlff_distiller.kernels.cuda.build import unavailable
from mlff_distiller.md.device import DeviceDynamics
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cuda import CudaPotential
from mlff_distiller.potentials.graphed import GraphedPotential
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
    atoms = molecules["caffeine"]
    expected = AutogradPotential(student64)(*Batch.from_atoms([atoms] * copies, "cpu", torch.float64))
    for device in ("cuda:1", "cuda:0"):
        assert torch.cuda.current_device() == 0
        there = copy.deepcopy(student).to(device)
        potential = POTENTIALS[name](there)
        batch = Batch.from_atoms([atoms] * copies, device, torch.float32)
        for _ in range(2):
            energies, forces = potential(*batch)
            assert energies.device == forces.device == torch.device(device)
            torch.testing.assert_close(energies.cpu(), expected[0], rtol=1e-6, atol=2e-3)
            torch.testing.assert_close(forces.cpu().double(), expected[1], rtol=1e-4, atol=2e-3)


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
