"""Atoms closer than the student learned are found, in molecules and boxes, at every step of a path."""

import numpy as np
import pytest
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

from mlff_distiller.systems.distances import SHORTEST, DistanceCheck
from mlff_distiller.utils.errors import UserError


def too_close(atoms):
    """By ASE, whether any pair is below its limit."""
    i, j, distance = neighbor_list("ijd", atoms, 4.0)
    radii = covalent_radii[atoms.numbers]
    return bool((distance < SHORTEST * (radii[i] + radii[j])).any())


def refused(check, atoms):
    try:
        check(atoms.positions)
    except UserError:
        return True
    return False


def test_the_pair_is_named_with_its_distance_and_the_shortest_learned():
    atoms = Atoms("OCH", [[5, 0, 0], [0, 0, 0], [0, 0, 0.6]])
    with pytest.raises(UserError, match=r"atoms 1 \(C\) and 2 \(H\) are 0\.600 A apart.*from 0\.73 A.*'distances'"):
        DistanceCheck(atoms)(atoms.positions)


def test_an_atom_and_its_own_image():
    atoms = Atoms("C", cell=[0.9, 5, 5], pbc=True)
    with pytest.raises(UserError, match=r"atom 0 \(C\) and its periodic image are 0\.900 A apart"):
        DistanceCheck(atoms)(atoms.positions)


@pytest.mark.parametrize(
    ("per_side", "pbc"), [(2, 0), (3, (1, 1, 1)), (3, (1, 0, 1)), (6, 0)], ids=["pairs", "box", "slab", "many"]
)
def test_a_path_is_refused_exactly_where_a_pair_is_too_close(per_side, pbc):
    rng = np.random.default_rng(per_side)
    grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    edges = np.array([[2.0, 0, 0], [0.3, 2.0, 0], [0, 0.2, 2.0]])
    atoms = Atoms(rng.choice([1, 6, 8, 17], len(grid)), grid @ edges, cell=per_side * edges, pbc=pbc)
    home, amplitude = atoms.positions.copy(), rng.normal(0, 0.4, atoms.positions.shape)
    check, found = DistanceCheck(atoms), []
    # Away and back, so that pairs come too close, part, and do it again.
    for step in range(60):
        atoms.positions = home + 2 * np.sin(0.1 * step) * amplitude
        found.append((refused(check, atoms), too_close(atoms)))
    assert [one for one, _ in found] == [other for _, other in found]
    assert {other for _, other in found} == {True, False}


def test_a_molecule_that_vibrates_is_not_looked_at_in_every_step(molecules, monkeypatch):
    atoms = molecules["caffeine"].copy()
    check, home, looks = DistanceCheck(atoms), molecules["caffeine"].positions, []
    closest = DistanceCheck.closest
    monkeypatch.setattr(DistanceCheck, "closest", lambda self, positions: looks.append(1) or closest(self, positions))
    for step in range(50):
        check(home + 0.02 * np.sin(0.3 * step))
    assert len(looks) == 1
