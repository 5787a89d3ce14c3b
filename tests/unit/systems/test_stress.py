"""Volumes, Voigt's order, and which systems have a stress."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.stress import full_3x3_to_voigt_6_stress

from mlff_distiller.systems.boxes import box_of
from mlff_distiller.systems.stress import OF_VOIGT, VOIGT, no_stress, volumes


def test_volumes_are_determinants_of_arrays_and_tensors_of_either_hand():
    cells = np.random.default_rng(0).normal(size=(5, 2, 3, 3))
    expected = np.abs(np.linalg.det(cells))
    np.testing.assert_allclose(volumes(cells), expected, rtol=1e-12)
    np.testing.assert_allclose(volumes(torch.from_numpy(cells)).numpy(), expected, rtol=1e-12)
    assert volumes(np.diag([2.0, 3.0, -4.0])) == pytest.approx(24.0)


def test_the_order_of_the_six_components_is_ases():
    full = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
    six = full_3x3_to_voigt_6_stress(full)
    np.testing.assert_array_equal(six, full[VOIGT])
    np.testing.assert_array_equal(six[OF_VOIGT], full)


@pytest.mark.parametrize(
    ("cell", "pbc", "why"),
    [
        (np.zeros((3, 3)), False, "a molecule has no stress"),
        (9.0 * np.eye(3), False, "a molecule has no stress"),
        (9.0 * np.eye(3), True, ""),
        (9.0 * np.eye(3), (True, True, False), ""),
        (np.diag([9.0, 9.0, 0.0]), (True, True, False), "a lattice vector is missing"),
        # A vector in the plane of the others spans no volume either.
        ([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [3.0, 4.0, 0.0]], (True, True, False), "a lattice vector is missing"),
    ],
)
def test_what_spans_no_volume_has_no_stress(cell, pbc, why):
    found = no_stress(box_of(Atoms("H", cell=cell, pbc=pbc)))
    assert why in found if why else found == ""
