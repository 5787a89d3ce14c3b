"""Cells so small that an atom sees several images of another in one direction, and the right forces in them.

The neighbors are counted out here, without any of the package's searches.
"""

import itertools
import math

import torch

SQRT3 = math.sqrt(3.0)


def cube(side):
    """The lattice vectors of a cube."""
    return [[side, 0.0, 0.0], [0.0, side, 0.0], [0.0, 0.0, side]]


#: Name: atomic numbers, positions, lattice vectors (A), periodic axes.
SMALL_CELLS = {
    "H in 2.4 A": ([1], [[0.3, 0.1, -0.2]], cube(2.4), [True] * 3),
    "graphene": (
        [6, 6],
        [[0.0, 0.0, 0.0], [1.23, 2.46 / (2 * SQRT3), 0.0]],
        [[2.46, 0.0, 0.0], [1.23, 1.23 * SQRT3, 0.0], [0.0, 0.0, 15.0]],
        [True, True, False],
    ),
    "N2 along x in 3.8 A": ([7, 7], [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0]], cube(3.8), [True] * 3),
    "CO in 3.5 A": ([6, 8], [[0.1, 0.2, 0.3], [0.1, 0.2, 1.43]], cube(3.5), [True] * 3),
    "C in 1.2 A": ([6], [[0.0, 0.0, 0.0]], cube(1.2), [True] * 3),
    "chain": (
        [6, 1],
        [[0.0, 0.0, 0.0], [0.0, 1.1, 0.0]],
        [[1.3, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 9.0]],
        [True, False, False],
    ),
}


def small_cell(name, dtype=torch.float64):
    """The arguments of a potential, at coordinates that float32 holds."""
    numbers, positions, cell, pbc = SMALL_CELLS[name]
    rounded = [torch.tensor(part, dtype=torch.float32).to(dtype) for part in (positions, [cell])]
    batch = torch.zeros([len(numbers)], dtype=torch.int64)
    return torch.tensor(numbers), rounded[0], batch, rounded[1], torch.tensor([pbc])


def counted_edges(positions, cell, pbc, cutoff):
    """(receivers, senders, lattice translations [E, 3] A) of one system, by trying all images."""
    heights = 1.0 / torch.linalg.vector_norm(torch.linalg.inv(cell), dim=0)
    most = [math.ceil(cutoff / float(h)) + 2 if along else 0 for h, along in zip(heights, pbc, strict=True)]
    found = []
    for image in itertools.product(*(range(-n, n + 1) for n in most)):
        translation = torch.tensor(image, dtype=cell.dtype) @ cell
        for i, j in itertools.product(range(len(positions)), repeat=2):
            distance = float(torch.linalg.vector_norm(positions[j] + translation - positions[i]))
            if distance < cutoff and (i != j or any(image)):
                found.append((i, j, translation))
    return (
        torch.tensor([i for i, _, _ in found]),
        torch.tensor([j for _, j, _ in found]),
        torch.stack([translation for _, _, translation in found]),
    )


def right_answer(student64, numbers, positions, batch, cell, pbc):
    """Energy [1] and forces [N, 3] by differentiation in fp64, and the largest pull of one pair, eV/A."""
    receivers, senders, translations = counted_edges(positions, cell[0], pbc[0].tolist(), student64.cutoff)
    place = positions.clone().requires_grad_(True)
    vectors = place[senders] - place[receivers] + translations
    vectors.retain_grad()
    atomic = student64.network(numbers, vectors, receivers, senders)
    atomic.sum().backward()
    energy = atomic.detach().sum() + student64.reference_energies[numbers].sum()
    return energy[None], -place.grad, float(vectors.grad.abs().max())
