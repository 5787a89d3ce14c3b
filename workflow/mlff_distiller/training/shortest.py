"""The shortest distances in the training set, where the student's walls begin (see :mod:`mlff_distiller.student.wall`)."""

import torch
from torch import Tensor

from mlff_distiller.student import wall
from mlff_distiller.training.data import Configurations
from mlff_distiller.training.evaluate import chunks

#: Pairs that are looked at together.
PAIRS_AT_ONCE = 10_000_000


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
    for first, last in chunks(configurations.host_pair_counts, PAIRS_AT_ONCE):
        some = slice(done, done + int(configurations.host_pair_counts[first:last].sum()))
        done = some.stop
        start = torch.repeat_interleave(configurations.atom_starts[first:last], configurations.pair_counts[first:last])
        i, j = configurations.pairs.first[some] + start, configurations.pairs.second[some] + start
        vectors = (configurations.positions[j] - configurations.positions[i]).double()
        if configurations.pairs.images is not None:
            vectors = vectors + configurations.pairs.images[some]
        distances = torch.linalg.vector_norm(vectors, dim=1)
        z_i, z_j = configurations.numbers[i], configurations.numbers[j]
        elements = torch.minimum(z_i, z_j) * size + torch.maximum(z_i, z_j)
        counts += torch.bincount(elements, minlength=size * size)
        near = distances < most[elements]
        keys.append(elements[near])
        found.append(distances[near])
    shortest = torch.where(counts > wall.SHORTER, most, torch.nan)
    key, distance = torch.cat(keys), torch.cat(found)
    for elements in key.unique().tolist():
        ordered = torch.sort(distance[key == elements]).values
        if len(ordered) > wall.SHORTER:
            shortest[elements] = ordered[wall.SHORTER]
    upper = shortest.reshape(size, size).triu().cpu()
    return upper + upper.triu(1).T
