"""Every neighbor backend finds the same pairs; periodic ones are held against ASE."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from mlff_distiller.neighbors.search import available_backends, choose_neighbor_search, radius_graph
from mlff_distiller.sources import ROOT
from mlff_distiller.utils.errors import UserError

SKEWED = np.array([[6.0, 0, 0], [1.0, 5.0, 0], [0.5, 0.3, 7.0]])
#: Smaller than the cutoff: an atom sees its own images.
SMALL = 0.4 * SKEWED


def pairs(graph):
    receivers, senders, shifts = graph
    shifts = torch.zeros(len(receivers), 3, dtype=torch.int64) if shifts is None else shifts
    return sorted(map(tuple, torch.cat([receivers[:, None], senders[:, None], shifts], dim=1).tolist()))


def pairs_by_ase(atoms, cutoff):
    i, j, shifts = neighbor_list("ijS", atoms, cutoff)
    return sorted(map(tuple, np.c_[i, j, shifts].tolist()))


def search(atoms, backend, cutoff=5.0):
    periodic = atoms.pbc.any()
    return radius_graph(
        torch.from_numpy(atoms.positions),
        cutoff,
        cell=torch.from_numpy(atoms.cell.array)[None] if periodic else None,
        pbc=torch.from_numpy(atoms.pbc)[None] if periodic else None,
        backend=backend,
    )


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("cell", [SKEWED, SMALL], ids=["cell", "small cell"])
@pytest.mark.parametrize("pbc", [(0, 0, 0), (1, 1, 1), (1, 0, 1), (0, 0, 1)], ids=str)
def test_finds_the_pairs_that_ase_finds(backend, cell, pbc):
    positions = np.random.default_rng(5).normal(0, 5, (15, 3))
    atoms = Atoms("C15", positions=positions, cell=cell, pbc=pbc)
    found = search(atoms, backend)
    assert pairs(found) == pairs_by_ase(atoms, 5.0)
    assert (found[0].diff() >= 0).all(), "sorted by receiver"


@pytest.mark.parametrize("backend", available_backends())
def test_a_slab_without_a_third_lattice_vector(backend):
    atoms = Atoms("C5", positions=np.random.default_rng(6).normal(0, 2, (5, 3)), cell=[4.0, 4.5, 0.0], pbc=(1, 1, 0))
    assert pairs(search(atoms, backend)) == pairs_by_ase(atoms, 5.0)


@pytest.mark.parametrize("backend", available_backends())
def test_a_batch_has_no_pairs_across_systems(backend, molecules):
    systems = [molecules[name] for name in ("methane", "water", "caffeine")]
    expected, start = [], 0
    for atoms in systems:
        expected += [(i + start, j + start, *s) for i, j, *s in pairs_by_ase(atoms, 5.0)]
        start += len(atoms)
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in systems]))
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([len(atoms) for atoms in systems]))
    assert pairs(radius_graph(positions, 5.0, batch, backend=backend)) == expected


@pytest.mark.parametrize("backend", available_backends())
def test_more_than_32_neighbors_are_all_there(backend):
    # torch-cluster keeps 32 neighbors an atom unless told otherwise.
    positions = torch.from_numpy(np.random.default_rng(7).normal(0, 1, (80, 3)))
    receivers, _, _ = radius_graph(positions, 20.0, backend=backend)
    assert (torch.bincount(receivers) == 79).all()


@pytest.mark.parametrize("backend", available_backends())
def test_one_atom_has_no_neighbors(backend):
    receivers, senders, _ = radius_graph(torch.zeros(1, 3, dtype=torch.float64), 5.0, backend=backend)
    assert len(receivers) == len(senders) == 0


def test_unknown_backend_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'vesin'"):
        choose_neighbor_search("vesn")


@pytest.mark.parametrize("cutoff", [0.0, -5.0])
def test_a_cutoff_that_is_not_positive_is_refused(cutoff):
    with pytest.raises(UserError, match="cutoff must be positive"):
        radius_graph(torch.zeros(2, 3), cutoff)


@pytest.mark.parametrize(
    ("far", "cell", "pbc", "words"),
    [
        (1.0, "zeros((3, 3))", (1, 1, 0), "spans no volume"),
        (1.0, "array([[5., 0, 0], [0, 5, 0], [10, 0, 0]])", (1, 0, 1), "spans no volume"),
        (5e5, "zeros((3, 3))", (0, 0, 0), "from the center of its system"),
    ],
)
def test_what_ends_the_process_in_vesin_is_refused_before(far, cell, pbc, words):
    """Both by the search itself and through the calculator, in a process of its own: it would not live to report."""
    program = f"""
from numpy import array, zeros
import torch
from ase import Atoms
from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.neighbors.search import radius_graph
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError
cell, pbc = {cell}, array({pbc}, dtype=bool)
atoms = Atoms("CO", [[0, 0, 0], [{far}, 0, 0]], cell=cell, pbc=pbc)
tensors = torch.from_numpy(atoms.positions), 5.0, torch.zeros(2, dtype=torch.int64), torch.from_numpy(cell)[None]
calculator = StudentCalculator(AutogradPotential(StudentForceField(neighbors="vesin")))
for ask in (lambda: radius_graph(*tensors, torch.from_numpy(pbc)[None], "vesin"), lambda: calculator.get_forces(atoms)):
    try:
        ask()
    except UserError as error:
        print(error)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(words) == 2
