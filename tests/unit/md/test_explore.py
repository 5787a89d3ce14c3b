"""A student's own dynamics, optimisations and scans: what they visit, where they end, what of it is to be labeled."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

from mlff_distiller import cli
from mlff_distiller.data.dataset import content_hash, read_configurations, write_dataset
from mlff_distiller.md.choice import DIVERGING, EVEN, WORST
from mlff_distiller.md.distortions import POINTS, open_bonds, stretched, torsion_bonds, turned
from mlff_distiller.md.divergence import BOND_BROKEN, TOO_CLOSE, Watch
from mlff_distiller.md.explore import METHODS, plan
from mlff_distiller.md.explore_settings import ExploreSettings
from mlff_distiller.md.starts import choose_starts
from mlff_distiller.md.walk import Explorer, Walk
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.student import wall
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.training.domain import learn_domain
from mlff_distiller.utils.errors import UserError
from tests.conftest import make_student
from tests.unit.data.labeled_sets import in_boxes, morse_dataset

SHORT = {"steps": 60, "look_every": 10, "temperatures_k": [300], "apart_fs": 5.0, "batch_atoms": 60, "device": "cpu"}
SMALL = {"n_features": 16, "mlp_width": 16, "readout_width": 16, "n_blocks": 1}


def settings(**changes):
    return ExploreSettings.from_mapping({**SHORT, **changes})


def calm_student():
    """Random weights whose forces do not blow molecules up at once."""
    student = make_student(**SMALL)
    with torch.no_grad():
        student.network.readout_out.weight.mul_(0.01)
        student.network.wall.copy_(wall.no_wall(student.config.max_atomic_number))
    return student


class Bonds(Potential):
    """Stiff springs between all atoms of a molecule of any start, at the lengths there; oxygen may fly apart."""

    cutoff, device, dtype = 5.0, torch.device("cpu"), torch.float64

    def __init__(self, lengths, explosive=()):
        self.lengths, self.explosive = lengths, explosive

    def energy(self, numbers, positions, batch, cell=None, pbc=None):
        return self(numbers, positions, batch, cell, pbc)[0]

    def __call__(self, numbers, positions, batch, cell=None, pbc=None):
        positions = positions.detach().requires_grad_()
        energies = []
        for system in range(int(batch[-1]) + 1):
            mine = batch == system
            place = positions[mine]
            distance = torch.pdist(place)
            energy = 0.5 * 15.0 * ((distance - self.lengths[len(place)]) ** 2).sum()
            if set(numbers[mine].tolist()) & set(self.explosive):
                energy = -20.0 * distance.sum()
            energies.append(energy)
        forces = -torch.autograd.grad(sum(energies), positions)[0]
        return torch.stack(energies).detach(), forces


def lengths(*systems):
    return {len(atoms): torch.pdist(torch.tensor(atoms.positions)) for atoms in systems}


@pytest.fixture
def explorer():
    def make(*systems, explosive=(), **changes):
        made = Explorer(make_student(**SMALL), settings(**changes), seed=1)
        made.potential = Bonds(lengths(*systems), explosive)
        return made

    return make


def test_dynamics_looks_at_every_tenth_step_of_each_system(explorer):
    water, methane = molecule("H2O"), molecule("CH4")
    walks = [Walk(water, 300.0), Walk(methane, 1000.0), Walk(water, 300.0)]
    explorer(water, methane).dynamics(walks)
    for walk in walks:
        assert walk.times == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
        assert len(walk.frames) == 7
        assert not walk.ended
        np.testing.assert_allclose(walk.frames[0], walk.start.positions)
    assert np.abs(walks[0].frames[-1] - walks[2].frames[-1]).max() > 0.01, "each has velocities of its own"


def test_temperatures_are_those_of_each_system(explorer):
    methane = molecule("CH4")
    walks = [Walk(methane, 50.0) for _ in range(8)] + [Walk(methane, 1500.0) for _ in range(8)]
    explorer(methane, steps=400).dynamics(walks)
    spread = [np.std(np.array([w.frames for w in part])[:, 10:] - methane.positions) for part in (walks[:8], walks[8:])]
    assert spread[1] > 2.5 * spread[0]


def test_a_system_that_diverges_ends_alone_and_keeps_no_frame_from_then_on(explorer):
    water, methane = molecule("H2O"), molecule("CH4")
    walks = [Walk(methane, 300.0), Walk(water, 300.0), Walk(methane, 600.0)]
    explorer(water, methane, explosive=(8,)).dynamics(walks)
    assert [bool(walk.ended) for walk in walks] == [False, True, False]
    assert len(walks[0].frames) == len(walks[2].frames) == 7
    assert 1 <= len(walks[1].frames) < 7
    watch = Watch(water)
    assert all(watch(frame) is None for frame in walks[1].frames)
    found = walks[1].candidates(settings(), has_domain=False)
    assert len(found["positions"]) == 3 * len(found["why"])
    assert found["time"].max() == walks[1].times[-1]


def test_replayed_graphs_move_systems_as_plain_operations_do():
    student = calm_student()
    made = {}
    for potential in (AnalyticPotential(student), GraphedPotential(student, analytic_edge_gradient(student))):
        explorer = Explorer(student, settings(steps=20), seed=1)
        explorer.potential = potential
        made[type(potential)] = [Walk(molecule("CH4"), 300.0), Walk(molecule("C2H6"), 300.0)]
        explorer.dynamics(made[type(potential)])
    for one, other in zip(*made.values(), strict=True):
        assert len(one.frames) == len(other.frames) > 1
        np.testing.assert_allclose(one.frames, other.frames, atol=1e-4)


class RefusesLostAtoms(Bonds):
    """As the compiled kernel does: for positions beyond sense it answers none of the systems."""

    def __call__(self, numbers, positions, batch, cell=None, pbc=None):
        if float(positions.abs().max()) > 20.0:
            raise UserError("an atom is lost")
        return super().__call__(numbers, positions, batch, cell, pbc)


def test_a_kernel_that_refuses_all_systems_for_one_is_replaced(explorer):
    water, methane = molecule("H2O"), molecule("CH4")
    walks = [Walk(methane, 300.0), Walk(water, 300.0)]
    made = explorer(water, methane, look_every=60)
    made.potential = RefusesLostAtoms(lengths(water, methane), explosive=(8,))
    made.plain = Bonds(lengths(water, methane), explosive=(8,))
    made.dynamics(walks)
    assert walks[1].ended
    assert walks[0].times == [0.0, 30.0]
    # What the plain one refuses, too, is no matter of the kernel.
    made.potential = made.plain = RefusesLostAtoms(lengths(water, methane), explosive=(8,))
    with pytest.raises(UserError, match="an atom is lost"):
        made.dynamics([Walk(methane, 300.0), Walk(water, 300.0)])


def test_an_optimisation_goes_down_to_the_minimum(explorer):
    ethanol = molecule("CH3CH2OH")
    rng = np.random.default_rng(0)
    bond = open_bonds(ethanol)[0]
    walk = Walk(ethanol)
    made = explorer(ethanol)
    made.relaxations([walk], [stretched(ethanol.positions, bond, rng)])
    batches = [Batch.from_atoms([Atoms(ethanol.numbers, frame)], dtype=torch.float64) for frame in walk.frames]
    energies = [float(made.potential.energy(*batch)) for batch in batches]
    assert not walk.ended
    assert energies[0] > 0.5
    assert all(later < before for before, later in pairwise(energies[:5]))
    assert energies[-1] < 0.1 * energies[0]


def test_a_strained_start_settles_and_one_that_falls_into_a_hole_stays(explorer):
    water, methane = molecule("H2O"), molecule("CH4")
    made = explorer(water, methane, explosive=(8,))
    pressed = methane.copy()
    pressed.positions *= 0.95
    settled = made.settled([pressed, water])
    assert settled[0].get_distance(0, 1) == pytest.approx(methane.get_distance(0, 1), abs=0.005)
    np.testing.assert_array_equal(settled[1].positions, water.positions)


def test_a_scan_leaves_out_the_angles_at_which_atoms_meet(explorer):
    crowded = molecule("CH3CH2OH")
    bond = torsion_bonds(open_bonds(crowded), crowded)[0]
    frames = turned(crowded.positions, bond)
    assert frames.shape == (POINTS, 9, 3)
    np.testing.assert_allclose(frames[0], crowded.positions)
    inside = ~bond[2]
    for frame in frames:
        np.testing.assert_allclose(np.linalg.norm(frame[inside] - frame[bond[1]], axis=1),
                                   np.linalg.norm(crowded.positions[inside] - crowded.positions[bond[1]], axis=1))  # fmt: skip
    frames[5, 0] = frames[5, 1] + 0.3
    walk = Walk(crowded)
    explorer(crowded).scan(walk, frames)
    assert len(walk.frames) == POINTS - 1
    assert not walk.ended


def test_bonds_in_rings_and_boxes_are_not_open():
    benzene = molecule("C6H6")
    found = [sorted(benzene.numbers[[i, j]].tolist()) for i, j, _ in open_bonds(benzene)]
    assert found == [[1, 6]] * 6
    assert open_bonds(molecule("CH4", cell=[9, 9, 9], pbc=True)) == []


def test_starts_are_the_lowest_geometries_and_none_that_measures_is_trained_on():
    whole = morse_dataset(60)
    named = {"water": "train", "methane": "val", "formaldehyde": "train"}
    split = np.array([whole.splits.index(named[whole.molecules[m]]) for m in whole.molecule], dtype=np.uint8)
    dataset = replace(whole, split=split)
    starts, there = choose_starts(dataset, settings(molecules=10, clusters=0, held_out=0.5), None, seed=0)
    assert {(s.molecule, s.split) for s in starts} == set(named.items())
    for start in starts:
        mine = dataset.molecule == dataset.molecules.index(start.molecule)
        lowest = dataset.atoms(int(np.flatnonzero(mine)[dataset.energies[mine].argmin()]))
        np.testing.assert_array_equal(start.atoms.positions, lowest.positions)
    assert there["train: molecules"] == 2
    # An element that the student does not know does not move.
    few, _ = choose_starts(dataset, settings(molecules=10, clusters=0, held_out=0), {1, 8}, seed=0)
    assert {s.molecule for s in few} == {"water"}


def test_clusters_take_turns_and_missing_ones_are_an_error():
    whole = morse_dataset(60)
    kinds = ["droplet", "cluster", "random"]
    methods = np.array([whole.methods.index(kinds[m]) for m in whole.molecule], dtype=np.uint8)
    dataset = replace(whole, method=methods, split=np.zeros(60, dtype=np.uint8))
    starts, _ = choose_starts(dataset, settings(molecules=3, clusters=2, held_out=0), None, seed=0)
    assert Counter((s.molecule, s.alone) for s in starts) == {
        ("formaldehyde", True): 1, ("water", False): 1, ("methane", False): 1,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"nothing to start from in the split 'val'.*held_out: 0"):
        choose_starts(dataset, settings(molecules=3, clusters=2), None, seed=0)


def test_there_is_a_trip_for_each_temperature_optimisation_and_torsion():
    starts, _ = choose_starts(morse_dataset(60), settings(molecules=3, clusters=0, held_out=0), None, seed=0)
    given = settings(temperatures_k=[300, 600], relaxations=3, torsions=1)
    assert Counter(trip.method for trip in plan(starts, given)) == dict(zip(METHODS, (6, 9, 3), strict=True))
    assert {t.method for t in plan(starts, settings(steps=0, torsions=0))} == {METHODS[1]}


def explored(folder, dataset, domain=True, name="out", **changes):
    student = calm_student()
    if domain:
        student.domain = learn_domain(student, dataset)
    save_student(folder / "s.safetensors", student, {})
    write_dataset(folder / "labels.h5", dataset)
    given = json.dumps({**SHORT, "labels": 12, "molecules": 4, "clusters": 0, "held_out": 0.25, **changes})
    words = [
        "explore",
        "--checkpoint",
        folder / "s.safetensors",
        "--dataset",
        folder / "labels.h5",
        "--settings",
        given,
    ]
    words += ["--output", folder / f"{name}.h5", "--card", folder / f"{name}.json", "--cores", 1]
    assert cli.main([str(word) for word in words]) == 0
    return read_configurations(folder / f"{name}.h5"), json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize("box", [None, 12.0])
def test_the_command_writes_frames_for_the_teacher_and_says_how_they_were_chosen(tmp_path, box):
    labels = morse_dataset(60) if box is None else in_boxes(morse_dataset(60), box)
    found, card = explored(tmp_path, labels)
    assert found.energies is None
    assert len(found) == 12
    assert Counter(found.splits[row] for row in found.split) == {"train": 9, "val": 3}
    assert set(found.molecules) <= set(labels.molecules)
    assert found.methods == METHODS
    assert (found.pbc is not None) == (box is not None)
    for i in range(len(found)):
        assert Watch(found.atoms(i))(found.atoms(i).positions) is None
    assert card["chosen"]["by_reason"].keys() <= {DIVERGING, WORST, EVEN}
    assert card["chosen"]["by_reason"][WORST] > 0
    assert "largest error that the student expects" in card["chosen"]["how"]
    assert card["trajectories"]["number"] == sum(
        each["trajectories"] for each in card["trajectories"]["by_kind"].values()
    )
    assert set(card["rules"]) >= {TOO_CLOSE, BOND_BROKEN}
    again, _ = explored(tmp_path, labels, name="again")
    assert content_hash(again) == content_hash(found)
    assert not list(tmp_path.glob("*.parts"))


def test_a_student_that_expects_nothing_has_its_frames_chosen_evenly(tmp_path):
    found, card = explored(tmp_path, morse_dataset(60), domain=False, labels=6)
    assert len(found) == 6
    assert set(card["chosen"]["by_reason"]) <= {DIVERGING, EVEN}
    assert "learn-domain" in card["chosen"]["how"]


def test_settings_that_lead_nowhere_are_refused():
    for wrong, message in (
        ({"steps": 15}, "steps 15 is not a multiple of look_every 10"),
        ({"molecules": 0, "clusters": 0}, "nothing to start from"),
        ({"steps": 0, "relaxations": 0, "torsions": 0}, "would go nowhere"),
        ({"held_out": 1.0}, r"held_out: expected number >= 0 and < 1, got 1\.0"),
    ):
        with pytest.raises(UserError, match=message):
            settings(**wrong)
