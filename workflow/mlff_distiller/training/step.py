"""One update of the weights (batch, gradient, AdamW or SOAP, moving average), in eager operations or as one CUDA graph."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.student.painn import PaiNN
from mlff_distiller.training.data import Batch, Capacity, Configurations, pack
from mlff_distiller.training.loss import Loss, loss_and_gradient
from mlff_distiller.training.precision import matmul_precision
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.training.soap import Curvature, blocks_of
from mlff_distiller.training.weights import FlatWeights
from mlff_distiller.utils.compilers import small_numbers_kept

LOGGER = logging.getLogger(__name__)
#: (parameters, batch, weight of the energies []) -> (loss terms [3], gradient [P]).
GradientOf = Callable[[list[Tensor], Batch, Tensor], tuple[Tensor, Tensor]]
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class Weights:
    """Flat vectors that an update changes: [P], and what SOAP keeps of the gradients."""

    current: Tensor
    average: Tensor
    first_moment: Tensor
    second_moment: Tensor
    curvature: Tensor

    @classmethod
    def start(cls, network: PaiNN, optimizer: str = "adamw") -> "Weights":
        """The vectors before the first update of ``network``'s weights."""
        flat, curvature = FlatWeights.read(network), torch.zeros([0])
        if optimizer == "soap":
            curvature = Curvature.start(blocks_of(network))
        return cls(flat, flat.clone(), torch.zeros_like(flat), torch.zeros_like(flat), curvature.to(flat.device))

    def tensors(self) -> dict[str, Tensor]:
        """All vectors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def copy_(self, tensors: dict[str, Tensor]) -> None:
        """Overwrites all of them in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])


class Stepper:
    """Makes updates on one device.

    Args:
        network: gives the structure.
        weights: changed in place by every call.
        configurations: the training set.
        capacity: of a batch.
        settings: loss, clipping, decay.
        tf32: matrix products in TF32, on a GPU that has it.
        compiled: trace the loss and its gradient and compile it with Inductor; on a GPU also capture the whole update
            in a CUDA graph. If that fails, the steps run without it, with a warning; ``mode`` says what runs.
    """

    def __init__(
        self,
        network: PaiNN,
        weights: Weights,
        configurations: Configurations,
        capacity: Capacity,
        settings: TrainingSettings,
        tf32: bool,
        compiled: bool,
    ):
        self.tf32 = tf32
        self.network, self.weights, self.configurations, self.capacity = network, weights, configurations, capacity
        self.loss = Loss.of(settings, with_stress=configurations.virials is not None)
        self.settings, self.layout = settings, FlatWeights(network)
        self.curvature: Curvature | None = None
        if settings.optimizer == "soap":
            self.curvature = Curvature(blocks_of(network), weights.curvature)
        device = configurations.positions.device
        self.ids = torch.full([capacity.n_molecules - 1], -1, dtype=torch.int64, device=device)
        #: Values that change at every step are on the device, where a replayed CUDA graph reads them.
        self.controls = torch.zeros([5], device=device)
        #: Force, energy and stress term, gradient norm, number of updates and of those with a virial, since the last read.
        self.sums = torch.zeros([6], device=device)
        self.gradient_of: GradientOf = self._eager_gradient
        self.graph: torch.cuda.CUDAGraph | None = None
        self.mode = "eager"
        if compiled:
            with matmul_precision(device, tf32):
                self._compile()

    def __call__(
        self, ids: np.ndarray, step: int, learning_rate: float, averaging_weight: float, energy_weight: float
    ) -> None:
        """Update number ``step`` (from 1) with the configurations ``ids`` [capacity.n_molecules - 1] (-1: none)."""
        values = [
            learning_rate / (1.0 - BETA_1**step),
            1.0 / (1.0 - BETA_2**step) ** 0.5,
            1.0 - learning_rate * self.settings.weight_decay,
            averaging_weight,
            energy_weight,
        ]
        self.controls.copy_(torch.tensor(values), non_blocking=True)
        self.ids.copy_(torch.from_numpy(ids), non_blocking=True)
        if self.graph is None:
            with matmul_precision(self.controls.device, self.tf32):
                self._update()
        else:
            self.graph.replay()
        if self.curvature is not None:
            self.curvature.find_bases(step)

    def read_sums(self) -> dict[str, float]:
        """Means since the last call; synchronizes the device.

        Force term (eV/A), energy term (eV/atom), the norm of the gradient and, where it is learned, stress term (eV/atom): over
        the batches that have a virial, and left out where none had.
        """
        force, energy, stress, norm, count, with_virial = self.sums.tolist()
        self.sums.zero_()
        count = max(count, 1.0)
        means = {"force": force / count, "energy": energy / count, "gradient_norm": norm / count}
        return means | ({"stress": stress / with_virial} if self.loss.stress_weight and with_virial else {})

    @torch.no_grad()
    def _update(self) -> None:
        batch = self.configurations.batch(self.ids, self.capacity)
        rate, correction, decay, share, energy_weight = self.controls.unbind()
        with torch.enable_grad():
            terms, gradient = self.gradient_of(self.layout.views(self.weights.current), batch, energy_weight)
        norm = torch.linalg.vector_norm(gradient)
        gradient = gradient * (self.settings.clip_norm / norm.clamp(min=self.settings.clip_norm))
        state = self.weights
        state.first_moment.lerp_(gradient, 1.0 - BETA_1)
        state.second_moment.mul_(BETA_2).addcmul_(gradient, gradient, value=1.0 - BETA_2)
        change = state.first_moment / (state.second_moment.sqrt() * correction + EPSILON)
        if self.curvature is not None:
            self.curvature.turn(change, gradient, state.first_moment, BETA_2, correction, EPSILON)
        state.current.mul_(decay).sub_(change * rate)
        state.average.add_((state.current - state.average) * share)
        self.sums[:3] += terms
        self.sums[3] += norm
        self.sums[4] += 1.0
        self.sums[5] += batch.has_virial.amax()

    def _eager_gradient(self, parameters: list[Tensor], batch: Batch, energy_weight: Tensor) -> tuple[Tensor, Tensor]:
        return loss_and_gradient(self.network, self.layout.names, parameters, batch, self.loss, energy_weight)

    def _compile(self) -> None:
        """Replaces the eager gradient, and on a GPU the whole update, by compiled ones; the weights do not change."""
        device = self.configurations.positions.device
        before = {name: tensor.clone() for name, tensor in self.weights.tensors().items()}
        first = pack(np.arange(len(self.configurations)), self.configurations, self.capacity)[0]
        self.ids.copy_(torch.from_numpy(first))
        example = self.configurations.batch(self.ids, self.capacity)
        # Without the compiler the training is slower but works; its exceptions are not documented, so catch all.
        try:
            self.gradient_of = compile_gradient(self._eager_gradient, self.layout.views(self.weights.current), example)
            self._update()
            self.mode = "inductor"
        except Exception as error:
            LOGGER.warning("Inductor failed (%s: %s); the steps run without it", type(error).__name__, error)
            self.gradient_of = self._eager_gradient
        if device.type == "cuda":
            try:
                self.graph = self._capture()
                self.mode += ", CUDA graph"
            except Exception as error:
                LOGGER.warning("no CUDA graph (%s: %s); the steps run without it", type(error).__name__, error)
        self.weights.copy_(before)
        self.sums.zero_()

    def _capture(self) -> torch.cuda.CUDAGraph:
        # First calls load kernels and allocate workspaces, which a capture does not allow: warm up before it.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self._update()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            self._update()
        return graph


def compile_gradient(
    function: GradientOf, parameters: list[Tensor], example: Batch, backend: str = "inductor"
) -> GradientOf:
    """``function`` traced, with both derivatives, into one graph of plain operations and compiled.

    Args:
        function: of parameters, batch and the weight of the energies [], returns loss terms and gradient.
        parameters, example: arguments with the shapes of all later calls.
        backend: of :func:`torch.compile`.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    def flat(energy_weight: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return function(list(tensors[: len(parameters)]), Batch(*tensors[len(parameters) :]), energy_weight)

    traced = make_fx(flat)(parameters[0].new_ones([]), *(p.detach() for p in parameters), *example)
    compiled = torch.compile(traced, backend=backend, dynamic=False, fullgraph=True)

    def run(parameters: list[Tensor], batch: Batch, energy_weight: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), small_numbers_kept():
            return compiled(energy_weight, *parameters, *batch)

    return run
