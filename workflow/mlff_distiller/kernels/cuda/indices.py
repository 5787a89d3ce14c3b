"""What the kernels ask of each atom and each system, in one piece of memory, so that one copy fills it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def write_indices(found: np.ndarray, numbers: np.ndarray, system: np.ndarray, sizes: Sequence[int]) -> None:
    """Write, from the beginning of ``found`` int32, 3 N + B + 1 values: the atomic numbers [N], the first atom of each atom's
    system [N] and the one after its last [N], the first atom of each system and the number of atoms [B + 1].

    Args:
        found: where to.
        numbers, system: of each atom [N].
        sizes: atoms of each system [B].
    """
    n_atoms, n_systems = len(numbers), len(sizes)
    found[:n_atoms] = numbers
    if n_systems == 1:
        # A quarter of the time of what follows, which for a new molecule is as long as its forces take on a GPU.
        found[n_atoms : 2 * n_atoms] = 0
        found[2 * n_atoms : 3 * n_atoms] = n_atoms
        found[3 * n_atoms], found[3 * n_atoms + 1] = 0, n_atoms
        return
    starts = found[3 * n_atoms : 3 * n_atoms + n_systems + 1]
    starts[0] = 0
    np.cumsum(sizes, out=starts[1:])
    found[n_atoms : 2 * n_atoms] = starts[system]
    found[2 * n_atoms : 3 * n_atoms] = starts[1:][system]


def index_buffer(n_atoms: int, n_systems: int, device: torch.device) -> Tensor:
    """Zeros for what :func:`write_indices` writes, [3 N + B + 1] int32."""
    return torch.zeros([3 * n_atoms + n_systems + 1], dtype=torch.int32, device=device)


def index_parts(used: Tensor, n_atoms: int, n_systems: int) -> tuple[Tensor, ...]:
    """Views of :func:`index_buffer`: atomic numbers [N], first atom of each atom's system and the one after its last [N] each,
    first atom of each system and the number of atoms [B + 1]."""
    return used.split([n_atoms, n_atoms, n_atoms, n_systems + 1])
