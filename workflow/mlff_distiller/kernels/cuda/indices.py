"""What the kernels ask of each atom and each system, in one piece of memory, so that one copy fills it."""

import torch
from torch import Tensor


def index_buffer(n_atoms: int, n_systems: int, device: torch.device) -> Tensor:
    """Zeros for :attr:`~mlff_distiller.potentials.checks.Topology.indices`, [3 N + B + 1] int32."""
    return torch.zeros([3 * n_atoms + n_systems + 1], dtype=torch.int32, device=device)


def index_part(buffer: Tensor, n_atoms: int, n_systems: int) -> Tensor:
    """What so many atoms and systems use of :func:`index_buffer`, [3 N + B + 1] int32."""
    return buffer[: 3 * n_atoms + n_systems + 1]


def index_parts(used: Tensor, n_atoms: int, n_systems: int) -> tuple[Tensor, ...]:
    """Views of :func:`index_part`: atomic numbers [N], first atom of each atom's system and the one after its last [N] each,
    first atom of each system and the number of atoms [B + 1]."""
    return used.split([n_atoms, n_atoms, n_atoms, n_systems + 1])
