"""The interface of everything that computes energies and forces, so that benchmark, MD and calculator are written once."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mlff_distiller.student.domain import Domain
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.limits import Limits


class Potential(ABC):
    """Energies and forces of a batch of systems.

    All methods take the same arguments:

    - ``numbers`` [N] int64, atomic numbers;
    - ``positions`` [N, 3] A, in :attr:`dtype`, on :attr:`device`;
    - ``batch`` [N] int64, the system of each atom, ascending from 0;
    - ``cell`` [B, 3, 3] A, lattice vectors in rows, or None;
    - ``pbc`` [B, 3] bool, or None.

    All are on :attr:`device`, cell and positions in :attr:`dtype`; anything else is refused by
    :class:`~mlff_distiller.potentials.checks.InputCheck`, with the same messages for every potential. Without a cell, B is
    one more than the last entry of ``batch``. The values of numbers, batch, cell and pbc are checked again when the tensor is
    another one or PyTorch has written into it. PyTorch does not see writes through ``.data``, NumPy, DLPack or CuPy: pass a
    new tensor then.

    Energies are float64 (reference energies of thousands of eV would drown the rest in float32), forces in :attr:`dtype`.
    Neither autocast nor TF32 nor inference mode, switched on around a call, changes them.
    A position that is NaN is an error that names the atom (C++), or makes energy and forces of its system NaN. The ASE
    calculator and the MD loops, which read results on the host, raise an error that names the atom.

    Later calls never change the tensors returned.
    """

    #: Neighbors further apart than this do not interact, A.
    cutoff: float
    device: torch.device
    dtype: torch.dtype
    #: Which systems it accepts: those that its student learned.
    limits: Limits = Limits()
    #: What it computes, in plain form; None where there is no such network.
    student: StudentForceField | None = None

    @property
    def domain(self) -> Domain | None:
        """What its student was trained on, and the errors to expect; None where the checkpoint does not say."""
        return None if self.student is None else self.student.domain

    @property
    def has_stress(self) -> bool:
        """Whether :meth:`with_stress` computes anything; on some systems it may refuse still."""
        return type(self).with_stress is not Potential.with_stress

    @abstractmethod
    def energy(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Tensor:
        """Energies [B] eV."""

    @abstractmethod
    def __call__(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A."""

    def on_host(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Energies [B] eV and forces [N, 3] eV/A on the CPU, by a single transfer, since each waits for the device."""
        energies, forces = self(numbers, positions, batch, cell, pbc)
        if not energies.is_cuda:
            return energies, forces
        # As bytes, since the dtypes differ.
        raw = torch.cat([energies.view(torch.uint8), forces.reshape(-1).view(torch.uint8)]).cpu()
        size = energies.nbytes
        return raw[:size].view(energies.dtype), raw[size:].view(forces.dtype).view(forces.shape)

    def program_on_host(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> "HostProgram | None":
        """What computes this one system again and again from positions on the host; None where :meth:`on_host` is as fast."""
        return None

    def with_stress(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies [B] eV, forces [N, 3] eV/A and stresses [B, 3, 3] eV/A^3 (ASE's sign: dE/dstrain / volume)."""
        raise NotImplementedError(f"{type(self).__name__} has no stress")

    def release(self) -> None:
        """Free the buffers and graphs cached for earlier sizes; they are made again when needed."""
        return

    def neighbors(
        self, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The potential's own neighbor search alone, for timing it (see :mod:`mlff_distiller.neighbors.search`)."""
        raise NotImplementedError(f"the neighbor search of {type(self).__name__} is part of its kernels")


class HostProgram(Protocol):
    """Energy and forces of one system, from positions on the host to results there. For one thread at a time."""

    #: [N, 3] A, in the potential's dtype, on the CPU: written to by the caller.
    positions: Tensor

    def run(self) -> tuple[Tensor, Tensor] | None:
        """Energy [1] eV and forces [N, 3] eV/A on the CPU, which the next run changes; None where an atom has more neighbors
        than there is room for here."""


@runtime_checkable
class Program(Protocol):
    """Energies and forces of some systems on buffers that stay where they are: work that can be captured in a CUDA graph.

    Fill :attr:`positions`, call :meth:`launch`, read :attr:`energies` and :attr:`forces`, which the next launch changes.
    """

    #: [N, 3] A, in the potential's dtype, on its device.
    positions: Tensor
    #: [B] eV, float64.
    energies: Tensor
    #: [N, 3] eV/A, in the potential's dtype.
    forces: Tensor

    def launch(self) -> None:
        """Energies and forces at the positions; never waits for the device."""

    def overflowed(self) -> bool:
        """Whether, in any launch since it was asked last, an atom had more neighbors than there was room for.

        Then the results since are wrong, and the potential's next program has more room. Waits for the device.
        """


@runtime_checkable
class HasProgram(Protocol):
    """A potential whose steps can stay on the device."""

    def program(
        self, numbers: Tensor, positions: Tensor, batch: Tensor, cell: Tensor | None = None, pbc: Tensor | None = None
    ) -> Program:
        """Buffers and launches for these systems (arguments as of :class:`Potential`), launched at ``positions`` once."""
