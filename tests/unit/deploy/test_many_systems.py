"""Many systems at once give what the calculator gives for each, and refuse what it refuses."""

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_distiller.deploy.engines.many_systems import ManySystems
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.base import Potential
from mlff_distiller.systems.limits import Limits
from mlff_distiller.utils.errors import UserError


@pytest.fixture
def many(student):
    return ManySystems(AutogradPotential(student))


def tensors(systems):
    """As an engine has them: float64, one cell and periodicity for each."""
    return (
        torch.from_numpy(np.concatenate([atoms.numbers for atoms in systems])),
        torch.from_numpy(np.concatenate([atoms.positions for atoms in systems])),
        torch.arange(len(systems)).repeat_interleave(torch.tensor([len(atoms) for atoms in systems])),
        torch.from_numpy(np.stack([atoms.cell.array for atoms in systems])),
        torch.from_numpy(np.stack([atoms.pbc for atoms in systems])),
    )


def equal_the_calculator(found, systems, student, stress=False):
    energies, forces, stresses = found
    assert energies.dtype == forces.dtype == torch.float64
    start = 0
    for system, atoms in enumerate(systems):
        alone = atoms.copy()
        alone.calc = PotentialCalculator(AutogradPotential(student))
        # float32, and batches sum in another order.
        assert float(energies[system]) == pytest.approx(alone.get_potential_energy(), abs=2e-3)
        part = forces[start : start + len(atoms)].numpy()
        np.testing.assert_allclose(part, alone.get_forces(), atol=2e-3)
        if stress:
            np.testing.assert_allclose(stresses[system].numpy(), alone.get_stress(voigt=False), atol=1e-5)
        start += len(atoms)
    assert (stresses is not None) == stress


def in_a_box(atoms, lengths, pbc=True):
    atoms = atoms.copy()
    atoms.set_cell(np.diag(lengths) + np.array([[0, 0, 0], [1.5, 0, 0], [0, -1.0, 0]]))
    atoms.pbc = pbc
    return atoms


@pytest.mark.parametrize("far", [0.0, 3000.0], ids=["at the origin", "far away"])
def test_molecules_of_all_sizes(many, student, molecules, far):
    systems = [molecules[name].copy() for name in ("water", "caffeine", "methane")]
    for atoms in systems:
        atoms.positions += far
    equal_the_calculator(many(*tensors(systems)), systems, student)


def test_boxes_slabs_and_molecules_together(many, student, molecules):
    caffeine = molecules["caffeine"]
    systems = [in_a_box(caffeine, [11, 11, 8]), molecules["water"], in_a_box(caffeine, [11, 11, 30], [1, 1, 0])]
    equal_the_calculator(many(*tensors(systems)), systems, student)
    periodic = [systems[0], systems[2]]
    equal_the_calculator(many(*tensors(periodic), stress=True), periodic, student, stress=True)


def test_a_box_that_changes_and_tensors_that_are_written_into(many, student, molecules):
    """What is remembered of the last call is of these values, not of these tensors."""
    system = in_a_box(molecules["caffeine"], [11, 11, 8])
    given = tensors([system])
    first = many(*given, stress=True)
    given[3].mul_(1.03)
    given[1].mul_(1.03)
    system.set_cell(system.cell * 1.03, scale_atoms=True)
    second = many(*given, stress=True)
    assert abs(float(first[0] - second[0])) > 0.01
    equal_the_calculator(second, [system], student, stress=True)
    given[0][system.numbers == 8] = 7
    system.numbers[system.numbers == 8] = 7
    equal_the_calculator(many(*given, stress=True), [system], student, stress=True)


def test_molecules_that_drift_keep_their_digits(many, student, molecules):
    """Wandering off by 20 A a call, to where float32 has steps of 0.001 A."""
    water = molecules["water"].copy()
    energy = float(many(*tensors([water]))[0])
    for _ in range(500):
        water.positions += [20.0, -11.0, 0.0]
        found = many(*tensors([water]))
    assert float(found[0]) == pytest.approx(energy, abs=1e-4)


@pytest.fixture
def knows_hcno(student):
    potential = AutogradPotential(student)
    potential.limits = potential.inputs.limits = Limits(elements=frozenset({1, 6, 7, 8}))
    return ManySystems(potential)


def close(molecules, name="water"):
    atoms = molecules[name].copy()
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.4, 0.0]
    return atoms


def test_atoms_too_close_are_named(knows_hcno, molecules):
    systems = [molecules["caffeine"], close(molecules), molecules["methane"]]
    with pytest.raises(UserError, match=r"system 1 of the batch: atoms 0 \(O\) and 1 \(H\) are 0.400 A apart"):
        knows_hcno(*tensors(systems))
    with pytest.raises(UserError, match=r"^atoms 0 \(O\) and 1 \(H\)"):
        knows_hcno(*tensors([close(molecules)]))
    systems[1] = in_a_box(close(molecules), [9, 9, 9])
    with pytest.raises(UserError, match=r"system 1 of the batch: atoms 0 \(O\) and 1 \(H\)"):
        knows_hcno(*tensors(systems))
    # Across a face of the box.
    apart = Atoms("H2", [[0.1, 4, 4], [8.9, 4, 4]], cell=[9, 9, 9], pbc=True)
    with pytest.raises(UserError, match=r"atoms 0 \(H\) and 1 \(H\) are 0.200 A apart"):
        knows_hcno(*tensors([apart]))


def test_atoms_that_come_too_close_later(knows_hcno, molecules):
    systems = [molecules["water"].copy() for _ in range(3)]
    knows_hcno(*tensors(systems))
    systems[2] = close(molecules)
    with pytest.raises(UserError, match="system 2 of the batch"):
        knows_hcno(*tensors(systems))
    systems[2] = molecules["water"]
    knows_hcno(*tensors(systems))


def test_elements_positions_and_cells(knows_hcno, molecules):
    water, fluoride = molecules["water"], Atoms("HF", [[0, 0, 0], [0, 0, 0.92]])
    with pytest.raises(UserError, match="is F, which the student never learned"):
        knows_hcno(*tensors([water, fluoride]))
    lost = water.copy()
    lost.positions[2, 1] = np.nan
    with pytest.raises(UserError, match="system 1 of the batch: atom 2 is at"):
        knows_hcno(*tensors([water, lost]))
    lost.positions[2, 1] = 3e4
    with pytest.raises(UserError, match="A from the center of its system"):
        knows_hcno(*tensors([lost]))
    with pytest.raises(UserError, match="system 1: periodic along a, b, c, but the cell"):
        knows_hcno(*tensors([in_a_box(water, [9, 9, 9]), Atoms("H2", [[0, 0, 0], [0, 0, 1]], pbc=True)]))


def test_molecules_have_no_stress(many, molecules):
    with pytest.raises(UserError, match="a molecule has no stress"):
        many(*tensors([molecules["water"]]), stress=True)
    with pytest.raises(UserError, match="a molecule has no stress"):
        many(*tensors([molecules["water"], in_a_box(molecules["water"], [9, 9, 9])]), stress=True)


def test_kernels_without_stress_say_so(student, molecules):
    class WithoutStress(AutogradPotential):
        with_stress = Potential.with_stress

    with pytest.raises(UserError, match="the kernels of this bundle give no stress"):
        ManySystems(WithoutStress(student))(*tensors([in_a_box(molecules["water"], [9, 9, 9])]), stress=True)
