"""The ASE calculator behaves as ASE users expect, and never returns a stale result."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import BFGS

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.utils.errors import UserError


@pytest.fixture
def calculator(student64):
    return StudentCalculator(AutogradPotential(student64))


class Counting(AutogradPotential):
    """Counts how often it is asked."""

    calls = 0

    def __call__(self, *args):
        self.calls += 1
        return super().__call__(*args)


def test_energy_and_free_energy_are_the_same(calculator, molecules):
    atoms = molecules["water"].copy()
    atoms.calc = calculator
    assert atoms.get_potential_energy() == atoms.get_potential_energy(force_consistent=True)


def test_forces_are_the_slope_of_the_energy(calculator, molecules):
    from ase.calculators.fd import calculate_numerical_forces

    atoms = molecules["water"].copy()
    atoms.rattle(0.1, seed=1)
    atoms.calc = calculator
    np.testing.assert_allclose(calculate_numerical_forces(atoms, eps=1e-4), atoms.get_forces(), atol=1e-6)


def test_asks_once_and_again_after_every_change(student64, molecules):
    potential = Counting(student64)
    atoms = molecules["water"].copy()
    atoms.calc = StudentCalculator(potential)
    first = atoms.get_potential_energy()
    atoms.get_forces()
    assert potential.calls == 1
    atoms.positions[0, 0] += 0.1
    moved = atoms.get_potential_energy()
    atoms.numbers[0] = 16
    replaced = atoms.get_potential_energy()
    assert potential.calls == 3
    assert len({first, moved, replaced}) == 3
    atoms.numbers[0] = 8
    atoms.positions[0, 0] -= 0.1
    assert atoms.get_potential_energy() == pytest.approx(first, abs=1e-9)


def test_nothing_stale_is_left_by_an_error(calculator, student64, molecules):
    atoms = molecules["water"].copy()
    atoms.calc = calculator
    atoms.get_forces()
    atoms.numbers[0] = 16
    atoms.positions[1, 0] += np.nan
    with pytest.raises(UserError, match="atom 1"):
        atoms.get_forces()
    atoms.positions[1] = molecules["water"].positions[1] + 0.01
    fresh = atoms.copy()
    fresh.calc = StudentCalculator(AutogradPotential(student64))
    np.testing.assert_array_equal(atoms.get_forces(), fresh.get_forces())


def test_a_failed_call_leaves_no_results_of_the_one_before(calculator, molecules):
    water, lost = molecules["water"], molecules["water"].copy()
    lost.positions[2] = np.nan
    calculator.calculate(water)
    with pytest.raises(UserError, match="atom 2"):
        calculator.calculate(lost)
    assert not calculator.results


def test_moves_one_after_another_are_answered_as_by_a_fresh_calculator(student64, molecules):
    atoms = molecules["caffeine"].copy()
    atoms.calc = StudentCalculator(AutogradPotential(student64))
    seen = []
    for step in range(4):
        atoms.positions += 0.02 * np.sin(np.arange(3 * len(atoms)) + step).reshape(-1, 3)
        fresh = atoms.copy()
        fresh.calc = StudentCalculator(AutogradPotential(student64))
        assert atoms.get_potential_energy() == fresh.get_potential_energy()
        np.testing.assert_array_equal(atoms.get_forces(), fresh.get_forces())
        assert atoms.calc.atoms is not atoms
        seen.append(atoms.get_potential_energy())
    assert len(set(seen)) == 4


def test_a_change_of_the_cell_or_of_periodicity_is_seen(calculator):
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.calc = calculator
    energies = {atoms.get_potential_energy()}
    atoms.set_cell(1.02 * atoms.cell, scale_atoms=False)
    energies.add(atoms.get_potential_energy())
    atoms.pbc = False
    energies.add(atoms.get_potential_energy())
    assert len(energies) == 3


def test_writing_into_the_forces_does_not_change_the_next_answer(calculator, molecules):
    atoms = molecules["water"].copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    kept = forces.copy()
    forces[:] = 0
    np.testing.assert_array_equal(atoms.get_forces(), kept)


def test_stress_agrees_with_finite_strain(calculator):
    from ase.calculators.fd import calculate_numerical_stress

    atoms = bulk("NaCl", "rocksalt", a=5.3)
    atoms.rattle(0.05, seed=3)
    atoms.calc = calculator
    np.testing.assert_allclose(calculate_numerical_stress(atoms, eps=1e-5), atoms.get_stress(), atol=1e-7)


def test_a_molecule_has_no_stress(calculator, molecules):
    atoms = molecules["water"].copy()
    atoms.calc = calculator
    with pytest.raises((UserError, PropertyNotImplementedError), match="periodic"):
        atoms.get_stress()


def test_no_atoms(calculator):
    atoms = Atoms()
    atoms.calc = calculator
    with pytest.raises(UserError, match="no atoms"):
        atoms.get_potential_energy()


def test_from_a_checkpoint_passes_the_neighbor_search_through(student, tmp_path, molecules):
    path = save_student(tmp_path / "student.safetensors", student)
    calculator = StudentCalculator.from_checkpoint(path, use_torch_cluster=False)
    assert calculator.potential.student.neighbor_search.name == "native"
    assert calculator.potential.dtype == torch.float32
    atoms = molecules["water"].copy()
    atoms.calc = calculator
    BFGS(atoms, logfile=None).run(fmax=0.05, steps=5)
    assert np.isfinite(atoms.get_forces()).all()
