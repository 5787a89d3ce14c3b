import copy
import itertools

import pytest
import torch
from ase import Atoms
from ase.optimize import BFGS

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.potentials.analytic import AnalyticPotential
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student import wall
from tests.conftest import make_student

ENDS = torch.tensor([0.4, 1.0, 2.1], dtype=torch.float64)


def fine(end, n=4001):
    """Distances from a fifth of R to a little beyond it."""
    return torch.linspace(0.2, 1.1, n, dtype=torch.float64) * end


@pytest.mark.parametrize("end", ENDS.tolist())
def test_beyond_its_end_nothing_changes(end):
    ends = torch.tensor([end])
    distances = torch.tensor([end, torch.nextafter(ends, ends + 1).item(), 2 * end, 50.0])
    assert torch.equal(wall.seen_distances(distances, ends), distances)
    assert torch.equal(wall.seen_slopes(distances, ends), torch.ones(4))
    assert torch.equal(wall.repulsion(distances, ends, torch.tensor([100.0])), torch.zeros(4))
    assert torch.equal(wall.repulsion_slopes(distances, ends, torch.tensor([100.0])), torch.zeros(4))


@pytest.mark.parametrize("end", ENDS.tolist())
def test_slopes_are_the_derivatives_and_continuous_twice(end):
    distances = fine(end).requires_grad_(True)
    for value, slope in (
        (
            wall.seen_distances(distances, torch.tensor(end, dtype=torch.float64)),
            wall.seen_slopes(distances, torch.tensor(end, dtype=torch.float64)),
        ),
        (
            wall.repulsion(distances, torch.tensor(end, dtype=torch.float64), torch.tensor(30.0)),
            wall.repulsion_slopes(distances, torch.tensor(end, dtype=torch.float64), torch.tensor(30.0)),
        ),
    ):
        (by_autograd,) = torch.autograd.grad(value.sum(), distances, retain_graph=True)
        torch.testing.assert_close(by_autograd, slope.detach(), rtol=1e-12, atol=1e-12)
        (second,) = torch.autograd.grad(slope.sum(), distances)
        near = distances.detach() > 0.7 * end
        jumps = second[near].diff().abs()
        assert jumps.max() < 0.01 * second[near].abs().max() + 1e-12


def test_the_network_sees_nothing_nearer_than_nine_tenths():
    seen = wall.seen_distances(fine(1.0), torch.tensor(1.0))
    assert seen.min() == pytest.approx(0.9)
    assert torch.all(seen.diff() >= -1e-15)


def test_half_way_in_it_repels_like_the_screened_nuclei():
    """Carbon and oxygen at 0.5 A, whose screening length is 0.15000 A."""
    ends = torch.ones([9, 9], dtype=torch.float64)
    end, strength = wall.pair_table(ends)[6 * 9 + 8]
    screened = 0.18175 * 2.332e-5 + 0.50986 * 0.043242 + 0.28022 * 0.26107 + 0.02817 * 0.51066
    assert float(wall.repulsion(torch.tensor(0.5), end, strength)) == pytest.approx(
        48 * 14.399645 / 0.5 * screened, rel=1e-4
    )


def test_walls_begin_at_the_shortest_trained_distance_but_not_at_a_bond():
    shortest = torch.full([9, 9], torch.nan, dtype=torch.float64)
    shortest[1, 6] = shortest[6, 1] = 0.8
    shortest[6, 6] = 2.5
    ends, bonds = wall.ends_of(shortest), wall.bond_lengths(8)
    assert ends[1, 6] == ends[6, 1] == 0.8
    assert ends[6, 6] == pytest.approx(0.8 * 1.52)
    assert ends[8, 8] == pytest.approx(0.68 * 1.32) == 0.68 * bonds[8, 8]


def squeezed(student, share=0.8):
    """Water and methane, their bonds within the student's walls."""
    molecules = [
        Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
        Atoms("CH4", [[0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]),
    ]
    for atoms in molecules:
        atoms.positions *= share
        bond = min(atoms.get_distance(0, i) for i in range(1, len(atoms)))
        assert bond < wall.bond_lengths(8)[1, atoms.numbers[0]]
    numbers = torch.tensor([n for a in molecules for n in a.numbers])
    positions = torch.tensor([p for a in molecules for p in a.positions.tolist()], dtype=student.dtype)
    return numbers, positions, torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("potential", [AutogradPotential, AnalyticPotential])
@pytest.mark.parametrize("share", [0.3, 0.8, 0.95])
def test_forces_within_the_wall_are_the_gradient(student64, potential, share):
    numbers, positions, batch = squeezed(student64, share)
    evaluate = potential(student64)
    energies, forces = evaluate(numbers, positions, batch)
    free = copy.deepcopy(student64)
    free.network.wall.copy_(wall.no_wall(100))
    assert (
        evaluate.energy(numbers, positions, batch) - potential(free).energy(numbers, positions, batch)
    ).abs().min() > 0.01
    step, atom = 1e-5, 4
    for axis in range(3):
        moved = []
        for sign in (1, -1):
            there = positions.clone()
            there[atom, axis] += sign * step
            moved.append(evaluate.energy(numbers, there, batch).sum())
        slope = (moved[0] - moved[1]) / (2 * step)
        assert float(forces[atom, axis]) == pytest.approx(-float(slope), rel=1e-5, abs=1e-5)
    assert torch.isfinite(energies).all()


def test_a_student_of_an_older_checkpoint_has_none(student64):
    numbers, positions, batch = squeezed(student64)
    free = make_student().double()
    free.network.wall.copy_(wall.no_wall(100))
    distances = torch.cdist(positions, positions)
    rows = free.network.wall[:, 0]
    assert rows.max() == pytest.approx(wall.NO_WALL)
    assert distances[distances > 0].min() > wall.NO_WALL
    assert torch.isfinite(free(numbers, positions, batch)).all()


def test_an_optimizer_from_a_bad_start_comes_out(student64):
    """Random weights say anything of close atoms; with a wall they end up no closer than it allows."""
    atoms = Atoms("C2OH4", torch.rand([7, 3], generator=torch.Generator().manual_seed(3)).numpy() * 1.2)
    atoms.calc = StudentCalculator(AutogradPotential(student64))
    BFGS(atoms, logfile=None).run(fmax=0.5, steps=200)
    bonds = wall.bond_lengths(8)
    for i, j in itertools.combinations(range(7), 2):
        assert atoms.get_distance(i, j) > 0.6 * float(bonds[atoms.numbers[i], atoms.numbers[j]])
