"""What the student cannot answer is refused in words, and a user can insist."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.limits import ALLOWABLE, Limits
from mlff_distiller.systems.read import check_atoms
from mlff_distiller.utils.errors import UserError

LEARNED = frozenset({1, 6, 7, 8, 9, 15, 16, 17, 35})
WATER = molecule("H2O")


def said(charges=None, magmoms=None, **info):
    atoms = WATER.copy()
    atoms.info |= info
    if charges is not None:
        atoms.set_initial_charges(charges)
    if magmoms is not None:
        atoms.set_initial_magnetic_moments(magmoms)
    return atoms


CHARGED = [said(charge=1), said(charge=-1.0), said(total_charge="2"), said(Charge=1), said(charges=[1, 0, 0])]
OPEN = [said(spin=2), said(multiplicity=3), said(spin_multiplicity=2), said(uhf=1), said(magmoms=[0, 1, 0])]
NEUTRAL = [
    said(),
    said(charge=0, spin=1, multiplicity=1, uhf=0),
    said(charge=0.0, spin=0),
    said(charge=None),
    said(charges=[-0.834, 0.417, 0.417], magmoms=[0, 0, 0]),
    said(name="charge"),
]


@pytest.mark.parametrize(("systems", "kind"), [(CHARGED, "charge"), (OPEN, "spin")])
def test_a_charge_and_unpaired_electrons_are_refused_unless_insisted_on(systems, kind):
    for atoms in systems:
        for ask in (check_atoms, lambda atoms, allow=(): Batch.from_atoms([atoms], allow=allow)):
            with pytest.raises(UserError, match=rf"neutral molecules.*allow=\('{kind}',\)"):
                ask(atoms)
            ask(atoms, allow=(kind,))
            with pytest.raises(UserError, match="neutral molecules"):
                ask(atoms, allow=set(ALLOWABLE) - {kind})


def test_neutral_closed_shells_pass():
    for atoms in NEUTRAL:
        check_atoms(atoms)
        assert Limits().charge_or_spin(atoms) == ""


def test_a_charge_that_is_no_number_is_refused():
    with pytest.raises(UserError, match=r"info\['charge'\] is 'plus one'"):
        check_atoms(said(charge="plus one"))


def test_an_element_never_learned_is_refused_with_those_that_were():
    with pytest.raises(UserError, match=r"atom 2 is Si.*knows H, C, N, O, F, P, S, Cl, Br.*allow=\('elements',\)"):
        Limits(LEARNED).check_numbers(np.array([1, 6, 14]))
    Limits(LEARNED, allow=("elements",)).check_numbers(np.array([1, 6, 14]))
    Limits().check_numbers(np.array([1, 6, 14]))


@pytest.mark.parametrize("number", [0, -1, 101])
@pytest.mark.parametrize("limits", [Limits(), Limits(LEARNED), Limits(LEARNED, ALLOWABLE)], ids=["any", "some", "all"])
def test_what_has_no_embedding_is_always_refused(number, limits):
    with pytest.raises(UserError, match=rf"atom 1 has the atomic number {number}; known elements are 1 \(H\) to 100"):
        limits.check_numbers(np.array([1, number]))


def test_a_misspelt_allow_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'elements'"):
        Limits(allow=("element",))


def test_the_system_of_a_batch_is_named():
    with pytest.raises(UserError, match="system 1 of the batch: atom 0 has the atomic number 0"):
        Batch.from_atoms([WATER, Atoms([0])])
