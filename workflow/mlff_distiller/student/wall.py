"""The short-range wall: what two atoms feel that are closer than any two of their elements were in the training.

A network knows nothing of distances that it never saw, and may say anything there: atoms that come that close would fall into
each other. Every pair of elements has a distance R where its wall begins. With x = d / R < 1 and t = 1 - x:

- the network sees the pair no closer than 0.9 R: instead of d it gets R (1 - 0.2 h(t / 0.2)) with h(s) = s - s^3 + s^4 / 2, which
  leaves d at x = 1 with the slopes 1 and 0 and has come to rest at x = 0.8, with the slopes 0 and 0;
- the repulsion S t^3 / x is added, with S such that at x = 1/2 it is that of the screened nuclei (Ziegler, Biersack, Littmark,
  The Stopping and Range of Ions in Solids, 1985). It ends at x = 1 with the slopes 0 and 0.

So energies have two continuous derivatives, and beyond R, where all pairs of any use are, nothing changes.
"""

import torch
from torch import Tensor

from mlff_distiller.systems.distances import SHORTEST

#: 1 - x where what the network sees has come to rest.
REST = 0.2
#: A pair's wall begins at most here, as a share of the sum of the covalent radii (Cordero et al., 2008), so that a bond that
#: was not trained on is not taken for a contact.
MOST = 0.8
#: How many distances of a pair in the training may be shorter than where its wall begins.
SHORTER = 10
#: Where it begins for students that were made without it, A: closer than atoms ever are.
NO_WALL = 0.05
#: e^2 / (4 pi epsilon_0), eV A; the screening length of two nuclei is the second over Z_i^0.23 + Z_j^0.23, A; the terms of the
#: universal screening function are share and decay.
COULOMB, SCREENING, POWER = 14.399645, 0.46850, 0.23
TERMS = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))


def pair_table(ends: Tensor) -> Tensor:
    """R (A) and S (eV) of every pair of elements, [Z * Z, 2] in the dtype of ``ends`` [Z, Z], at row z_i Z + z_j."""
    exact = ends.double()
    numbers = torch.arange(ends.shape[0], dtype=torch.float64, device=ends.device)
    middle = exact / 2.0
    decay = (numbers[:, None] ** POWER + numbers[None, :] ** POWER) / SCREENING
    screened = sum(share * torch.exp(-rate * decay * middle) for share, rate in TERMS)
    # At x = 1/2, t^3 / x is 1/4.
    strength = 4.0 * COULOMB * numbers[:, None] * numbers[None, :] / middle * screened
    return torch.stack([exact, strength], dim=-1).reshape(-1, 2).to(ends.dtype)


def no_wall(max_atomic_number: int) -> Tensor:
    """:func:`pair_table` of a student without walls, float32."""
    return pair_table(torch.full([max_atomic_number + 1] * 2, NO_WALL, dtype=torch.float64)).float()


def of_pairs(
    table: Tensor, numbers: Tensor, receivers: Tensor, senders: Tensor, n_elements: int
) -> tuple[Tensor, Tensor]:
    """R [E] A and S [E] eV of the pairs of atoms, from :func:`pair_table` of ``n_elements`` = Z elements."""
    rows = table.index_select(0, numbers.index_select(0, receivers) * n_elements + numbers.index_select(0, senders))
    return rows[:, 0], rows[:, 1]


def seen_distances(distances: Tensor, ends: Tensor, rest: float = REST) -> Tensor:
    """What the network gets instead of the distances [E] A; ``ends`` [E] is R of each pair, A."""
    t = (1.0 - distances / ends).clamp(min=0.0)
    s = (t * (1.0 / rest)).clamp(max=1.0)
    return distances + ends * (t - rest * (s - s * s * s * (1.0 - 0.5 * s)))


def seen_slopes(distances: Tensor, ends: Tensor, rest: float = REST) -> Tensor:
    """The derivative [E] of :func:`seen_distances` by the distances."""
    s = ((1.0 - distances / ends) * (1.0 / rest)).clamp(0.0, 1.0)
    return 1.0 - s * s * (3.0 - 2.0 * s)


def repulsion(distances: Tensor, ends: Tensor, strengths: Tensor) -> Tensor:
    """The energy [E] eV of each pair; ``strengths`` [E] is S, eV."""
    x = distances / ends
    t = (1.0 - x).clamp(min=0.0)
    return strengths * (t * t * t) / x


def repulsion_slopes(distances: Tensor, ends: Tensor, strengths: Tensor) -> Tensor:
    """The derivative [E] eV/A of :func:`repulsion` by the distances."""
    x = distances / ends
    t = (1.0 - x).clamp(min=0.0)
    return -strengths / ends * (t * t) * (1.0 + 2.0 * x) / (x * x)


def ends_of(shortest: Tensor) -> Tensor:
    """Where the walls begin, from the shortest trained distance of each pair of elements, both [Z, Z] A.

    NaN: the training says nothing of the pair; its wall begins where the calculator refuses to go.
    """
    bonds = bond_lengths(shortest.shape[0] - 1)
    return torch.where(torch.isnan(shortest), SHORTEST * bonds, torch.minimum(shortest, MOST * bonds))


def bond_lengths(max_atomic_number: int) -> Tensor:
    """Sums of the covalent radii of each pair of elements, [Z, Z] A, float64."""
    from ase.data import covalent_radii

    radii = torch.as_tensor(covalent_radii[: max_atomic_number + 1], dtype=torch.float64)
    return radii[:, None] + radii[None, :]
