"""The rules by which a trajectory has diverged."""

import numpy as np
import pytest
from ase.build import bulk, molecule

from mlff_distiller.md.divergence import (
    BOND_BROKEN,
    NOT_A_NUMBER,
    RULES,
    TOO_CLOSE,
    TOO_HOT,
    Watch,
    hottest,
)
from mlff_distiller.systems.units import BOLTZMANN


def thermal(n_atoms, temperature):
    """Kinetic energy of the mean thermal frame, eV."""
    return 1.5 * n_atoms * BOLTZMANN * temperature


def test_a_thermal_frame_is_in_order():
    ethanol = molecule("CH3CH2OH")
    watch = Watch(ethanol)
    rng = np.random.default_rng(0)
    for _ in range(50):
        moved = ethanol.positions + rng.normal(0, 0.05, ethanol.positions.shape)
        assert watch(moved, thermal(9, 1000.0) * rng.uniform(0.5, 1.6), 1000.0) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda r: r * np.nan, NOT_A_NUMBER),
        (lambda r: r + np.array([[0, 0, 0.0]] * 8 + [[0, 0, 3.0]]), BOND_BROKEN),
        (lambda r: r + (r[0] - r) * (np.arange(9) == 1)[:, None] * 0.6, TOO_CLOSE),
    ],
)
def test_what_no_molecule_does_is_named(change, rule):
    ethanol = molecule("CH3CH2OH")
    assert Watch(ethanol)(change(ethanol.positions)) == rule
    assert rule in RULES


@pytest.mark.parametrize("n_atoms", [3, 30, 300])
def test_too_hot_is_beyond_what_a_thermostat_gives(n_atoms):
    limit = hottest(n_atoms) * 300.0
    assert limit > 2 * thermal(n_atoms, 300.0)
    # The larger, the smaller the fluctuations: twice from sevenfold to little more than the mean.
    assert limit / thermal(n_atoms, 300.0) < {3: 15, 30: 4.5, 300: 2.7}[n_atoms]
    water = molecule("H2O")
    watch = Watch(water)
    assert watch(water.positions, 1.01 * hottest(3) * 300.0, 300.0) == TOO_HOT
    assert watch(water.positions, 0.99 * hottest(3) * 300.0, 300.0) is None
    # Without a thermostat there is nothing to compare with.
    assert watch(water.positions, 1e3) is None
    assert watch(water.positions, np.inf) == NOT_A_NUMBER


def test_bonds_across_a_boundary_hold_though_atoms_are_not_wrapped():
    diamond = bulk("C", "diamond", a=3.57, cubic=True)
    watch = Watch(diamond)
    assert watch(diamond.positions) is None
    assert watch(diamond.positions + 20.0) is None
    moved = diamond.positions.copy()
    moved[0] += 1.2
    assert watch(moved) in (BOND_BROKEN, TOO_CLOSE)


def test_molecules_that_part_break_no_bond():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += 3.0
    watch = Watch(pair)
    moved = pair.positions.copy()
    moved[3:] += 50.0
    assert watch(moved) is None
