"""What a variant is compared on covers what it will be asked, and an error in any of it is found."""

import json

import numpy as np
import pytest

from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.base import Potential
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import of_the_run, refuses
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.variants import check_equivalence, compile
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.cases import MANY_ATOMS, MOLECULE, cases_of
from mlff_distiller.variants.families.eager import FAMILY
from mlff_distiller.variants.gate import refusal
from tests.conftest import MOLECULES, make_student, run_stage

PERIODIC = {"small cell", "batch of cells", "thin box", "triclinic box"}
NINE = (1, 6, 7, 8, 9, 15, 16, 17, 35)
CUTOFF = 5.0


@pytest.fixture(scope="module")
def cases(molecules):
    return {case.name: case for case in cases_of(molecules, NINE, CUTOFF)}


def heights(atoms):
    return 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)


def test_every_molecule_is_a_case_of_its_name(cases, molecules):
    assert [case.name for case in cases.values() if case.kind == MOLECULE] == list(molecules)
    for name, atoms in molecules.items():
        assert len(cases[name].frames) == 4
        np.testing.assert_array_equal(cases[name].frames[0][0].positions, atoms.positions)


def test_batch_and_boxes_are_too_large_for_one_launch(cases):
    assert cases["batch"].batch > 1
    for name in ("batch", "thin box", "triclinic box"):
        assert cases[name].n_atoms >= MANY_ATOMS


def test_one_small_molecule_is_enough_for_all_cases(molecules):
    found = {case.name: case for case in cases_of({"water": molecules["water"]}, None, CUTOFF)}
    assert found["batch"].n_atoms >= MANY_ATOMS
    assert set(found["all elements"].frames[0][0].numbers) == {1, 8}


def test_every_element_that_was_learned_is_there_twice(cases):
    numbers = cases["all elements"].frames[0][0].numbers
    assert {int(z): int((numbers == z).sum()) >= 2 for z in set(numbers)} == dict.fromkeys(NINE, True)


def test_cells_are_small_thin_and_skewed(cases):
    small, thin, wide = (heights(cases[name].frames[0][0]) for name in ("small cell", "thin box", "triclinic box"))
    assert small.max() < CUTOFF
    assert thin[0] < CUTOFF < 2 * CUTOFF < thin[1:].min()
    assert wide.min() > 2 * CUTOFF
    for name in ("small cell", "thin box", "triclinic box"):
        assert all(abs(angle - 90) > 5 for angle in cases[name].frames[0][0].cell.angles())


def test_bonds_are_stretched(cases, molecules):
    for (frame,), atoms in zip(cases["stretched bonds"].frames, molecules.values(), strict=True):
        assert frame.get_distance(0, 1) == pytest.approx(1.25 * atoms.get_distance(0, 1), abs=0.35)


def off_by(wrong):
    """Eager with forces that are 1 % off where ``wrong(numbers, batch, cell)`` holds."""

    class Wrong(AutogradPotential):
        def __call__(self, numbers, positions, batch, cell=None, pbc=None):
            energies, forces = super().__call__(numbers, positions, batch, cell, pbc)
            return energies, forces * (1.01 if wrong(numbers, batch, cell) else 1.0)

    return Wrong


#: Where an error is -> the cases that show it.
ERRORS = {
    "in batches": (lambda numbers, batch, cell: int(batch[-1]) > 0, {"batch", "batch of cells"}),
    "beyond 105 atoms": (lambda numbers, batch, cell: len(numbers) > 105, {"batch", "thin box", "triclinic box"}),
    "in boxes": (lambda numbers, batch, cell: cell is not None, PERIODIC),
    "with chlorine": (lambda numbers, batch, cell: 17 in numbers, {"all elements"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variant")
    small = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    card = {"data": {"atoms_by_atomic_number": dict.fromkeys(map(str, NINE), 1)}}
    checkpoint = save_student(folder / "student.safetensors", small, card)
    systems = [MOLECULES / "water.extxyz", MOLECULES / "caffeine.extxyz"]
    variant = folder / "mine/variant.json"
    settings = json.dumps({"family": "eager"})
    run_stage(compile, variant=variant, checkpoint=checkpoint, name="mine", settings=settings, systems=systems)
    return VariantFiles(variant, checkpoint)


def checked(files, molecules, monkeypatch, potential):
    monkeypatch.setattr(type(FAMILY), "load", lambda self, student, spec, folder: potential(student))
    systems = {name: molecules[name] for name in ("water", "caffeine")}
    return check_equivalence.check_equivalence(files, systems)


@pytest.mark.parametrize("where", ERRORS)
def test_an_error_that_single_molecules_do_not_show_is_found(files, molecules, monkeypatch, where):
    wrong, expected = ERRORS[where]
    records = checked(files, molecules, monkeypatch, off_by(wrong))
    assert {entry["system"] for entry in records if not entry["equivalent"]} == expected
    for entry in records:
        assert (entry["force_rmse_mev_per_a"] <= entry["force_limit_mev_per_a"]) is entry["equivalent"]


@pytest.mark.parametrize("share", [1e-3, -1e-3])
def test_a_wrong_stress_is_found_in_what_is_periodic(files, molecules, monkeypatch, tmp_path, share):
    class Wrong(AutogradPotential):
        def with_stress(self, *args):
            energies, forces, stresses = super().with_stress(*args)
            return energies, forces, (1 + share) * stresses

    records = checked(files, molecules, monkeypatch, Wrong)
    assert {entry["system"] for entry in records if not entry["equivalent"]} == PERIODIC
    for entry in records:
        assert ("virial_limit_mev_per_atom" in entry) is (entry["system"] in PERIODIC)
        if entry["system"] in PERIODIC:
            assert entry["reason"].startswith("error of stress times volume against fp64")
            assert entry["force_rmse_mev_per_a"] <= entry["force_limit_mev_per_a"]
    assert "stress times volume" in refusal(schema.write(tmp_path / "equivalence.json", records))["reason"]


def test_forces_that_come_with_a_stress_are_compared_too(files, molecules, monkeypatch):
    class Wrong(AutogradPotential):
        def with_stress(self, *args):
            energies, forces, stresses = super().with_stress(*args)
            return energies, 1.01 * forces, stresses

    records = checked(files, molecules, monkeypatch, Wrong)
    assert {entry["system"] for entry in records if not entry["equivalent"]} == PERIODIC


def test_a_stress_of_one_cell_of_a_batch_given_to_another_is_found(files, molecules, monkeypatch):
    class Swapped(AutogradPotential):
        def with_stress(self, *args):
            energies, forces, stresses = super().with_stress(*args)
            return energies, forces, stresses.roll(1, dims=0)

    records = checked(files, molecules, monkeypatch, Swapped)
    assert {entry["system"] for entry in records if not entry["equivalent"]} == {"batch of cells"}


def test_what_gives_no_stress_is_not_asked_for_it(files, molecules, monkeypatch):
    class WithoutStress(AutogradPotential):
        with_stress = Potential.with_stress

    records = checked(files, molecules, monkeypatch, WithoutStress)
    assert all(entry["equivalent"] for entry in records)
    assert not any("virial_limit_mev_per_atom" in entry for entry in records)


def test_what_a_variant_refuses_by_name_is_no_error_and_is_recorded(files, molecules, monkeypatch, tmp_path):
    class MoleculesOnly(AutogradPotential):
        def __call__(self, numbers, positions, batch, cell=None, pbc=None):
            if cell is not None:
                raise NotImplementedError("no boxes")
            return super().__call__(numbers, positions, batch)

    records = checked(files, molecules, monkeypatch, MoleculesOnly)
    refused = [entry for entry in records if refuses(entry)]
    assert {entry["system"] for entry in refused} == PERIODIC
    assert {entry["reason"] for entry in refused} == {"no boxes"}
    assert refusal(schema.write(tmp_path / "equivalence.json", records)) is None


def test_a_molecule_of_the_run_must_not_be_refused(files, molecules, monkeypatch, tmp_path):
    class Nothing(AutogradPotential):
        def __call__(self, *args):
            raise NotImplementedError("not today")

    records = checked(files, molecules, monkeypatch, Nothing)
    assert {entry["status"] for entry in records if of_the_run(entry)} == {"failed"}
    refused = refusal(schema.write(tmp_path / "equivalence.json", records))
    assert refused == {"status": "failed", "reason": "water: not today"}
