"""The shortest distances in the training set, where the student's walls begin (see :mod:`mlff_distiller.student.wall`)."""

import torch
from torch import Tensor

from mlff_distiller.student import wall
from mlff_distiller.training.data import Configurations
from mlff_distiller.training.evaluate import chunks

#: Edges that are looked at together.
EDGES_AT_ONCE = 20_000_000


def shortest_distances(configurations: Configurations, max_atomic_number: int) -> Tensor:
    """Of each pair of elements, the distance than which :data:`~mlff_distiller.student.wall.SHORTER` pairs are shorter.

    Returns:
        [Z, Z] A, float64, on the CPU. At most the distance beyond which no wall begins
        (:data:`~mlff_distiller.student.wall.MOST`); NaN where not so many pairs are within the cutoff.
    """
    size = max_atomic_number + 1
    device = configurations.positions.device
    most = (wall.MOST * wall.bond_lengths(max_atomic_number)).to(device).reshape(-1)
    counts = torch.zeros(size * size, dtype=torch.int64, device=device)
    keys, found = [], []
    done = 0
    for first, last in chunks(configurations.host_edge_counts, EDGES_AT_ONCE):
        edges = slice(done, done + int(configurations.host_edge_counts[first:last].sum()))
        done = edges.stop
        start = torch.repeat_interleave(configurations.atom_starts[first:last], configurations.edge_counts[first:last])
        i, j = configurations.receivers[edges] + start, configurations.senders[edges] + start
        vectors = (configurations.positions[j] - configurations.positions[i]).double()
        if configurations.images is not None:
            vectors = vectors + configurations.images[edges]
        distances = torch.linalg.vector_norm(vectors, dim=1)
        pairs = configurations.numbers[i] * size + configurations.numbers[j]
        counts += torch.bincount(pairs, minlength=size * size)
        near = distances < most[pairs]
        keys.append(pairs[near])
        found.append(distances[near])
    # A pair of two atoms of one element is two edges of the same kind.
    many = wall.SHORTER * (1 + torch.eye(size, dtype=torch.int64, device=device).reshape(-1))
    shortest = torch.where(counts > many, most, torch.nan)
    key, distance = torch.cat(keys), torch.cat(found)
    for pair in key.unique().tolist():
        ordered = torch.sort(distance[key == pair]).values
        if len(ordered) > many[pair]:
            shortest[pair] = ordered[many[pair]]
    return shortest.reshape(size, size).cpu()
