"""``torch.compile`` with Inductor: on the energy alone, or on energy + forces with autograd traced inside.

The neighbor search stays outside (the number of edges depends on the data); the number of atoms and edges is symbolic, so
one compilation serves every size. The artifact is Inductor's cache: loading traces again and finds the code there.
"""

import os
from pathlib import Path

import torch
import torch._inductor.config
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from mlff_distiller.neighbors import edge_vectors
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.edgewise import EdgeGradient, EdgewisePotential, autograd_edge_gradient
from mlff_distiller.variants.base import VariantFamily

ARTIFACT = "inductor_cache"
#: Shapes of 0 and 1 are special to the compiler's symbolic sizes: a graph this small goes to the plain function.
SMALLEST = 2


def use_cache(folder: Path) -> None:
    """From now on this process compiles into, and loads from, ``folder``."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.resolve())
    os.environ["TRITON_CACHE_DIR"] = str(folder.resolve() / "triton")
    torch._inductor.config.fx_graph_cache = True


class CompiledEnergy(nn.Module):
    """The student with its network compiled; differentiable."""

    def __init__(self, student):
        super().__init__()
        self.student = student
        self.network = torch.compile(student.network, fullgraph=True)
        for differentiable in (False, True):
            numbers, vectors, receivers, senders = canonical_graph(student.device, student.dtype)
            self.network(numbers, vectors.requires_grad_(differentiable), receivers, senders)

    def forward(self, numbers, positions, batch, cell=None, pbc=None):
        """See :meth:`mlff_distiller.student.painn.StudentForceField.forward`."""
        student = self.student
        receivers, senders, shifts = student.neighbor_search(positions, student.cutoff, batch, cell, pbc)
        network = self.network if receivers.shape[0] >= SMALLEST else student.network
        vectors = edge_vectors(positions, receivers, senders, batch, cell, shifts)
        atomic = network(numbers, vectors, receivers, senders)
        n_systems = cell.shape[0] if cell is not None else int(batch[-1]) + 1
        atomic = atomic.to(torch.float64) + student.reference_energies[numbers]
        return torch.zeros([n_systems], dtype=torch.float64, device=positions.device).index_add(0, batch, atomic)


def canonical_graph(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The graph that every process compiles for: numbers of atoms and edges symbolic, all else as it is.

    Whatever comes first decides what the compiler takes for granted. A water molecule, of three atoms in three
    dimensions, would make it one number, and code that its cache hands to the next process for other sizes is then
    wrong. So the first call is always this one: 5 atoms, 12 edges, equal to nothing else.
    """
    generator = torch.Generator().manual_seed(0)
    numbers = torch.tensor([6, 1, 1, 1, 1], device=device)
    vectors = torch.randn(12, 3, generator=generator).to(device, dtype)
    receivers = torch.arange(12, device=device) % 5
    graph = (numbers, vectors, receivers, (receivers + 1) % 5)
    for tensor in graph:
        torch._dynamo.mark_dynamic(tensor, 0)
    return graph


def compile_edge_gradient(edge_gradient: EdgeGradient, device: torch.device, dtype: torch.dtype) -> EdgeGradient:
    """``edge_gradient`` traced with symbolic sizes (its autograd pass included) and handed to Inductor."""
    trace = make_fx(edge_gradient, tracing_mode="symbolic", _allow_non_fake_inputs=True)
    compiled = torch.compile(trace(*canonical_graph(device, dtype)), fullgraph=True)
    compiled(*canonical_graph(device, dtype))

    def run(numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor) -> tuple[Tensor, Tensor]:
        function = compiled if receivers.shape[0] >= SMALLEST and numbers.shape[0] >= SMALLEST else edge_gradient
        return function(numbers, vectors, receivers, senders)

    return run


class TorchCompile(VariantFamily):
    """Scope ``energy``: autograd through the compiled energy. Scope ``energy_forces``: one compiled function."""

    def build(self, student, spec, examples, folder):
        """Run every example, energy and forces, so that all code that loading needs is in the cache."""
        potential = self.load(student, spec, folder)
        for example in examples:
            potential.energy(*example)
            potential(*example)
        return ARTIFACT

    def load(self, student, spec, folder):
        """The potential; its code comes from the cache at the first call of each kind."""
        use_cache(folder / ARTIFACT)
        if spec["scope"] == "energy":
            return AutogradPotential(student, CompiledEnergy(student))
        compiled = compile_edge_gradient(autograd_edge_gradient(student), student.device, student.dtype)
        return EdgewisePotential(student, compiled)


FAMILY = TorchCompile()
