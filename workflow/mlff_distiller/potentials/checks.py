"""What every potential asks of its arguments, in the same words; and what they say on the host: sizes and boxes.

What must be read from the device is read once for each topology and once for each cell. While the tensors are those of the
last call, and nothing was written into them, a call costs a few comparisons of Python objects.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.kernels.indices import write_indices
from mlff_distiller.neighbors.native import complete_cell
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError

#: Cells with more images than this within the cutoff are unphysically small, and a call would never end.
MOST_IMAGES = 50_000
#: Longer lattice vectors leave float32 no digits for the atoms, A.
LONGEST = 1e5


@dataclass(eq=False)
class Topology:
    """What belongs to numbers and batch alone; the same object as long as they stay the same."""

    numbers: Tensor
    batch: Tensor
    sizes: tuple[int, ...]  # atoms of each of the B systems
    on_host: np.ndarray  # [2, N] int64: numbers and batch

    @cached_property
    def indices(self) -> Tensor:
        """What kernels ask of each atom and system, on the host (:func:`~mlff_distiller.kernels.indices.write_indices`)."""
        numbers, system = self.on_host
        found = np.empty(3 * len(system) + len(self.sizes) + 1, dtype=np.int32)
        write_indices(found, numbers, system, self.sizes)
        return torch.from_numpy(found)


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a batch in which something repeats, on the host; the same object as long as cell and pbc stay the same."""

    box: Tensor  # [B, 3, 3] A, float64; with other vectors for axes that are not periodic where it would span no volume
    pbc: Tensor  # [B, 3] bool


class Systems(NamedTuple):
    """The checked arguments of a call."""

    topology: Topology
    cells: Cells | None  # None where nothing repeats


class Cached:
    """A value, cached as long as the tensors that it was made of are the same and unchanged."""

    def __init__(self):
        self.entry: tuple = ()

    def __call__(self, first: Tensor | None, second: Tensor | None, other: Any, make: Callable[[], Any]) -> Any:
        """The cached result of ``make()`` for these arguments, or a new one."""
        entry = self.entry
        state = _written(first), _written(second)
        # Tensors made in inference mode have no version counter.
        if entry and entry[0] is first and entry[1] is second and entry[2:4] == (other, state) and None not in state:
            return entry[4]
        value = make()
        self.entry = first, second, other, state, value
        return value


def _written(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return 0
    return None if tensor.is_inference() else tensor._version


class ToHost:
    """Brings two tensors of integers to the host, by way of pinned memory, which takes half as long as without."""

    def __init__(self, device: torch.device):
        self.device = device
        self.lock = threading.Lock()
        self._make_room(0)

    def __reduce__(self):
        return type(self), (self.device,)

    def __call__(self, first: Tensor, second: Tensor) -> np.ndarray:
        """Both [N] int64 as one array [2, N]; waits for the current stream."""
        n = first.shape[0]
        if self.device.type == "cpu":
            found = np.empty([2, n], dtype=np.int64)
            found[0], found[1] = first.numpy(), second.numpy()
            return found
        with self.lock:
            if self.values.shape[1] < n:
                self._make_room(n + n // 4 + 256)
            for room, given in zip(self.room, (first, second), strict=True):
                room[:n].copy_(given, non_blocking=True)
            torch.cuda.current_stream(self.device).synchronize()
            return self.values[:, :n].copy()

    def _make_room(self, n: int) -> None:
        with torch.inference_mode(False):
            room = torch.empty([2, n], dtype=torch.int64, device="cpu", pin_memory=n > 0)
        self.room, self.values = room.unbind(), room.numpy()


class InputCheck:
    """Checks the arguments of a potential (see :class:`~mlff_distiller.potentials.base.Potential`).

    Any number of threads may use one at once.

    Args:
        student: fixes cutoff, device, dtype and the elements that are answered.
    """

    def __init__(self, student: StudentForceField):
        self.cutoff, self.device, self.dtype = student.cutoff, student.device, student.dtype
        self.limits = student.limits
        self.transfer = ToHost(self.device)
        self.forget()

    def forget(self) -> None:
        """Drop the tensors of the last call."""
        self.topology, self.cells = Cached(), Cached()
        self.last: tuple = (None,) * 7

    def __getstate__(self):
        # A copy starts with empty caches.
        return self.__dict__ | {"topology": Cached(), "cells": Cached(), "last": (None,) * 7}

    def __call__(
        self, numbers: Tensor | None, positions: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ) -> Systems:
        """The checked arguments. ``numbers`` is None for a search of neighbors, which needs none.

        Raises:
            UserError: shapes, dtypes or devices that do not fit; no atoms; a batch that does not rise from 0; an atomic
                number that the student does not know; a cell that is not finite, spans no volume, or is far too small or
                too large. Names the tensor, atom or system.
        """
        # Written out for speed: the forces of a molecule take only tens of microseconds.
        known = self.last
        if (
            known[1] is batch
            and known[0] is numbers
            and known[2] is cell
            and known[3] is pbc
            and [tensor._version for tensor in known[4]] == known[5]
            and positions.shape == (batch.shape[0], 3)
            and positions.dtype is self.dtype
            and positions.device == self.device
        ):
            return known[6]
        n_systems = None if cell is None or cell.dim() == 0 else cell.shape[0]
        topology = self.topology(numbers, batch, n_systems, lambda: self._topology(numbers, batch, n_systems))
        cells = None
        if cell is not None or pbc is not None:
            cells = self.cells(cell, pbc, None, lambda: self._cells(cell, pbc))
        self._expect("positions", positions, self.dtype, (batch.shape[0], 3))
        return self.remember(Systems(topology, cells), numbers, batch, cell, pbc)

    def remember(
        self,
        found: Systems,
        numbers: Tensor | None,
        batch: Tensor,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
    ) -> Systems:
        """``found``, here or elsewhere: while the tensors stay the same, they are not looked at again."""
        given = [tensor for tensor in (numbers, batch, cell, pbc) if tensor is not None]
        if not any(tensor.is_inference() for tensor in given):
            self.last = numbers, batch, cell, pbc, given, [tensor._version for tensor in given], found
        return found

    def _expect(self, name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        if tensor.dtype is not dtype or tensor.device != self.device:
            raise UserError(f"{name} must be {dtype} on {self.device}, not {tensor.dtype} on {tensor.device}")
        if tensor.shape != shape:
            raise UserError(f"{name} must be of shape {list(shape)}, not {list(tensor.shape)}")

    def _topology(self, numbers: Tensor | None, batch: Tensor, n_systems: int | None) -> Topology:
        self._expect("batch", batch, torch.int64, (batch.numel(),))
        n_atoms = batch.shape[0]
        if n_atoms == 0:
            raise UserError("no atoms: there is nothing to compute")
        known = numbers is not None
        if numbers is None:
            numbers = batch
        else:
            self._expect("numbers", numbers, torch.int64, (n_atoms,))
        # NumPy from here on, whose small operations are cheaper: for a new molecule they take as long as its forces on a GPU.
        on_host = self.transfer(numbers.detach(), batch)
        system = on_host[1]
        if known and (unknown := self.limits.unknown_element(on_host[0])):
            atom, what = unknown
            raise UserError(f"atom {atom}{within(atom, system)} {what}")
        if n_systems in (None, 1) and not system.any():
            return Topology(numbers, batch, (n_atoms,), on_host)
        # Without a cell the last entry gives the number of systems: limit it, so that a wrong one does not exhaust memory.
        most = 1000 + 10 * n_atoms if n_systems is None else n_systems
        if system[0] < 0 or system[-1] >= most or (system[1:] < system[:-1]).any():
            wrong = (np.diff(system, prepend=0) < 0) | (system >= most)
            raise UserError(
                f"batch must rise from 0 and stay below the number of systems; atom {wrong.argmax()} breaks that"
            )
        sizes = np.bincount(system, minlength=n_systems or 0).tolist()
        return Topology(numbers, batch, tuple(sizes), on_host)

    def _cells(self, cell: Tensor | None, pbc: Tensor | None) -> Cells | None:
        if pbc is not None:
            self._expect("pbc", pbc, torch.bool, (pbc.shape[0] if pbc.dim() else 0, 3))
        if cell is None:
            if pbc is not None and bool(pbc.any()):
                raise UserError("pbc says that something repeats, but there is no cell; give the lattice vectors")
            return None
        self._expect("cell", cell, self.dtype, (cell.shape[0] if cell.dim() else 0, 3, 3))
        if pbc is not None:
            self._expect("pbc", pbc, torch.bool, (cell.shape[0], 3))
        box = cell.detach().to("cpu", torch.float64)
        lost = ~box.isfinite().all(dim=2).all(dim=1)
        if bool(lost.any()):
            system = int(lost.nonzero()[0])
            raise UserError(
                f"the cell of system {system} is {box[system].tolist()}: not finite; has the simulation blown up?"
            )
        along = None if pbc is None else pbc.cpu()
        if along is None or not bool(along.any()):
            return None
        repeats = along.any(dim=1)
        box[~repeats] = torch.eye(3, dtype=torch.float64, device="cpu")
        for system in torch.nonzero(repeats & ~along.all(dim=1)).flatten().tolist():
            box[system] = complete_cell(box[system], along[system])
        lengths = torch.linalg.vector_norm(box, dim=2)
        long = repeats & (lengths > LONGEST).any(dim=1)
        if bool(long.any()):
            system = int(long.nonzero()[0])
            raise UserError(
                f"the cell of system {system} has lattice vectors of {[float(f'{x:.4g}') for x in lengths[system]]} A; "
                f"positions keep no digits in cells beyond {LONGEST:g} A"
            )
        across = torch.linalg.cross(box.roll(-1, dims=1), box.roll(-2, dims=1))
        heights = torch.linalg.det(box).abs()[:, None] / torch.linalg.vector_norm(across, dim=2)
        images = torch.where(along, 2 * torch.ceil(self.cutoff / heights) + 1, 1.0).prod(dim=1)
        # Not ">": the heights of a cell without volume may be NaN.
        flat = repeats & ~(images <= MOST_IMAGES)
        if bool(flat.any()):
            raise UserError(
                f"the periodic cell vectors of system {int(flat.nonzero()[0])} span no volume, or a cell too flat or too "
                f"small for the cutoff of {self.cutoff:g} A"
            )
        return Cells(box, along)


def within(atom: int, system: np.ndarray) -> str:
    """Which atom of its own system ``atom`` is, for a message; empty where there is one system. ``system`` is [N]."""
    if int(system[-1]) <= 0:
        return ""
    own = int(system[atom])
    return f" (atom {atom - int(np.searchsorted(system, own))} of system {own} in the batch)"


def undisturbed(device: torch.device) -> AbstractContextManager[None]:
    """Undo what a caller may have switched around a call: autocast, TF32, inference mode, gradients."""
    switched = (
        torch.is_inference_mode_enabled()
        or not torch.is_grad_enabled()
        or torch.is_autocast_enabled(device.type)
        or (device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32)
    )
    # Asking takes a tenth of the time of switching.
    return _as_by_default(device) if switched else nullcontext()


@contextmanager
def _as_by_default(device: torch.device):
    tf32 = device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    if tf32:
        torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        if tf32:
            torch.backends.cuda.matmul.allow_tf32 = True


def countable(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors as autograd can take them; call it outside of inference mode."""
    return [tensor.clone() if tensor is not None and tensor.is_inference() else tensor for tensor in tensors]
