"""Energy and forces by the C++ kernel, neighbor search included: one call, no tensor operation in between."""

import ctypes
import os
from pathlib import Path

import torch
from torch import Tensor

from mlff_distiller.kernels.cpu import binding
from mlff_distiller.kernels.cpu.build import build
from mlff_distiller.kernels.cpu.weights import FIELDS, SIZES, weights_bytes
from mlff_distiller.potentials.analytic import analytic_weights
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.checks import InputCheck, within
from mlff_distiller.student import wall
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.distances import shortest_radii
from mlff_distiller.systems.stress import volumes
from mlff_distiller.utils.errors import UserError

_Where = ctypes.c_int64 * 2
#: Whether this process was forked. It has no copies of its parent's OpenMP threads, and OpenMP would wait for them.
_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_note_fork)


def build_library(student: StudentForceField, beside_torch: bool = True) -> Path:
    """The shared library for this student's sizes and dtype (see :func:`mlff_distiller.kernels.cpu.build.build`).

    Raises:
        UserError: no compiler, or a dtype other than float32 and float64.
    """
    dtype = str(student.dtype).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise UserError(f"cpp kernel: the student must be float32 or float64, not {dtype}")
    return build(sizes_of(student), dtype, beside_torch)


def sizes_of(student: StudentForceField) -> dict[str, int]:
    """The sizes that are compiled in."""
    return {name: int(getattr(student.config, name)) for name in SIZES}


def weights_of(student: StudentForceField) -> bytes:
    """The contents of the weights file of a student, in its dtype (see :mod:`mlff_distiller.kernels.cpu.weights`)."""
    weights = analytic_weights(student)
    return weights_bytes(
        sizes_of(student),
        {name: getattr(weights, name).to("cpu", student.dtype).contiguous().numpy() for name in FIELDS},
        weights.reference_energies.cpu().numpy(),
        shortest_radii(range(weights.embedding.shape[0])),
        None if student.limits.elements is None else sorted(student.limits.elements),
        (weights.cutoff, weights.exponent, weights.norm_epsilon, wall.REST),
        None if student.domain is None else {name: each.numpy() for name, each in student.domain.tensors().items()},
    )


class CppPotential(Potential):
    """A student's energies, forces and stresses on the CPU.

    Deterministic for a given number of threads. Any number of Python threads may call one instance at once.

    Args:
        student: on the CPU, float32 or float64; its weights are copied.
        threads: at most this many threads per call; torch's own number at the time of the call by default. A process
            that was forked (as by ``multiprocessing`` on Linux) uses one; processes that are spawned keep theirs.
        library: a kernel built before for a student of these sizes; built (or taken from the cache) by default.

    Raises:
        UserError: the student is not on the CPU, or the kernel cannot be built or loaded.
    """

    def __init__(self, student: StudentForceField, threads: int | None = None, library: str | Path | None = None):
        if student.device.type != "cpu":
            raise UserError(f"cpp kernel: the student is on {student.device}; it runs on the CPU only")
        if threads is not None and threads < 1:
            raise UserError(f"cpp kernel: threads must be at least 1, not {threads}")
        self.student = student
        self.threads = threads
        self.cutoff, self.limits = student.cutoff, student.limits
        self.device = student.device
        self.dtype = student.dtype
        self.library = library
        self.inputs = InputCheck(student)
        self._library = binding.load_library(library or build_library(student))
        self._model = binding.Model(self._library, weights_of(student))
        self._evaluate = self._library.mlff_evaluate_batch

    def __reduce__(self):
        return type(self), (self.student, self.threads, self.library)

    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV.

        Raises:
            UserError: a position that is not finite, coinciding atoms, an unknown element, a flat cell; names the atom.
        """
        return self._run(numbers, positions, batch, cell, pbc, forces=None)[0]

    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A; raises as :meth:`energy` does."""
        forces = torch.empty((positions.shape[0], 3), dtype=self.dtype, device="cpu")
        return self._run(numbers, positions, batch, cell, pbc, forces)[0], forces

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies [B] eV, forces [N, 3] eV/A and stresses [B, 3, 3] eV/A^3; raises as :meth:`energy` does."""
        forces = torch.empty((positions.shape[0], 3), dtype=self.dtype, device="cpu")
        virials = torch.empty((cell.shape[0], 3, 3), dtype=torch.float64, device="cpu")
        energies, _ = self._run(numbers, positions, batch, cell, pbc, forces, virials)
        return energies, forces, (virials / volumes(cell.double())[:, None, None]).to(self.dtype)

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The kernel's neighbor search alone (see :mod:`mlff_distiller.neighbors.search`); raises as :meth:`energy` does."""
        positions, batch, cell, pbc, n_systems = self._inputs(None, positions, batch, cell, pbc)
        found, n_edges, where = ctypes.c_void_p(), ctypes.c_int64(), _Where()
        status = self._library.mlff_neighbors(
            self.cutoff,
            positions.shape[0],
            n_systems,
            positions.data_ptr(),
            batch.data_ptr(),
            None if cell is None else cell.data_ptr(),
            None if pbc is None else pbc.data_ptr(),
            ctypes.addressof(found),
            ctypes.addressof(n_edges),
            ctypes.addressof(where),
        )
        if status:
            self._refuse(status, where, positions, batch)
        periodic = cell is not None and pbc is not None and bool(pbc.any())
        receivers = torch.empty(n_edges.value, dtype=torch.int64, device="cpu")
        senders = torch.empty_like(receivers)
        shifts = torch.empty((n_edges.value, 3), dtype=torch.int64, device="cpu") if periodic else None
        self._library.mlff_take_neighbors(
            found, receivers.data_ptr(), senders.data_ptr(), shifts.data_ptr() if periodic else None
        )
        return receivers, senders, shifts

    def _inputs(
        self, numbers: Tensor | None, positions: Tensor, batch: Tensor, cell: Tensor | None, pbc: Tensor | None
    ):
        """The arguments as the kernel reads them, and B. Costs next to nothing when they are contiguous."""
        n_systems = len(self.inputs(numbers, positions, batch, cell, pbc).topology.sizes)
        if not positions.is_contiguous():
            positions = positions.contiguous()
        if not batch.is_contiguous():
            batch = batch.contiguous()
        if cell is not None:
            cell = cell.detach().contiguous()
        if pbc is not None:
            pbc = pbc.contiguous()
        return positions, batch, cell, None if cell is None else pbc, n_systems

    def _run(
        self,
        numbers: Tensor,
        positions: Tensor,
        batch: Tensor,
        cell: Tensor | None,
        pbc: Tensor | None,
        forces: Tensor | None,
        virials: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        positions, batch, cell, pbc, n_systems = self._inputs(numbers, positions, batch, cell, pbc)
        if not numbers.is_contiguous():
            numbers = numbers.contiguous()
        energies = torch.empty(n_systems, dtype=torch.float64, device="cpu")
        where = _Where()
        status = self._evaluate(
            self._model.handle,
            1 if _forked else self.threads or torch.get_num_threads(),
            positions.shape[0],
            n_systems,
            numbers.data_ptr(),
            positions.data_ptr(),
            batch.data_ptr(),
            None if cell is None else cell.data_ptr(),
            None if pbc is None else pbc.data_ptr(),
            energies.data_ptr(),
            None if forces is None else forces.data_ptr(),
            None if virials is None else virials.data_ptr(),
            where,
        )
        if status:
            self._refuse(status, where, positions, batch)
        return energies, virials

    def _refuse(self, status: int, where, positions: Tensor, batch: Tensor):
        message = binding.explain(self._library, status, where, positions.data_ptr())
        if status in binding.OF_ATOMS:
            message += within(int(where[0]), batch.numpy())
        raise UserError(message)
