"""Torsions, conformers, dimers, holes and cusps: curves with known answers."""

import numpy as np
import pytest
from ase import Atoms

from mlff_distiller.acceptance.conformers import compare_conformers, distinct
from mlff_distiller.acceptance.dimers import DIMERS, HYDRIDES, End, compare_dimers, end_of, facing, well
from mlff_distiller.acceptance.energies import energies_and_forces, refused
from mlff_distiller.acceptance.smoothness import compare_curves, judge, main_minimum, single_bonds, slopes, stretched
from mlff_distiller.acceptance.torsions import compare_profiles, torsions_of, turned
from mlff_distiller.data.geometry import make_shape
from mlff_distiller.systems.units import KCAL_PER_MOL
from tests.unit.acceptance.toys import Broken, Refusing, morse

X = np.arange(0.6, 3.0, 0.05)


def kcal(values):
    return (np.asarray(values) * KCAL_PER_MOL).tolist()


def judged(energies, forces, hole_depth=1.0):
    main = main_minimum(morse(X)[0], 1.0)
    wall = (morse(X)[0] > morse(X)[0][main] + 10) & (X[main] > X)
    return judge(X, energies, forces, X[main], wall, hole_depth)


def test_a_morse_curve_has_no_hole_and_no_cusp():
    assert judged(*morse(X)) == {"holes": [], "walls": [], "cusps": [], "below_a": None, "below_kcal_mol": None}


@pytest.mark.parametrize(("place", "depth"), [(0.8, 150.0), (2.0, 30.0)])
def test_a_dent_in_a_morse_curve_is_one_hole_at_its_place(place, depth):
    energies, forces = morse(X)
    found = judged(energies - depth * np.exp(-(((X - place) / 0.08) ** 2)), forces)
    assert len(found["holes"]) == 1
    assert found["holes"][0] == pytest.approx(place, abs=0.1)


def test_a_shallow_dent_is_none():
    energies, forces = morse(X)
    assert judged(energies - 0.3 * np.exp(-(((X - 2.9) / 0.05) ** 2)), forces)["holes"] == []


def test_an_energy_that_turns_over_is_a_hole_and_falls_below_the_minimum():
    energies, forces = morse(X)
    found = judged(np.where(X < 0.9, energies - 4000 * (0.9 - X), energies), forces)
    assert found["holes"] == [0.6]
    # The highest point is where the energy turns over.
    assert found["walls"] == [pytest.approx(morse(0.9)[0] + 100, rel=0.02)]
    assert 0.6 <= found["below_a"] < 0.9
    assert found["below_kcal_mol"] > 100


def test_a_jump_of_the_slope_is_one_cusp_at_its_place():
    energies, forces = morse(X)
    found = judged(energies, forces + np.where(X > 1.82, 2.0, 0.0))
    assert found["cusps"] == [pytest.approx(1.825, abs=0.026)]


def test_two_molecules_may_have_a_well_but_no_hole_in_the_wall():
    x = np.arange(0.8, 4.0, 0.05)
    curve = 3 * ((3.0 / x) ** 6 - 2 * (3.0 / x) ** 3)
    flat = np.zeros_like(x)
    clean = compare_curves(x, kcal(curve), flat, np.array(kcal(1.5 * curve)), flat, x > 0, 1.0, bond=False)
    assert (clean["holes_a"], clean["below_minimum_a"], clean["teacher_holes_a"]) == ([], None, [])
    fallen = np.where(x < 1.5, curve - 4000 * (1.5 - x), curve)
    found = compare_curves(x, kcal(curve), flat, np.array(kcal(fallen)), flat, x > 0, 1.0, bond=False)
    assert len(found["holes_a"]) == 1
    assert found["walls_kcal_mol"][0] == pytest.approx(curve[x >= 1.5][0] - curve[-1], rel=0.05)
    assert 0.8 <= found["below_minimum_a"] < 1.5
    # An energy that never rises is found, too.
    sunk = compare_curves(x, kcal(curve), flat, np.array(kcal(-curve)), flat, x > 0, 1.0, bond=False)
    assert sunk["holes_a"] == [0.8]
    assert sunk["below_minimum_a"] is not None


def test_what_the_student_refuses_is_told_apart():
    energies, forces = morse(X)
    dented = energies - 150 * np.exp(-(((X - 0.8) / 0.08) ** 2))
    for shortest, holes, hidden in ((0.6, 1, 0), (1.0, 0, 1)):
        record = compare_curves(X, kcal(energies), forces, np.array(kcal(dented)), forces, shortest - 1e-9 <= X, 1.0)
        assert (len(record["holes_a"]), len(record["refused_holes_a"])) == (holes, hidden)
        assert record["shortest_accepted_a"] == pytest.approx(shortest)
        assert record["teacher_holes_a"] == []
        assert record["minimum_a"] == pytest.approx(1.2)


def test_a_curve_that_is_refused_altogether_is_an_error_with_words():
    energies, forces = morse(X)
    with pytest.raises(ValueError, match="fewer than four"):
        compare_curves(X, kcal(energies), forces, np.array(kcal(energies)), forces, X > 9, 1.0)


def test_slopes_are_those_of_the_energy():
    positions = np.array([[0.0, 0, 0], [0, 0, 1.0]])
    frames = stretched(positions, 0, 1, [1], [0.8, 0.9, 1.0])
    assert np.linalg.norm(frames[:, 1] - frames[:, 0], axis=1) == pytest.approx([0.8, 0.9, 1.0])
    energies, forces = energies_and_forces(Refusing([(0, 1)], 10.0, 1.0), [1, 1], frames)
    assert energies == pytest.approx([0.2, 0.05, 0.0])
    assert slopes(forces, [1], np.array([0, 0, 1.0])) == pytest.approx([-2.0, -1.0, 0.0])


def test_a_refusal_leaves_a_gap_and_a_bug_is_raised():
    frames = np.array([[[0.0, 0, 0], [0, 0, d]] for d in (0.5, 0.9)])
    energies, _ = energies_and_forces(Refusing([(0, 1)], 10.0, 1.0), [1, 1], frames, refusing=True)
    assert np.isnan(energies).tolist() == [True, False]
    with pytest.raises(RuntimeError, match="a bug"):
        energies_and_forces(Broken([(0, 1)], 10.0, 1.0), [1, 1], frames, refusing=True)


def test_frames_that_a_student_refuses_by_their_distances():
    frames = np.array([[[0.0, 0, 0], [0, 0, d]] for d in (0.5, 0.9, 1.1)])
    # 0.68 of the sum of the covalent radii of C and O, 1.42 A
    assert refused([6, 8], frames).tolist() == [True, True, False]


def test_a_torsion_of_a_known_barrier():
    angles = np.arange(0, 360, 15.0)
    known = 0.5 * 3.0 * (1 - np.cos(3 * np.radians(angles)))
    record = compare_profiles(angles, kcal(known), kcal(0.8 * known + 7))
    assert record["barrier_kcal_mol"] == pytest.approx(3.0)
    assert record["barrier_error_kcal_mol"] == pytest.approx(-0.6)
    assert record["profile_mae_kcal_mol"] == pytest.approx(0.3)
    with_a_gap = compare_profiles(angles, kcal(known), [None, *kcal(known)[1:]])
    assert (with_a_gap["points"], with_a_gap["refused"]) == (23, 1)


def test_a_torsion_turns_one_side_alone():
    shape = make_shape("CCO", 1, 0)
    found = torsions_of(shape, shape.starts[0], 5)
    assert [shape.numbers[one["atoms"]].tolist() for one in found] == [[1, 6, 6, 8], [6, 6, 8, 1]]
    frames = turned(shape.numbers, shape.starts[0], found[0]["atoms"], found[0]["side"], np.array([30.0, 90.0]))
    for frame, angle in zip(frames, (30, 90), strict=True):
        atoms = Atoms(shape.numbers, frame)
        assert atoms.get_dihedral(*found[0]["atoms"]) == pytest.approx(angle)
        for i, j in shape.bonds:
            assert atoms.get_distance(i, j) == pytest.approx(np.linalg.norm(shape.starts[0][i] - shape.starts[0][j]))


def test_a_straight_chain_has_no_torsion():
    shape = make_shape("C#CC(=O)O", 1, 0)
    assert [shape.numbers[k] for one in torsions_of(shape, shape.starts[0], 5) for k in one["atoms"][1:3]] == [6, 8]


def test_bonds_that_are_pulled_are_single_open_and_of_different_elements():
    shape = make_shape("C=CC(N)=O", 1, 0)
    found = [{int(shape.numbers[i]), int(shape.numbers[j])} for i, j, _ in single_bonds(shape, 9)]
    assert found == [{6, 7}, {6}, {7, 1}, {6, 1}]


def test_conformers_are_ranked_and_equal_ones_count_once():
    rng = np.random.default_rng(0)
    positions = [rng.normal(size=(5, 3)) for _ in range(3)]
    assert distinct([0.2, 0.0, 0.1], positions) == [1, 2, 0]
    assert distinct([0.2, 0.0, 0.2 + 1e-5], positions) == [1, 0]
    assert distinct([0.2, 0.0, 0.1], [positions[0], positions[1], positions[1] + 1.0]) == [1, 0]
    record = compare_conformers(kcal([0.0, 1.0, 2.0, 3.0]), kcal([5.0, 6.0, 8.0, 7.0]))
    assert record["spearman"] == pytest.approx(0.8)
    assert record["conformer_mae_kcal_mol"] == pytest.approx(0.5)
    assert record["same_lowest"]
    assert compare_conformers(kcal([0.0, 1.0]), kcal([0.0, 1.5]))["spearman"] is None


def test_a_well_has_its_known_depth_and_distance():
    r = np.arange(2.0, 8.01, 0.2)
    curve = 2.0 * ((3.1 / r) ** 12 - 2 * (3.1 / r) ** 6)
    assert well(r, curve) == (pytest.approx(2.0, abs=0.03), pytest.approx(3.1, abs=0.02))
    assert well(r, 1 / r) == (0.0, None)
    # A curve that still falls at its first point has no minimum that is known.
    assert well(r, -1 / r) == (0.0, None)
    record = compare_dimers(r, kcal(curve), kcal(0.5 * curve), 5.0)
    assert record["well_depth_error_kcal_mol"] == pytest.approx(-1.0, abs=0.03)
    assert record["student_minimum_a"] == pytest.approx(record["minimum_a"], abs=1e-6)
    near = curve < 5
    assert record["dimer_mae_kcal_mol"] == pytest.approx(np.abs(0.5 * curve[near]).mean(), abs=1e-3)


def test_ends_face_each_other_at_the_distance():
    water = np.array([[0.0, 0, 0.1], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    ends = End("toward", (0, 1)), End("lone", (0,))
    for frame, distance in zip(facing(water, water, ends, 90.0, [2.5, 4.0]), (2.5, 4.0), strict=True):
        assert np.linalg.norm(frame[3] - frame[0]) == pytest.approx(distance)
        # The hydrogen of the first lies on the line between both oxygens, those of the second behind its oxygen.
        assert np.linalg.norm(frame[1] - frame[0]) + np.linalg.norm(frame[3] - frame[1]) == pytest.approx(distance)
        assert frame[4:, 2].min() > frame[3, 2]
        inner = [np.linalg.norm(frame[3 * k + 1] - frame[3 * k]) for k in (0, 1)]
        assert inner == pytest.approx([np.linalg.norm(water[1] - water[0])] * 2)
    with pytest.raises(ValueError, match="unknown end"):
        end_of(water, End("upside", (0,)))


@pytest.mark.parametrize("name", DIMERS)
def test_the_ends_of_every_dimer_are_the_atoms_that_they_should_be(name):
    dimer = DIMERS[name]
    for smiles, end in zip((dimer.first, dimer.second), dimer.ends, strict=True):
        shape = make_shape(smiles, 1, 0)
        kinds = [int(shape.numbers[k]) for k in end.atoms]
        if end.kind in ("toward", "behind"):
            assert sorted(end.atoms) in shape.bonds.tolist()
            assert kinds[1] == 1
        if end.kind in ("above", "rim"):
            assert kinds == [6] * 6
        _, direction = end_of(shape.starts[0], end)
        assert np.linalg.norm(direction) == pytest.approx(1.0)


@pytest.mark.parametrize("symbol", HYDRIDES)
def test_a_hydride_turns_its_element_to_the_other(symbol):
    smiles, end = HYDRIDES[symbol]
    shape = make_shape(smiles, 1, 0)
    point, direction = end_of(shape.starts[0], end)
    atoms = Atoms(shape.numbers, shape.starts[0])
    assert atoms[end.atoms[0]].symbol == symbol
    assert point == pytest.approx(atoms.positions[end.atoms[0]])
    # No other atom is farther out.
    assert ((atoms.positions - point) @ direction).max() == pytest.approx(0, abs=0.5)
