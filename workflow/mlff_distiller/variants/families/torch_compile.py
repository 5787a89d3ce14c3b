"""``torch.compile`` with Inductor: on the energy alone, or on energy + forces with autograd traced inside.

The neighbor search stays outside (the number of edges depends on the data); the number of atoms and edges is symbolic, so
one compilation serves every size. The artifact is Inductor's cache: loading traces again and finds the code there.
"""

import os
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
import torch._functorch.config
import torch._inductor.config
from torch import Tensor, nn
from torch._inductor import cpu_vec_isa
from torch.fx.experimental.proxy_tensor import make_fx

from mlff_distiller.neighbors.search import edge_vectors
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.edgewise import EdgeGradient, EdgewisePotential, autograd_edge_gradient
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.compilers import no_compiler, small_numbers_kept
from mlff_distiller.utils.files import write_text
from mlff_distiller.variants.base import VariantFamily

ARTIFACT = "inductor_cache"
#: Below some 25 atoms Inductor compiles each size anew, and its cache then returns code of one size for another. So
#: smaller graphs are padded to this size with atoms without neighbors and edges longer than the cutoff.
SMALLEST = 40


def use_cache(folder: Path) -> None:
    """From now on this process compiles into, and loads from, ``folder``."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder.resolve())
    os.environ["TRITON_CACHE_DIR"] = str(folder.resolve() / "triton")
    torch._inductor.config.fx_graph_cache = True
    # Cache traces through autograd too, the default in later versions of PyTorch. The equivalence check loads from here in
    # a process of its own, as every later stage does, so its result holds for them.
    torch._functorch.config.enable_autograd_cache = True
    # Compiled for a single thread, torch 2.5's index_add on a CPU overwrites instead of adding.
    torch._inductor.config.cpp.dynamic_threads = True
    remember_instruction_sets(folder / "instruction_sets.txt")


def remember_instruction_sets(file: Path) -> None:
    """Skip Inductor's test of each vector instruction set if an earlier process wrote the results to ``file``.

    Inductor compiles a small program for each set of the processor and loads it in a new Python with PyTorch, which takes
    seconds in every process.
    """
    known = file.read_text(encoding="utf-8") if file.is_file() else None
    # The setting `cpp.vec_isa_ok` would not do: matrix tiles (AMX) are tested all the same. The call that enables them in
    # this process runs in either case.
    answered = mock.patch.object(cpu_vec_isa.VecISA, "check_build", return_value=True)
    with answered if known else nullcontext():
        found = "\n".join(map(str, cpu_vec_isa.valid_vec_isa_list()))
    if known is None:
        write_text(file, found)
    elif found != known:
        # One of them does not compile here, or this is another processor: test each again.
        forget_instruction_sets()


def forget_instruction_sets() -> None:
    """Make Inductor test the instruction sets again."""
    for kind in {type(instruction_set) for instruction_set in cpu_vec_isa.supported_vec_isa_list}:
        # Newer versions of PyTorch have no cache here.
        getattr(kind.__bool__, "cache_clear", lambda: None)()
    cpu_vec_isa.valid_vec_isa_list.cache_clear()


class CompiledEnergy(nn.Module):
    """The student with its network compiled; differentiable."""

    def __init__(self, student):
        super().__init__()
        self.student = student
        self.network = torch.compile(student.network, dynamic=True, fullgraph=True)
        numbers, vectors, receivers, senders = canonical_graph(student.device, student.dtype)
        with small_numbers_kept():
            with torch.no_grad():
                self.network(numbers, vectors, receivers, senders)
            with torch.enable_grad():
                vectors = vectors.requires_grad_()
                torch.autograd.grad(self.network(numbers, vectors, receivers, senders).sum(), vectors)

    def forward(self, numbers, positions, batch, cell=None, pbc=None):
        """See :meth:`mlff_distiller.student.painn.StudentForceField.forward`."""
        student = self.student
        receivers, senders, shifts = student.neighbor_search(positions, student.cutoff, batch, cell, pbc)
        vectors = edge_vectors(positions, receivers, senders, batch, cell, shifts)
        atomic = self.network(*filled_up(numbers, vectors, receivers, senders, student.cutoff))[: numbers.shape[0]]
        n_systems = cell.shape[0] if cell is not None else int(batch[-1]) + 1
        atomic = atomic.to(torch.float64) + student.reference_energies[numbers]
        return torch.zeros([n_systems], dtype=torch.float64, device=positions.device).index_add(0, batch, atomic)


def canonical_graph(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The graph that every process compiles for: numbers of atoms and edges symbolic, all else as it is.

    The first graph determines the compiler's guards; this one is the same in every process, and its sizes are primes that
    occur nowhere else.
    """
    generator = torch.Generator().manual_seed(0)
    numbers = torch.arange(47) % 9 + 1
    vectors = torch.randn(211, 3, generator=generator)
    receivers = torch.arange(211) % 47
    senders = (receivers + 1) % 47
    return numbers.to(device), vectors.to(device, dtype), receivers.to(device), senders.to(device)


def filled_up(
    numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor, cutoff: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The graph with at least :data:`SMALLEST` atoms and edges; what is added comes last and changes nothing."""
    if (atoms := SMALLEST - numbers.shape[0]) > 0:
        numbers = torch.cat([numbers, numbers.new_ones([atoms])])
    if (edges := SMALLEST - receivers.shape[0]) > 0:
        vectors = torch.cat([vectors, vectors.new_full([edges, 3], 2.0 * cutoff)])
        nowhere = receivers.new_full([edges], numbers.shape[0] - 1)
        receivers, senders = torch.cat([receivers, nowhere]), torch.cat([senders, nowhere])
    return numbers, vectors, receivers, senders


class CompiledEdgeGradient:
    """``edge_gradient`` traced with symbolic sizes (its autograd pass included) and handed to Inductor.

    A pickle holds what it was made of, and compiles again where it is loaded; copies share the compiled code.
    """

    def __init__(self, edge_gradient: EdgeGradient, student: StudentForceField):
        self.edge_gradient, self.student, self.cutoff = edge_gradient, student, student.cutoff
        canonical = canonical_graph(student.device, student.dtype)
        traced = make_fx(edge_gradient, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*canonical)
        self.compiled = torch.compile(traced, dynamic=True, fullgraph=True)
        with small_numbers_kept():
            self.compiled(*canonical)

    def __call__(self, numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor) -> tuple[Tensor, Tensor]:
        """See :data:`~mlff_distiller.potentials.edgewise.EdgeGradient`."""
        atomic, gradient = self.compiled(*filled_up(numbers, vectors, receivers, senders, self.cutoff))
        return atomic[: numbers.shape[0]], gradient[: receivers.shape[0]]

    def __reduce__(self) -> tuple[type, tuple[EdgeGradient, StudentForceField]]:
        return type(self), (self.edge_gradient, self.student)

    def __deepcopy__(self, memo: dict[int, object]) -> "CompiledEdgeGradient":
        return self


class TorchCompile(VariantFamily):
    """Scope ``energy``: autograd through the compiled energy. Scope ``energy_forces``: one compiled function."""

    def unavailable(self, spec, device):
        """Inductor writes C++, on a GPU for what starts its kernels."""
        return no_compiler()

    def build(self, student, spec, folder):
        """The cache, which loading and the first calls fill."""
        return ARTIFACT

    def load(self, student, spec, folder):
        """The potential; its code comes from the cache at the first call of each kind."""
        use_cache(folder / ARTIFACT)
        if spec["scope"] == "energy":
            return AutogradPotential(student, CompiledEnergy(student))
        compiled = CompiledEdgeGradient(autograd_edge_gradient(student), student)
        return EdgewisePotential(student, compiled)


FAMILY = TorchCompile()
