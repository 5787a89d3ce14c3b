"""A position that is not a number: never forces that look right, and an error that names the atom where the host reads."""

import pytest
import torch

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.utils.errors import UserError

POTENTIALS = {
    "autograd": AutogradPotential,
    "analytic": AnalyticPotential,
    "graphed": lambda student: GraphedPotential(student, analytic_edge_gradient(student)),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", POTENTIALS)
def test_shows_in_its_own_system_alone(student64, name, value):
    numbers = torch.tensor([8, 1, 1, 8, 1, 1])
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    positions = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]] * 2, dtype=torch.float64)
    potential = POTENTIALS[name](student64)
    good = potential(numbers, positions, batch)
    positions[4, 1] = value
    energies, forces = potential(numbers, positions, batch)
    if value != value or name == "graphed":
        assert not forces[3:].isfinite().all()
    torch.testing.assert_close(forces[:3], good[1][:3])
    torch.testing.assert_close(energies[0], good[0][0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", POTENTIALS)
def test_through_ase_it_is_an_error_that_names_the_atom(student64, molecules, name, value):
    atoms = molecules["caffeine"].copy()
    atoms.positions[7, 2] = value
    atoms.calc = StudentCalculator(POTENTIALS[name](student64))
    with pytest.raises(UserError, match=r"atom 7 .* not a finite position"):
        atoms.get_forces()
