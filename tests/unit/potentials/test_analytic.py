"""The hand-derived forces are the gradient that autograd finds, to the last digits of fp64."""

from pathlib import Path

import pytest
import torch
from ase import Atoms

from mlff_distiller.potentials.analytic import (
    AnalyticPotential,
    analytic_weights,
    edge_gradient_of_graph,
    energy_forces_of_graph,
)
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.read import load_system
from mlff_distiller.variants.families.analytic import FAMILY
from tests.unit.potentials.biased_student import make_student

MOLECULES = Path(__file__).parents[3] / "resources" / "molecules"
NAMES = ("water", "methane", "benzene", "caffeine", "penicillin_g", "cholesterol", "ala9_capped")
EXACT = 1e-12


@pytest.fixture(scope="module")
def student():
    return make_student()


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


def crystal(seed=0, side=4.5, n_atoms=9, pbc=(True, True, True)):
    """Atoms in a skewed cell smaller than the cutoff, so that atoms meet their own images."""
    generator = torch.Generator().manual_seed(seed)
    cell = side * torch.eye(3).double() + 0.8 * torch.rand(3, 3, generator=generator, dtype=torch.float64)
    fractions = torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64)
    numbers = torch.tensor([1, 6, 7, 8, 16])[torch.randint(5, (n_atoms,), generator=generator)]
    return Atoms(numbers=numbers.numpy(), scaled_positions=fractions.numpy(), cell=cell.numpy(), pbc=pbc)


@pytest.mark.parametrize("name", NAMES)
def test_molecules_equal_autograd(student, name):
    batch = Batch.from_atoms([load_system(name, MOLECULES)], dtype=torch.float64)
    energies, forces = AnalyticPotential(student)(*batch)
    expected_energies, expected_forces = AutogradPotential(student)(*batch)
    assert relative(energies, expected_energies) < EXACT
    assert relative(forces, expected_forces) < EXACT


def test_a_batch_of_all_molecules_equals_autograd(student):
    batch = Batch.from_atoms([load_system(name, MOLECULES) for name in NAMES], dtype=torch.float64)
    energies, forces = AnalyticPotential(student)(*batch)
    expected_energies, expected_forces = AutogradPotential(student)(*batch)
    assert relative(energies, expected_energies) < EXACT
    assert relative(forces, expected_forces) < EXACT


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True)])
def test_periodic_forces_and_stress_equal_autograd(student, pbc):
    batch = Batch.from_atoms([crystal(0, pbc=pbc), crystal(1, 7.0, 14)], dtype=torch.float64)
    for found, expected in zip(
        AnalyticPotential(student).with_stress(*batch), AutogradPotential(student).with_stress(*batch), strict=True
    ):
        assert relative(found, expected) < EXACT


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_blocks": 1, "n_features": 16},
        {"n_blocks": 4, "n_features": 24, "mlp_width": 10, "readout_width": 7},
        {"n_radial": 5, "cutoff": 3.2},
    ],
)
def test_other_sizes_equal_autograd(sizes):
    student = make_student(**sizes)
    batch = Batch.from_atoms([load_system("caffeine", MOLECULES)], dtype=torch.float64)
    _, forces = AnalyticPotential(student)(*batch)
    assert relative(forces, AutogradPotential(student)(*batch)[1]) < EXACT


def test_edges_beyond_the_cutoff_change_nothing(student):
    weights = analytic_weights(student)
    batch = Batch.from_atoms([load_system("methane", MOLECULES)], dtype=torch.float64)
    receivers, senders, _ = AutogradPotential(student).neighbors(batch.positions, batch.batch)
    vectors = batch.positions[senders] - batch.positions[receivers]
    plain = energy_forces_of_graph(weights, batch.numbers, vectors, receivers, senders, batch.batch, 1)
    beyond = torch.tensor([[student.cutoff, 0.0, 0.0], [0.0, 300.0, 0.0]], dtype=torch.float64)
    ends = torch.tensor([0, 4])
    padded = energy_forces_of_graph(
        weights,
        batch.numbers,
        torch.cat([vectors, beyond]),
        torch.cat([receivers, ends]),
        torch.cat([senders, ends]),
        batch.batch,
        1,
    )
    assert torch.equal(plain[0], padded[0])
    assert torch.equal(plain[1], padded[1])


def test_one_atom_has_its_embeddings_energy_and_no_force(student):
    batch = Batch.from_atoms([Atoms("C")], dtype=torch.float64)
    energies, forces = AnalyticPotential(student)(*batch)
    assert relative(energies, AutogradPotential(student)(*batch)[0]) < EXACT
    assert torch.equal(forces, torch.zeros(1, 3, dtype=torch.float64))


def test_torchscript_takes_the_function_as_it_stands(student):
    scripted = torch.jit.script(edge_gradient_of_graph)
    weights = analytic_weights(student)
    batch = Batch.from_atoms([load_system("caffeine", MOLECULES)], dtype=torch.float64)
    potential = AnalyticPotential(student, lambda *graph: scripted(weights, *graph))
    expected = AutogradPotential(student)(*batch)[1]
    for _ in range(3):  # the profiling executor optimizes after the first calls
        assert relative(potential(*batch)[1], expected) < EXACT


def test_float32_error_is_of_the_size_of_autograds():
    exact = make_student()
    single = make_student(torch.float32)
    reference = AutogradPotential(exact)
    for name in ("caffeine", "ala9_capped"):
        batch = Batch.from_atoms([load_system(name, MOLECULES)])
        wide = batch._replace(positions=batch.positions.double())
        _, expected = reference(*wide)
        analytic = relative(AnalyticPotential(single)(*batch)[1].double(), expected)
        assert analytic <= 2 * relative(AutogradPotential(single)(*batch)[1].double(), expected)


def test_inductor_compiles_the_function_once_for_every_size(tmp_path):
    """One thread and water first, on purpose: both have misled Inductor (lost sums; 3 taken for a constant)."""
    student = make_student(torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    try:
        potential = FAMILY.load(student, {"family": "analytic", "compile": "inductor"}, tmp_path)
        for name in ("water", "caffeine", "benzene"):
            batch = Batch.from_atoms([load_system(name, MOLECULES)])
            expected_energies, expected_forces = AutogradPotential(student)(*batch)
            energies, forces = potential(*batch)
            assert relative(energies, expected_energies) < 1e-6
            assert relative(forces, expected_forces) < 1e-5
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    finally:
        torch.set_num_threads(threads)
        torch._dynamo.reset()
