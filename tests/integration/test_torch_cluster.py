"""torch-cluster in this workflow: is it there, does it find the same neighbors, does the model agree, is it usable.

It comes as in a run, through the torch-cluster stage and the user's cache: the first time that may be a build of minutes.
"""

import time

import pytest
import torch

from mlff_distiller.cli import main
from mlff_distiller.neighbors.search import radius_graph, radius_graph_torch_cluster
from mlff_distiller.neighbors.torch_cluster_wheel import activate
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.records import schema
from mlff_distiller.systems.batch import Batch
from tests.conftest import make_student

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module", autouse=True)
def torch_cluster(tmp_path_factory):
    """The module, obtained as the workflow obtains it."""
    path = tmp_path_factory.mktemp("torch_cluster") / "torch_cluster.json"
    assert main(["torch-cluster", "--settings", '{"mode": "auto"}', "--output", str(path)]) == 0
    (found,) = schema.read(path)
    assert found["status"] == "ok", found["reason"]
    return activate(path)


def test_is_available(torch_cluster):
    assert torch_cluster.__version__ == "1.6.3"


@pytest.mark.parametrize("name", ["water", "caffeine", "ala9_capped"])
def test_finds_the_same_neighbors(molecules, name):
    positions = torch.from_numpy(molecules[name].positions)
    native = radius_graph(positions, 5.0, backend="native")
    other = radius_graph_torch_cluster(positions, 5.0)
    assert set(zip(*(x.tolist() for x in native[:2]), strict=True)) == set(
        zip(*(x.tolist() for x in other[:2]), strict=True)
    )
    assert len(native[0]) == len(other[0])
    assert (other[0].diff() >= 0).all()


def test_finds_the_same_neighbors_in_a_periodic_cell_smaller_than_the_cutoff():
    generator = torch.Generator().manual_seed(3)
    positions = 6 * torch.randn(12, 3, generator=generator, dtype=torch.float64)
    cell = torch.tensor([[[4.0, 0, 0], [1, 5, 0], [0, 0.5, 3.5]]], dtype=torch.float64)
    pbc = torch.tensor([[True, True, False]])

    def pairs(backend):
        receivers, senders, shifts = radius_graph(positions, 5.0, None, cell, pbc, backend=backend)
        return sorted(map(tuple, torch.cat([receivers[:, None], senders[:, None], shifts], dim=1).tolist()))

    assert pairs("torch_cluster") == pairs("native")


def test_finds_the_same_neighbors_in_a_batch(molecules):
    batch = Batch.from_atoms([molecules[name] for name in ("water", "caffeine", "methane")], dtype=torch.float64)
    native = radius_graph(batch.positions, 5.0, batch.batch, backend="native")
    other = radius_graph_torch_cluster(batch.positions, 5.0, batch.batch)
    assert sorted(zip(*(x.tolist() for x in native[:2]), strict=True)) == sorted(
        zip(*(x.tolist() for x in other[:2]), strict=True)
    )


@pytest.mark.parametrize("scripted", [False, True], ids=["eager", "torchscript"])
def test_the_model_gives_the_same_energy_and_forces(molecules, scripted):
    native = AutogradPotential(make_student().to(torch.float64))
    student = make_student(neighbors="torch_cluster").to(torch.float64)
    assert student.neighbor_search.name == "torch_cluster"
    other = AutogradPotential(student, torch.jit.script(student) if scripted else None)
    batch = Batch.from_atoms([molecules["caffeine"]], dtype=torch.float64)
    energy, forces = native(*batch)
    for _ in range(3):  # TorchScript recompiles on its first calls
        other_energy, other_forces = other(*batch)
        torch.testing.assert_close(other_energy, energy, rtol=0, atol=1e-9)
        torch.testing.assert_close(other_forces, forces, rtol=0, atol=1e-10)


def test_is_not_absurdly_slow(molecules):
    """A quick look, no benchmark: the search of 102 atoms takes milliseconds, not seconds."""
    positions = torch.from_numpy(molecules["ala9_capped"].positions)
    radius_graph_torch_cluster(positions, 5.0)
    start = time.perf_counter()
    for _ in range(10):
        radius_graph_torch_cluster(positions, 5.0)
    assert (time.perf_counter() - start) / 10 < 0.5
