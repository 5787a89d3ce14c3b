"""One system whose atoms move: its energy and forces again and again, as MD needs them, each time checked like the first."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mlff_distiller.potentials.base import HostProgram, Potential
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.boxes import box_of, near_origin
from mlff_distiller.systems.distances import DistanceCheck
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms


class MovingSystem:
    """Energy and forces of one system wherever its atoms are moved to; elements, cell and periodicity stay.

    Its tensors stay the same, too, and so does what the potential knows of them. For one thread at a time.

    Args:
        potential: any :class:`~mlff_distiller.potentials.base.Potential`; its ``limits`` say what is refused.
        atoms: the system, which is copied.

    Raises:
        UserError: from here on, for atoms beyond the limits, invalid positions or cells, and energies that are not finite.
    """

    def __init__(self, potential: Potential, atoms: "Atoms"):
        potential.limits.check_numbers(atoms.numbers)
        self.potential, self.atoms, self.box = potential, atoms.copy(), box_of(atoms)
        self._batch = Batch.from_atoms([self.atoms], potential.device, potential.dtype, potential.limits.allow)
        self.distances = DistanceCheck(self.atoms)
        self._program: HostProgram | None = None
        #: Where positions are written, on the host; None before the first move, for many systems are computed once.
        self._sent: Tensor | None = None
        #: The same, while the batch does not have them.
        self._ahead: Tensor | None = None

    @property
    def batch(self) -> Batch:
        """This system as the potential takes it."""
        if self._ahead is not None:
            self._batch.positions.copy_(self._ahead, non_blocking=True)
            self._ahead = None
        return self._batch

    def move(self, positions: np.ndarray) -> None:
        """Move the atoms to ``positions`` [N, 3] A."""
        if self._sent is None:
            self._sent = self._place_on_host()
            self._written = self._sent.numpy()
        # What was computed before has been waited for: its results are on the host.
        self._written[:] = near_origin(positions, self.box)
        self.atoms.positions[:] = positions
        self._ahead = None if self._sent is self._batch.positions else self._sent

    def _place_on_host(self) -> Tensor:
        self._program = self.potential.program_on_host(*self._batch)
        if self._program is not None:
            return self._program.positions
        positions = self._batch.positions
        # Pinned memory is sent in a fraction of the time.
        return torch.empty_like(positions, device="cpu", pin_memory=True) if positions.is_cuda else positions

    def energy_and_forces(self) -> tuple[float, np.ndarray]:
        """Energy in eV and forces [N, 3] in eV/A, float64."""
        self._check_distances()
        found = self._program.run() if self._program else None
        if found is None:
            self._program, found = None, self.potential.on_host(*self.batch)
        energies, forces = found
        return self._finite(energies), forces.numpy().astype(np.float64)

    def with_stress(self) -> tuple[float, np.ndarray, np.ndarray]:
        """The same, and the stress [3, 3] in eV/A^3.

        Raises:
            NotImplementedError: the potential has none.
        """
        self._check_distances()
        energies, forces, stresses = self.potential.with_stress(*self.batch)
        energy = self._finite(energies)
        return energy, forces.cpu().double().numpy(), stresses[0].cpu().double().numpy()

    def _check_distances(self) -> None:
        if self.potential.limits.distances:
            self.distances(self.atoms.positions)

    def _finite(self, energies: Tensor) -> float:
        energy = float(energies)
        if not math.isfinite(energy):
            raise UserError(f"the energy is {energy} eV, not finite: {self._nearest_pair()}")
        return energy

    def _nearest_pair(self) -> str:
        found = self.distances.closest(self.atoms.positions)
        if found is None:
            return "no two atoms are close to each other; has the simulation blown up?"
        return f"{self.distances.pair(*found[:2])} are {found[2]:.3f} A apart"
