"""A hundred shares of labels on a hundred nodes, by what each configuration would cost: all end at about the same time."""

import heapq
import itertools

import numpy as np
import pytest

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.data.labeling import label_work
from mlff_distiller.utils.shares import tasks_of
from tests.unit.data.test_dataset import EMT_TEACHER

SHARES = 100
#: Core-seconds of a label of n atoms, as measured with GFN2-xTB and as other teachers may grow; least share of the ideal.
LAWS = {
    "GFN2-xTB": (lambda n: 1.8e-3 + 15e-6 * n**2 + 1e-7 * n**3, 0.9),
    "a neural teacher": (lambda n: 0.05 + 0.001 * n, 0.9),
    "linear": (lambda n: 0.01 * n, 0.9),
    "cubic": (lambda n: 1e-3 * n**3, 0.85),
    "no matter how large": (lambda n: 1.0 + 0 * n, 0.9),
}


def sizes():
    """Atoms of 200,000 configurations in the order of the recipe (config/distill.yaml): some of each of many molecules and of its
    clusters, 200 of each of 124 small ones, groups of molecules, and droplets last."""
    draw = np.random.default_rng(5)
    listed = np.repeat(draw.integers(6, 25, 23_000), draw.poisson(6.5, 23_000))
    small = np.repeat(draw.integers(2, 17, 124), 200)
    groups = draw.integers(12, 60, 16_000)
    droplets = np.repeat(draw.integers(60, 209, 400), 10)
    return np.concatenate([listed, small, groups, droplets])


def dataset(n_atoms):
    """Configurations of so many atoms, all in one place: nothing is computed of them."""
    offsets = np.concatenate([[0], np.cumsum(n_atoms)])
    n, total = len(n_atoms), int(offsets[-1])
    index = np.zeros(n, dtype=np.int64)
    return Dataset(
        numbers=np.ones(total, dtype=np.uint8),
        positions=np.zeros((total, 3), dtype=np.float32),
        offsets=offsets,
        molecules=["hydrogen"],
        molecule=index,
        splits=["train"],
        split=index,
        methods=["random"],
        method=index,
    )


@pytest.mark.parametrize("law", LAWS)
def test_a_hundred_nodes_are_all_at_work_until_the_end(law):
    n_atoms = sizes()
    assert len(n_atoms) > 150_000
    cost, least = LAWS[law]
    seconds = cost(n_atoms.astype(float)) * np.random.default_rng(1).lognormal(0.0, 0.25, len(n_atoms))
    work = label_work(dataset(n_atoms), None if law == "GFN2-xTB" else EMT_TEACHER)
    bounds = bounds_of(work, n_atoms)
    parts = np.array([seconds[a:b].sum() for a, b in itertools.pairwise(bounds)])
    shares = [parts[tasks] for tasks in tasks_of(SHARES, work.weights)]
    one_core = np.array([share.sum() for share in shares])
    assert one_core.mean() / one_core.max() > least
    eight = np.array([longest(share, 8) for share in shares])
    assert eight.max() < 2 * eight.mean()


def bounds_of(work, n_atoms):
    """Where the configurations are cut into the tasks of ``work``."""
    counts = [len(work.task(index).counts) for index in range(len(work.weights))]
    assert sum(counts) == len(n_atoms)
    return np.concatenate([[0], np.cumsum(counts)])


def longest(tasks, cores):
    """Seconds until so many workers, who take one task after the other, have done all."""
    workers = [0.0] * cores
    for seconds in tasks:
        heapq.heapreplace(workers, workers[0] + seconds)
    return max(workers)
