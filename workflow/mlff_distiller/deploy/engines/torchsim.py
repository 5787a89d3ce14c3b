"""Bundles in TorchSim: a model whose batches are single calls of the kernels, on the device of the bundle."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from torch_sim.models.interface import ModelInterface
from torch_sim.state import SimState

from mlff_distiller.deploy.bundle import load_bundle
from mlff_distiller.deploy.engines.many_systems import WITHOUT_STRESS, ManySystems
from mlff_distiller.utils.errors import UserError, nearest

#: Of TorchSim's autobatcher; before 0.6 it does not know the last.
SCALINGS = ("n_atoms", "n_atoms_x_density", "n_edges")


class StudentModel(ModelInterface):
    """A bundle as a model of TorchSim (0.3 or newer).

    Args:
        bundle: its folder.
        dtype: of states, forces and stresses. The kernels compute in float32 whatever it is; with float64, positions keep the
            digits that the integrator adds to them.
        compute_stress: for constant pressure and relaxed cells; of periodic systems only.
        allow: what is computed although the student has not learned it, see
            :class:`~mlff_distiller.systems.limits.Limits`.
        memory_scales_with: what TorchSim's autobatcher takes a system's memory to grow with, of :data:`SCALINGS`. It grows with
            the pairs of atoms within the cutoff.

    Raises:
        UserError: see :func:`mlff_distiller.deploy.bundle.load_bundle`; another dtype than float64 and float32; stress of a
            bundle whose kernels give none; an unknown scaling.
    """

    def __init__(
        self,
        bundle: str | Path,
        dtype: torch.dtype = torch.float64,
        compute_stress: bool = False,
        allow: Iterable[str] = (),
        memory_scales_with: str = "n_atoms_x_density",
    ):
        super().__init__()
        if dtype not in (torch.float64, torch.float32):
            raise UserError(f"dtype: expected torch.float64 or torch.float32, got {dtype}")
        if memory_scales_with not in SCALINGS:
            raise UserError(f"memory_scales_with: no {memory_scales_with!r}{nearest(memory_scales_with, SCALINGS)}")
        potential = load_bundle(bundle, allow=allow)
        self._potential, self._systems = potential, ManySystems(potential)
        self._device, self._dtype = potential.device, dtype
        self._compute_forces, self._memory_scales_with = True, memory_scales_with
        self._compute_stress = False
        self.compute_stress = compute_stress

    @property
    def compute_stress(self) -> bool:
        """Whether stresses are computed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        if value and not self._potential.has_stress:
            raise UserError(WITHOUT_STRESS)
        self._compute_stress = value

    def forward(self, state: SimState, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Energies [B] eV, always float64; forces [N, 3] eV/A; and stresses [B, 3, 3] eV/A^3 where they are computed.

        Raises:
            UserError: a state on another device; charges and spins (``state.charge``, ``state.spin``) that the student did
                not learn; what :class:`~mlff_distiller.deploy.engines.many_systems.ManySystems` refuses.
        """
        if state.positions.device != self._device:
            raise UserError(f"the state is on {state.positions.device}, the bundle was made for {self._device}")
        self._refuse_charge_and_spin(state)
        # TorchSim keeps lattice vectors in columns, and one periodicity for all systems: a bool, or three.
        cell = state.cell.detach().transpose(-1, -2).to(torch.float64)
        pbc = torch.as_tensor(state.pbc, device=self._device).expand(3).repeat(len(cell), 1)
        energies, forces, stresses = self._systems(
            state.atomic_numbers.to(torch.int64),
            state.positions.detach().to(torch.float64),
            state.system_idx.to(torch.int64),
            cell,
            pbc,
            stress=self._compute_stress,
        )
        found = {"energy": energies, "forces": forces.to(self._dtype)}
        return found if stresses is None else found | {"stress": stresses.to(self._dtype)}

    def _refuse_charge_and_spin(self, state: SimState) -> None:
        said = getattr(state, "charge", None), getattr(state, "spin", None)
        if said == (None, None):
            return
        limits = self._potential.limits
        for name, values in zip(("charge", "spin"), said, strict=True):
            for system, value in enumerate([] if values is None else values.tolist()):
                if words := limits.charge_or_spin(Atoms(info={name: value})):
                    raise UserError(f"system {system} of the batch: {words}")
