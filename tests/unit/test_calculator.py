"""The ASE calculator behaves as ASE users expect, and never returns a stale result."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.optimize import BFGS

from mlff_distiller.calculator import StudentCalculator, load
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
    energy = atoms.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="not periodic along any axis"):
        atoms.get_stress()
    assert calculator.results["energy"] == energy
    assert set(atoms.get_properties(["energy", "forces"])) >= {"energy", "forces"}


def test_a_slab_has_the_stress_of_its_cell(calculator, molecules):
    from ase.calculators.fd import calculate_numerical_stress

    atoms = molecules["benzene"].copy()
    atoms.set_cell([[7.0, 0, 0], [1.0, 7.5, 0], [0, 0, 12.0]])
    atoms.pbc = (True, True, False)
    atoms.calc = calculator
    np.testing.assert_allclose(calculate_numerical_stress(atoms, eps=1e-5), atoms.get_stress(), atol=1e-7)
    atoms.cell[2] = 0
    with pytest.raises(PropertyNotImplementedError, match=r"lattice vector is missing.*center\(vacuum"):
        atoms.get_stress()
    assert np.isfinite(atoms.get_forces()).all()


@pytest.mark.parametrize("name", ["energies", "dipole", "stres"])
def test_a_property_that_it_does_not_have(calculator, molecules, name):
    with pytest.raises(PropertyNotImplementedError, match=name):
        calculator.get_property(name, molecules["water"])
    with pytest.raises(PropertyNotImplementedError, match=name):
        calculator.calculate(molecules["water"], properties=["energy", name])


def test_without_leave_to_calculate_nothing_old_is_handed_out(calculator, molecules):
    atoms = molecules["water"].copy()
    assert calculator.get_property("energy", atoms, allow_calculation=False) is None
    energy = calculator.get_property("energy", atoms)
    assert calculator.get_property("energy", atoms, allow_calculation=False) == energy
    atoms.positions[0, 0] += 0.1
    assert calculator.get_property("energy", atoms, allow_calculation=False) is None


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda calculator: pickle.loads(pickle.dumps(calculator))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_has_atoms_and_results_of_its_own(calculator, molecules, copied):
    first, second = molecules["water"].copy(), molecules["water"].copy()
    first.calc = calculator
    energy = first.get_potential_energy()
    forces = first.get_forces()
    second.calc = copied(first.calc)
    assert second.calc.results["energy"] == energy
    second.positions[0, 0] += 0.3
    moved = second.get_potential_energy()
    second.get_forces()
    assert moved != energy
    assert first.get_potential_energy() == energy
    # Let it follow: what changed is not what the copy has seen.
    first.positions[:] = second.positions
    assert first.get_potential_energy() == moved
    first.positions[:] = molecules["water"].positions
    np.testing.assert_array_equal(first.get_forces(), forces)


def energy_in_a_process(calculator, atoms):
    return calculator.get_potential_energy(atoms)


def test_it_can_be_sent_to_a_process_that_is_spawned(calculator, molecules):
    expected = calculator.get_potential_energy(molecules["water"])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(energy_in_a_process, (calculator, molecules["water"])) == pytest.approx(expected, abs=1e-9)


def test_threads_that_share_it_get_the_answers_to_their_own_questions(calculator, student64, molecules):
    frames = []
    for step in range(6):
        atoms = molecules["water"].copy()
        atoms.positions[0, 0] += 0.05 * step
        frames.append(atoms)
    alone = [StudentCalculator(AutogradPotential(student64)).get_forces(atoms) for atoms in frames]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(20):
            for found, expected in zip(threads.map(calculator.get_forces, frames), alone, strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_charge_is_refused_also_when_the_result_is_there_already(calculator, molecules):
    atoms = molecules["water"].copy()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    atoms.info["charge"] = 1
    with pytest.raises(UserError, match=r"info\['charge'\] is 1"):
        atoms.get_potential_energy()
    atoms.info["charge"] = 0
    assert atoms.get_potential_energy() == energy


def test_energies_that_are_not_finite_name_the_nearest_pair(calculator, molecules):
    atoms = molecules["water"].copy()
    atoms.positions[2] = atoms.positions[1]
    with pytest.raises(UserError, match=r"not finite: atoms 1 \(H\) and 2 \(H\) are 0\.000 A apart"):
        calculator.get_forces(atoms)
    assert not calculator.results


SHIPPED = Path(__file__).parents[2] / "resources" / "student" / "student.safetensors"


def test_the_shipped_student_knows_nine_elements(molecules):
    calculator = StudentCalculator.from_checkpoint(SHIPPED)
    silane = molecules["methane"].copy()
    silane.numbers[silane.numbers == 6] = 14
    silane.positions *= 1.36
    with pytest.raises(UserError, match=r"atom 0 is Si, .*it knows H, C, N, O, F, P, S, Cl, Br"):
        calculator.get_potential_energy(silane)
    assert np.isfinite(StudentCalculator.from_checkpoint(SHIPPED, allow=["elements"]).get_potential_energy(silane))
    assert np.isfinite(calculator.get_potential_energy(molecules["methane"]))


def test_an_optimizer_that_falls_into_a_hole_ends_in_words(molecules):
    atoms = molecules["methane"].copy()
    atoms.set_distance(0, 1, 0.6, fix=0)
    atoms.calc = StudentCalculator.from_checkpoint(SHIPPED)
    with pytest.raises(UserError, match=r"atoms 0 \(C\) and 1 \(H\) are 0\.600 A apart"):
        BFGS(atoms, logfile=None).run(fmax=0.05, steps=50)
    # Not at the start only: pressed together step by step.
    atoms.positions = molecules["methane"].positions
    direction = atoms.get_distance(0, 1, vector=True)
    for _ in range(20):
        previous = atoms.get_distance(0, 1)
        try:
            atoms.get_potential_energy()
        except UserError:
            break
        atoms.positions[1] -= 0.03 * direction
    assert 0.68 < previous < 0.727
    calculator = StudentCalculator.from_checkpoint(SHIPPED, allow="distances")
    assert calculator.get_potential_energy(atoms) < 0


#: What GFN2-xTB says of the bond between the first two atoms at 1.5, 2 and 2.5 A, eV above its start.
PULLED = {
    "HF": (2.15, 3.77, 4.59),
    "HCl": (0.38, 2.11, 3.51),
    "H2O": (2.34, 4.49, 5.67),
    "CH4": (1.39, 3.52, 4.95),
}


@pytest.mark.parametrize("name", PULLED)
def test_a_single_bond_that_is_pulled_apart_costs_what_the_teacher_says(name):
    atoms = molecule(name)
    atoms.calc = StudentCalculator.from_checkpoint(SHIPPED)
    energies = [atoms.get_potential_energy()]
    for distance in (1.5, 2.0, 2.5, 3.0):
        atoms.set_distance(0, 1, distance, fix=0)
        energies.append(atoms.get_potential_energy())
    np.testing.assert_allclose(np.array(energies[1:4]) - energies[0], PULLED[name], rtol=0, atol=0.5)
    assert (np.diff(energies) > 0).all()


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, "half"])
def test_half_precision_is_refused(dtype):
    with pytest.raises(UserError, match=r"dtype must be torch\.float32 or torch\.float64"):
        StudentCalculator.from_checkpoint(SHIPPED, dtype=dtype)


def test_the_factory_takes_a_checkpoint_by_its_path(molecules):
    calculator = load(str(SHIPPED), device="cpu", dtype="float64", allow=["charge"])
    assert isinstance(calculator, StudentCalculator)
    assert calculator.potential.dtype == torch.float64
    charged = molecules["water"].copy()
    charged.info["charge"] = 1
    expected = StudentCalculator.from_checkpoint(SHIPPED).get_potential_energy(molecules["water"])
    assert calculator.get_potential_energy(charged) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UserError, match="no such checkpoint"):
        load("nowhere.safetensors")


def test_a_misspelt_keyword_is_refused(student64):
    with pytest.raises(UserError, match="unknown key 'alow'"):
        StudentCalculator(AutogradPotential(student64), alow=("elements",))
