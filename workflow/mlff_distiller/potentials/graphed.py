"""One CUDA graph for energies and forces: the same operations without the cost of launching each from the host.

A graph replays fixed operations on fixed buffers, so the number of edges must not depend on the positions. Two ways:

- small molecules: **all** pairs of a system are edges. The cutoff function makes those beyond it exactly zero, so no
  search is needed, and none is missed when atoms cross the cutoff;
- otherwise the search runs before the graph, and its edges are padded to a capacity with edges of a ghost atom that are
  longer than the cutoff. More edges than the capacity get a graph of their own, larger.
"""

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from mlff_distiller.neighbors.native import pairs_within_systems
from mlff_distiller.neighbors.search import edge_vectors
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.checks import InputCheck, Topology, undisturbed
from mlff_distiller.potentials.edgewise import EdgeGradient, EdgewisePotential
from mlff_distiller.student.painn import StudentForceField

#: Systems up to this many atoms take all pairs as edges: about as many as a search of a dense molecule would keep.
ALL_PAIRS_LIMIT = 64
#: With more edges than this the device is busy for milliseconds, and a graph would only hold its memory.
EDGE_LIMIT = 300_000
#: Captured graphs that one potential keeps; the least recently used one goes first.
GRAPHS_KEPT = 32
#: Calls of a size before it is captured. A capture takes as long as tens of calls, which sizes that are met once never earn.
CALLS_BEFORE_CAPTURE = 3
#: Only one thread of a process captures, and none replays meanwhile: a second capture would wait for the device in the middle
#: of the first, and a replay asks PyTorch's random generator, which refuses during a capture.
CAPTURING = threading.RLock()


def made_current(device: torch.device) -> AbstractContextManager[None]:
    """Have kernels that PyTorch does not launch run on ``device``, also where a process uses several GPUs."""
    if device.type == "cpu" or torch.cuda.current_device() == device.index:
        return nullcontext()
    return torch.cuda.device(device)


class CapturedCall:
    """A function without arguments, captured as a CUDA graph once it was called a few times; on a CPU simply called.

    The function must read and write the same buffers every time and must not wait for the device; before a capture it is
    called three more times. Other threads may use the device meanwhile. It runs without the caller's autocast, TF32 or
    inference mode, which a graph would keep for good.

    Args:
        function: what is called.
        device: where it runs.
        calls_before: calls before it is captured.
    """

    def __init__(self, function: Callable[[], None], device: torch.device, calls_before: float = CALLS_BEFORE_CAPTURE):
        self.function, self.device = function, device
        self.calls_left = calls_before
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Run the function, or replay it, on the current stream of its device."""
        if self.device.type == "cpu":
            with undisturbed(self.device):
                self.function()
            return
        with made_current(self.device), CAPTURING:
            if self.graph is None and self.calls_left > 0:
                self.calls_left -= 1
                with undisturbed(self.device):
                    self.function()
                return
            self.capture()
            self.graph.replay()

    def capture(self) -> None:
        """Capture the function now, unless it is; this calls it, too. Nothing to do on a CPU."""
        if self.graph is not None or self.device.type == "cpu":
            return
        with made_current(self.device), CAPTURING, undisturbed(self.device):
            self._capture()

    def _capture(self) -> None:
        # The first calls compile kernels and create handles, which a capture does not allow.
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.function()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # On a stream of its own: by default PyTorch takes the one of the first capture, also where that is of another GPU.
        with no_collection(), torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            self.function()
        self.graph = graph


class InTurn:
    """A context that calls enter one after another, whatever threads and streams they come from: they use the same buffers.

    The first one waits for what the stream of its making has to do: weights, say, that are still being packed.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.lock = threading.RLock()
        self.stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def __enter__(self) -> None:
        self.lock.acquire()
        if self.device.type == "cuda":
            stream = torch.cuda.current_stream(self.device)
            if self.stream is not None and stream != self.stream:
                stream.wait_stream(self.stream)
            self.stream = stream

    def __exit__(self, *_: object) -> None:
        self.lock.release()


@contextmanager
def no_collection():
    """No garbage is collected meanwhile: a graph that dies during a capture spoils it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Recent(OrderedDict):
    """A mapping that drops the least recently used entry."""

    def find(self, key, make):
        """The value of ``key``, from ``make()`` when there is none.

        Outside of inference mode, since later calls may write to the buffers in any mode.
        """
        if key not in self:
            with torch.inference_mode(False):
                self[key] = make()
            if len(self) > GRAPHS_KEPT:
                self.popitem(last=False)
        self.move_to_end(key)
        return self[key]


class EdgeGraph:
    """Buffers for a number of atoms, systems and edges, and the evaluation on them."""

    def __init__(
        self,
        edge_gradient: EdgeGradient,
        references: Tensor,
        dtype: torch.dtype,
        sizes: tuple[int, int, int],
    ):
        n_atoms, n_systems, n_edges = sizes
        device = references.device
        self.edge_gradient, self.references = edge_gradient, references
        self.topology: Topology | None = None
        self.numbers = torch.ones([n_atoms], dtype=torch.int64, device=device)
        self.batch = torch.zeros([n_atoms], dtype=torch.int64, device=device)
        self.receivers = torch.zeros([n_edges], dtype=torch.int64, device=device)
        self.senders = torch.zeros([n_edges], dtype=torch.int64, device=device)
        self.positions = torch.zeros([n_atoms, 3], dtype=dtype, device=device)
        # The periodic part of each edge's vector; that of ghost edges makes them longer than the cutoff.
        self.offsets = torch.ones([n_edges, 3], dtype=dtype, device=device)
        self.energies = torch.zeros([n_systems], dtype=torch.float64, device=device)
        self.forces = torch.zeros_like(self.positions)

    def evaluate(self) -> None:
        """Energies and forces at ``positions``."""
        vectors = self.positions[self.senders] - self.positions[self.receivers] + self.offsets
        atomic, gradient = self.edge_gradient(self.numbers, vectors, self.receivers, self.senders)
        # Times zero instead of zero: NaN in a position must reach the forces, also of an atom without neighbors.
        torch.mul(self.positions, 0.0, out=self.forces)
        self.forces.index_add_(0, self.receivers, gradient).index_add_(0, self.senders, gradient, alpha=-1)
        self.energies.zero_().index_add_(0, self.batch, atomic.to(torch.float64) + self.references[self.numbers])


class GraphedPotential(Potential):
    """Any function of edges (autograd, analytic, compiled by Inductor) replayed as CUDA graphs.

    On a CPU the same buffers and paddings are used without a graph.
    """

    def __init__(self, student: StudentForceField, edge_gradient: EdgeGradient):
        self.student, self.edge_gradient = student, edge_gradient
        self.plain = EdgewisePotential(student, edge_gradient)
        self.references = student.reference_energies
        self.cutoff, self.limits = student.cutoff, student.limits
        self.device, self.dtype = student.device, student.dtype
        self.inputs = InputCheck(student)
        self.graphs: Recent = Recent()
        self.turn = InTurn(self.device)

    def __reduce__(self):
        return type(self), (self.student, self.edge_gradient)

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV."""
        return self(numbers, positions, batch, cell, pbc)[0]

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""
        with self.turn:
            return self._run(numbers, positions.detach(), batch, cell, pbc)

    def _run(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        topology, cells = self.inputs(numbers, positions, batch, cell, pbc)
        n_atoms, n_systems = numbers.shape[0], len(topology.sizes)
        n_pairs = sum(size * (size - 1) for size in topology.sizes)
        if cells is None and max(topology.sizes) <= ALL_PAIRS_LIMIT and n_pairs <= EDGE_LIMIT:
            graph, run = self._graph((n_atoms, n_systems, n_pairs))
            if graph.topology is not topology:
                receivers, senders = pairs_within_systems(batch)
                self._fill(graph, topology, receivers, senders)
                graph.offsets.zero_()
        else:
            receivers, senders, shifts = self.plain.neighbors(positions, batch, cell, pbc)
            n_edges = receivers.shape[0]
            if not 0 < n_edges <= EDGE_LIMIT:
                return self.plain(numbers, positions, batch, cell, pbc)
            # The padding edges belong to one ghost atom in a ghost system.
            graph, run = self._graph((n_atoms + 1, n_systems + 1, edge_capacity(n_edges)))
            self._fill(graph, topology, receivers, senders)
            graph.receivers[n_edges:] = n_atoms
            graph.senders[n_edges:] = n_atoms
            graph.batch[n_atoms] = n_systems
            graph.offsets.fill_(2 * self.cutoff)
            origin = positions.new_zeros([n_atoms, 3])
            graph.offsets[:n_edges] = edge_vectors(origin, receivers, senders, batch, cell, shifts)
        graph.positions[:n_atoms] = positions
        run()
        return graph.energies[:n_systems].clone(), graph.forces[:n_atoms].clone()

    def release(self) -> None:
        """Free all graphs."""
        self.graphs.clear()
        self.inputs.forget()

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies, forces and stresses; without a graph."""
        return self.plain.with_stress(numbers, positions, batch, cell, pbc)

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The student's neighbor search, as larger and periodic systems use it."""
        return self.plain.neighbors(positions, batch, cell, pbc)

    def _graph(self, sizes: tuple[int, int, int]) -> tuple[EdgeGraph, CapturedCall]:
        def make() -> tuple[EdgeGraph, CapturedCall]:
            graph = EdgeGraph(self.edge_gradient, self.references, self.dtype, sizes)
            # Not an attribute of the buffers: a reference cycle would live until garbage collection.
            return graph, CapturedCall(graph.evaluate, self.device)

        return self.graphs.find(sizes, make)

    @staticmethod
    def _fill(graph: EdgeGraph, topology: Topology, receivers: Tensor, senders: Tensor) -> None:
        if graph.topology is not topology:
            graph.numbers[: topology.numbers.shape[0]] = topology.numbers
            graph.batch[: topology.batch.shape[0]] = topology.batch
            graph.topology = topology
        graph.receivers[: receivers.shape[0]] = receivers
        graph.senders[: senders.shape[0]] = senders


def systems_with_nan(positions: Tensor, topology: Topology) -> Tensor:
    """Which systems have a position that is not finite: [B] bool. The kernels take such an atom for a neighbor of every other."""
    lost = (~positions.isfinite().all(dim=1)).to(torch.int64)
    counts = torch.zeros([len(topology.sizes)], dtype=torch.int64, device=positions.device)
    return counts.index_add_(0, topology.batch, lost) > 0


def edge_capacity(n_edges: int) -> int:
    """The capacity for ``n_edges`` edges: some room to grow, and few different values.

    From some hundreds of edges on at most a quarter more, with room for an eighth before another graph is needed.
    """
    step = 1 << max(6, n_edges.bit_length() - 3)
    return (n_edges + step // 2 + step - 1) // step * step
