"""A liquid's pair distributions, diffusion and pressure on systems whose answer is known."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.lj import LennardJones

from mlff_distiller.cli import main
from mlff_distiller.md.langevin import Samples, run_langevin
from mlff_distiller.md.liquid_measures import (
    BIN,
    Estimate,
    beyond,
    diffusion,
    molecules_of,
    pair_difference,
    pair_distributions,
    pressure,
)
from mlff_distiller.md.pairs import compare
from mlff_distiller.md.pairs_settings import PairsSettings
from mlff_distiller.md.teacher_trajectory import read_samples
from mlff_distiller.systems.liquid import liquid_box

#: Argon at 120 K and 1.3 g/cm3, in ASE's units.
LIQUID = {"sigma": 3.4, "epsilon": 120 * units.kB, "rc": 6.0, "smooth": True}
SETTINGS = PairsSettings.from_mapping(
    {"timestep_fs": 5.0, "temperature_k": 120.0, "equilibration_steps": 100, "steps": 400, "sample_every": 10}
)


def gas(frames=200, edge=12.0):
    """64 atoms without bonds, and frames in which they are anywhere, in and out of the cell."""
    atoms = Atoms("O", cell=[edge / 4] * 3, pbc=True).repeat(4)
    atoms.symbols = ["O", "H"] * 32
    return atoms, np.random.default_rng(0).uniform(-edge, 2 * edge, (frames, 64, 3))


def argon():
    atoms = liquid_box(Atoms("Ar", positions=[[0, 0, 0]]), 64, 1.3, min_distance=3.0)
    atoms.calc = LennardJones(**LIQUID)
    return atoms


def test_an_ideal_gas_has_no_structure():
    found = pair_distributions(*gas())
    assert list(found) == ["O-O", "O-H", "H-H"]
    for values in found.values():
        assert len(values) == round(6.0 / BIN)
        assert values[20:] == pytest.approx(1.0, abs=0.15)
        assert values[20:].mean() == pytest.approx(1.0, abs=0.01)


def test_a_lattice_has_its_shells_in_skewed_cells_too():
    """Simple cubic, edge 3: six neighbors at 3 A, twelve at 4.24."""
    atoms = Atoms("Ar", cell=[3.0] * 3, pbc=True).repeat(4)
    skewed = atoms.copy()
    skewed.set_cell(atoms.cell.array + np.array([[0, 0, 0], [3, 0, 0], [0, 0, 0]]), scale_atoms=False)
    for each, at in ((atoms, (3.0, 4.24)), (skewed, (3.0, 4.24))):
        (values,) = pair_distributions(each, each.positions[None]).values()
        density, edges = 1 / 27, BIN * np.arange(len(values) + 1)
        neighbors = values * density * 4 / 3 * np.pi * np.diff(edges**3)
        # An atom sees 63 others at the ideal density of 64.
        for distance, count in zip(at, (6, 12), strict=True):
            shell = slice(int(distance / BIN) - 1, int(distance / BIN) + 2)
            assert neighbors[shell].sum() * 63 / 64 == pytest.approx(count, rel=1e-6)


def test_pairs_of_one_molecule_do_not_count_and_molecules_move_as_wholes():
    box = liquid_box(molecule("H2O"), 12, 0.9)
    assert sorted(np.bincount(molecules_of(box))) == [3] * 12
    found = pair_distributions(box, box.positions[None])
    assert not found["O-H"][: round(1.4 / BIN)].any()
    assert found["O-H"].any()
    # Bonded throughout, it is no liquid of one molecule.
    chain = Atoms("C4", positions=[[1.4 * k, 0, 0] for k in range(4)], cell=[5.6, 9, 9], pbc=True)
    assert sorted(molecules_of(chain)) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_walk_diffuses_as_its_steps_say(seed):
    """Steps of 0.3 A each 10 fs in every direction: D = 0.09 / 20 A^2/fs = 45e-9 m^2/s."""
    rng = np.random.default_rng(seed)
    atoms, _ = gas()
    atoms.set_masses(np.ones(64))
    walk = np.cumsum(rng.normal(0.0, 0.3, (2000, 64, 3)), axis=0)
    # A drift of all together does not count.
    walk += 0.5 * np.arange(2000)[:, None, None]
    found = diffusion(atoms, walk, 10.0)
    assert found.value == pytest.approx(45.0 * 63 / 64, abs=4 * found.stderr)
    assert found.stderr < 4


def test_the_pressure_of_an_ideal_gas_and_of_a_stress():
    """100 atoms in 1000 A^3 at 300 K: n k T = 0.414 GPa."""
    nothing = np.zeros((50, 3))
    assert pressure(nothing, 100, 1000.0, 300.0).value == pytest.approx(0.4142, abs=1e-4)
    found = pressure(nothing - 0.01 + np.random.default_rng(0).normal(0, 1e-3, (50, 3)), 100, 1000.0, 300.0)
    assert found.value == pytest.approx(0.4142 + 1.6022, abs=0.05)
    assert 0 < found.stderr < 0.05


def test_differences_count_beyond_their_errors():
    assert beyond(Estimate(1.0, 0.3), Estimate(1.5, 0.4)) == 0.0
    assert beyond(Estimate(1.0, 0.03), Estimate(1.5, 0.04)) == pytest.approx(0.4)
    one, other = {"A-A": np.array([1.0, 0.0]), "A-B": np.ones(2)}, {"A-A": np.array([0.0, 1.0]), "A-B": np.ones(2)}
    assert pair_difference(one, other) == (1.0, "A-A")
    assert pair_difference(one, one)[0] == 0.0


def test_argon_is_like_argon_and_unlike_larger_argon():
    start = argon()
    teacher = run_langevin(argon(), SETTINGS, with_stress=True)
    assert teacher.stresses.shape == (40, 3)
    other = argon()
    other.calc = LennardJones(**LIQUID | {"sigma": 3.7})
    wrong = run_langevin(other, SETTINGS, with_stress=True)
    again = run_langevin(argon(), SETTINGS.model_copy(update={"seed": 1}), with_stress=True)
    same, different = (compare(start, each, teacher, SETTINGS) for each in (again, wrong))
    assert same["pair_difference"] < 0.1
    assert same["gates"]["pair_difference"]["passed"]
    assert different["pair_difference"] > 2 * same["pair_difference"]
    assert not different["gates"]["pair_difference"]["passed"]
    assert not different["gates"]["pressure_error_gpa"]["passed"]
    # Its first shell is at 3.7 A.
    shell = np.array(same["pair_distributions"]["teacher"]["Ar-Ar"])
    assert BIN * (shell.argmax() + 0.5) == pytest.approx(3.7, abs=0.25)
    assert 2 < shell.max() < 4
    without = compare(start, again, Samples(again.interval_fs, again.positions, again.velocities, 1.0), SETTINGS)
    assert "pressure_gpa" not in without
    assert set(without["gates"]) == {"pair_difference", "diffusion_error"}


def test_the_teachers_stage_samples_the_stress_of_a_liquid(tmp_path):
    from ase.io import write

    box = argon()
    box.calc = None
    write(tmp_path / "argon.extxyz", box, columns=["symbols", "positions"])
    arguments = {"sigma": 3.4, "epsilon": LIQUID["epsilon"], "rc": 6.0}
    settings = {
        "teacher": {"calculator": "ase.calculators.lj:LennardJones", "arguments": arguments},
        "pairs": {"timestep_fs": 5.0, "temperature_k": 120.0, "equilibration_steps": 0, "steps": 40, "sample_every": 2},
    }
    command = ["md-teacher", "--system", str(tmp_path / "argon.extxyz"), "--settings", json.dumps(settings)]
    assert main([*command, "--output", str(tmp_path / "argon.npz")]) == 0
    samples, numbers = read_samples(tmp_path / "argon.npz")
    assert samples.stresses.shape == (20, 3)
    assert len(numbers) == 64
    assert samples.interval_fs == 10.0
