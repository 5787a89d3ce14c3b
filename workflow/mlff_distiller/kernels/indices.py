"""What the kernels ask of each atom and each system, in one piece of memory, so that one copy fills it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def write_indices(
    found: np.ndarray, numbers: np.ndarray, system: np.ndarray, sizes: Sequence[int], room: int | None = None
) -> None:
    """Write the atomic numbers [N], the first atom of each atom's system [N] and the one after its last [N], the first atom of
    each system and the number of atoms [B + 1].

    Args:
        found: where to, from its beginning, int32.
        numbers, system: of each atom [N].
        sizes: atoms of each system [B].
        room: for so many atoms instead of N, with ghosts after the atoms, hydrogens of no system without neighbors; and for as
            many systems as ``found`` has places for, with empty ones after the systems.
    """
    n_atoms, n_systems = len(numbers), len(sizes)
    place = n_atoms if room is None else room
    found[:n_atoms] = numbers
    if n_atoms < place:
        found[n_atoms:place] = 1
        found[place + n_atoms : 2 * place] = found[2 * place + n_atoms : 3 * place] = 0
    starts = found[3 * place :]
    starts[0] = 0
    if n_systems == 1:
        # A quarter of the time of what follows, which for a new molecule is as long as its forces take on a GPU.
        found[place : place + n_atoms] = 0
        found[2 * place : 2 * place + n_atoms] = starts[1] = n_atoms
    else:
        np.cumsum(sizes, out=starts[1 : n_systems + 1])
        found[place : place + n_atoms] = starts[system]
        found[2 * place : 2 * place + n_atoms] = starts[1:][system]
    if room is not None:
        starts[n_systems + 1 :] = n_atoms


def index_buffer(n_atoms: int, n_systems: int, device: torch.device) -> Tensor:
    """Zeros for what :func:`write_indices` writes, [3 N + B + 1] int32."""
    return torch.zeros([3 * n_atoms + n_systems + 1], dtype=torch.int32, device=device)


def index_parts(used: Tensor, n_atoms: int, n_systems: int) -> tuple[Tensor, ...]:
    """Views of :func:`index_buffer`: atomic numbers [N], first atom of each atom's system and the one after its last [N] each,
    first atom of each system and the number of atoms [B + 1]."""
    return used.split([n_atoms, n_atoms, n_atoms, n_systems + 1])
