"""Neighbor search: one interface for several backends.

A search takes ``(positions [N, 3] A, cutoff A, batch [N], cell [B, 3, 3] A or None, pbc [B, 3] or None)`` and returns
``(receivers [E], senders [E], shifts [E, 3] or None)``: every ordered pair i != j (or i with an image of itself) closer
than the cutoff within one system, sorted by receiver; ``shifts`` counts lattice vectors, so that
r_ij = positions[j] - positions[i] + shifts @ cell. Without periodicity ``shifts`` is None.
"""

import warnings

import torch
from torch import Tensor, nn

from mlff_distiller.neighbors.native import NativeSearch
from mlff_distiller.neighbors.torch_cluster import TorchClusterSearch
from mlff_distiller.neighbors.vesin import AutoSearch, VesinSearch
from mlff_distiller.utils.errors import UserError, nearest

BACKENDS: dict[str, type[nn.Module]] = {
    "native": NativeSearch,
    "torch_cluster": TorchClusterSearch,
    "vesin": VesinSearch,
    "auto": AutoSearch,
}


def available_backends() -> list[str]:
    """The names of the backends that can run here."""
    return [name for name, backend in BACKENDS.items() if backend.missing() is None]


def choose_neighbor_search(name: str) -> nn.Module:
    """The neighbor search ``name``; if it is not installed, ``native`` with a warning.

    Raises:
        UserError: there is no backend of that name.
    """
    if name not in BACKENDS:
        raise UserError(f"unknown neighbor backend {name!r}{nearest(name, BACKENDS)}")
    reason = BACKENDS[name].missing()
    if reason is not None:
        warnings.warn(f"neighbor backend {name!r} cannot run here ({reason}); using 'native'", stacklevel=2)
        name = "native"
    return BACKENDS[name]()


def radius_graph(
    positions: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor | None]:
    """All neighbors within ``cutoff``; shapes and order as in the docstring of this module.

    Raises:
        UserError: unknown backend, or a cutoff that is not positive.
    """
    if not cutoff > 0:
        raise UserError(f"the cutoff must be positive, not {cutoff} A")
    if batch is None:
        batch = torch.zeros(positions.shape[0], dtype=torch.int64, device=positions.device)
    return choose_neighbor_search(backend)(positions, cutoff, batch, cell, pbc)


def radius_graph_torch_cluster(
    positions: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """:func:`radius_graph` by torch-cluster, or by the native search if it is not installed."""
    return radius_graph(positions, cutoff, batch, cell, pbc, backend="torch_cluster")


def edge_vectors(
    positions: Tensor,
    receivers: Tensor,
    senders: Tensor,
    batch: Tensor,
    cell: Tensor | None,
    shifts: Tensor | None,
) -> Tensor:
    """r_j - r_i of each edge, periodic image included: [E, 3] A."""
    vectors = positions[senders] - positions[receivers]
    if cell is not None and shifts is not None:
        vectors = vectors + torch.einsum("es,esk->ek", shifts.to(cell.dtype), cell[batch[receivers]])
    return vectors
