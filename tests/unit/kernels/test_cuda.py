"""The CUDA C++ kernels: on a CPU by emulation of the launch, on a GPU as compiled."""

import copy
import ctypes
import re
import shutil

import pytest
import torch
from ase import Atoms

from mlff_distiller.kernels.cuda import molecule, neighbor_matrix
from mlff_distiller.kernels.cuda.build import FORMS, build, definitions, form_for, unavailable
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cuda import CudaPotential, roomy
from mlff_distiller.potentials.graphed import CALLS_BEFORE_CAPTURE
from mlff_distiller.student import wall
from mlff_distiller.student.painn import StudentConfig
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.limits import Limits
from mlff_distiller.utils.errors import UserError
from mlff_distiller.variants.cases import cases_of
from mlff_distiller.variants.equivalence import TOLERANCES, answers, errors_against, judge
from mlff_distiller.variants.registry import FAMILIES
from tests.conftest import make_student
from tests.unit.potentials.small_cells import SMALL_CELLS, right_answer, small_cell
from tests.unit.student.test_wall import squeezed

#: Of its size, to which a molecule is squeezed: the walls of the tests' students begin at some 1.1.
SHARES = [0.3, 0.6, 0.8, 0.95]

needs_gpu = pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


def random_batch(sizes, seed, spread=1.3):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(1, 10, [sum(sizes)], generator=generator)
    positions = torch.randn(sum(sizes), 3, generator=generator) * spread * max(sizes) ** (1 / 3)
    return numbers, positions, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def fill(program, numbers, positions, batch):
    holder = program.work if isinstance(program, molecule.MoleculeProgram) else program
    holder.hold(numbers.numpy(), batch.numpy(), torch.bincount(batch).tolist())
    program.positions.copy_(positions)


def assert_close(program, energies, forces):
    scale = max(1.0, forces.abs().max().item())
    assert (program.energies - energies).abs().max() < 2e-5 * scale
    assert (program.forces - forces).abs().max() < 5e-6 * scale


@pytest.fixture(params=FORMS)
def molecule_library(request, emulate):
    """The molecule kernel on the CPU, in each of its forms."""
    return molecule.Library(emulate(StudentConfig(), request.param) / "molecule.so")


@needs_compiler
@pytest.mark.parametrize(
    ("sizes", "groups"),
    [([1], 15), ([2, 1], 3), ([4], 2), ([9, 2], 2)],
    ids=["one", "small", "two each", "many each"],
)
def test_molecule_kernel_emulated(molecule_library, student, student64, sizes, groups):
    """One, two and more atoms a group; what the reverse pass needs in shared memory or, with no room there, outside."""
    library = molecule_library
    library.groups = groups
    packed = molecule.pack(student, library.ranks)
    arguments = random_batch(sizes, seed=len(sizes))
    energies, forces = AutogradPotential(student64)(arguments[0], arguments[1].double(), arguments[2])
    program = molecule.MoleculeProgram.alone(library, packed, sum(sizes), len(sizes))
    fill(program, *arguments)
    program.launch()
    assert_close(program, energies, forces)
    with_forces = program.results_on_host()
    program.launch(forces=False)
    assert torch.equal(program.energies, with_forces[0])
    work = program.work
    outside = torch.zeros(work.groups * library.ranks * library.outside_floats(work.arguments.atoms, 0))
    work.arguments.outside, work.arguments.stash_shared = outside.data_ptr(), 0
    program.launch()
    assert torch.equal(program.forces, with_forces[1])


def dimers(student, across):
    """C and O at each of these shares of the distance at which their wall begins, far from one another: a system each."""
    end = float(student.network.wall[6 * student.network.n_elements + 8, 0])
    n = len(across)
    positions = torch.zeros([n, 2, 3])
    positions[:, 1] = torch.tensor(across)[:, None] * end * torch.tensor([0.6, 0.0, -0.8])
    return torch.tensor([6, 8] * n), positions.reshape(-1, 3), torch.arange(n).repeat_interleave(2)


def near_walls(student):
    """Pairs across the whole wall, and a few digits around where it begins and where the seen distance comes to rest."""
    return dimers(student, [0.1, 0.3, 0.5, 0.7, 0.799, 0.801, 0.9, 0.99, 0.999, 0.99999, 1.0, 1.00001, 1.1])


def cut_by_boxes(positions, batch):
    """Skewed boxes of the systems, wider than the cutoff, and whole translations of some atoms by their vectors, in place."""
    n_systems = int(batch.max()) + 1
    cell = torch.tensor([[6.0, 0, 0], [0.5, 6.5, 0], [0, 0, 7.0]])
    positions += (torch.arange(len(positions)) % 3 - 1)[:, None] * cell[0]
    return cell.repeat(n_systems, 1, 1), torch.ones([n_systems, 3], dtype=torch.bool)


def assert_close_each(found, found_forces, energies, forces):
    """As :func:`assert_close`, for dimers, each by its own size."""
    scale = forces.abs().reshape(len(energies), -1).amax(dim=1).clamp(min=1.0)
    assert ((found - energies).abs() < 2e-5 * scale).all()
    assert ((found_forces - forces).abs().reshape(len(energies), -1).amax(dim=1) < 5e-6 * scale).all()


@needs_compiler
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    ("form", "groups"), [("clusters", 8), ("clusters", 4), ("clusters", 2), ("grid16", 2), ("grid32", 1)]
)
def test_molecule_kernel_emulated_within_walls(emulate, student, student64, share, form, groups):
    library = molecule.Library(emulate(student.config, form) / "molecule.so")
    library.groups = groups
    numbers, positions, batch = squeezed(student, share)
    energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch)
    program = molecule.MoleculeProgram.alone(library, molecule.pack(student, library.ranks), 8, 2)
    fill(program, numbers, positions, batch)
    program.launch()
    assert_close(program, energies, forces)
    with_forces = program.results_on_host()
    program.launch(forces=False)
    assert torch.equal(program.energies, with_forces[0])


@needs_compiler
def test_molecule_kernel_emulated_across_walls(molecule_library, student, student64):
    library = molecule_library
    library.groups = max(2, 40 // library.ranks)
    numbers, positions, batch = near_walls(student)
    energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch)
    program = molecule.MoleculeProgram.alone(
        library, molecule.pack(student, library.ranks), len(numbers), len(energies)
    )
    fill(program, numbers, positions, batch)
    program.launch()
    assert_close_each(program.energies, program.forces, energies, forces)


@needs_compiler
def test_row_kernels_emulated_across_walls(neighbor_matrix_alone, student, student64):
    numbers, positions, batch = near_walls(student)
    right = AutogradPotential(student64)(numbers, positions.double(), batch)
    assert_close_each(*neighbor_matrix_alone(numbers, positions, batch), *right)


@needs_compiler
@pytest.mark.parametrize("share", SHARES)
def test_row_kernels_emulated_within_walls(neighbor_matrix_alone, student, student64, share):
    """Molecules by themselves, and in boxes whose faces run through them; also energies alone."""
    numbers, positions, batch = squeezed(student, share)
    for periodic in (False, True):
        boxes = cut_by_boxes(positions, batch) if periodic else (None, None)
        assert_right(neighbor_matrix_alone, student64, numbers, positions, batch, *boxes)
        energies, _ = neighbor_matrix_alone(numbers, positions, batch, *boxes)
        assert torch.equal(neighbor_matrix_alone.energy(numbers, positions, batch, *boxes), energies)


def longer(structure):
    return type("Longer", (ctypes.Structure,), {"_fields_": [*structure._fields_, ("more", ctypes.c_void_p)]})


@needs_compiler
@pytest.mark.parametrize("change", [{"norm_epsilon": 1e-4}, {"mlp_width": 84}])
def test_a_library_of_another_student_is_refused(emulated, change):
    other = make_student(**change)
    with pytest.raises(UserError, match=r"compiled for another student .*run the compile stage again"):
        CudaPotential(other, libraries=emulated["molecule"].parent, products="float32")


@needs_compiler
def test_the_smoothing_of_the_norm_is_the_students(emulate):
    """A carbon with two images of itself, whose vector features nearly vanish: it feels the smoothing most."""
    atoms = Atoms("C", cell=[4.6, 9.0, 9.0], pbc=[True, False, False])
    energies = []
    for epsilon in (1e-4, 1e-2):
        other = make_student(norm_epsilon=epsilon)
        potential = CudaPotential(other, libraries=emulate(other.config), products="float32", single_launch=False)
        energies.append(potential.energy(*Batch.from_atoms([atoms], "cpu", torch.float32)))
        exact = AutogradPotential(other.double()).energy(*Batch.from_atoms([atoms], "cpu", torch.float64))
        torch.testing.assert_close(energies[-1], exact, rtol=0, atol=1e-4)
    assert abs(float(energies[0] - energies[1])) > 1e-3


@needs_compiler
@pytest.mark.parametrize(
    ("module", "structure"),
    [
        (molecule, "Arguments"),
        *((neighbor_matrix, n) for n in ("Messages", "Update", "Radial", "Totals", "Virials", "Search")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_library_with_other_structs_is_refused(emulated, monkeypatch, module, structure):
    path = emulated[module.__name__.rpartition(".")[2]]
    module.Library(path)
    monkeypatch.setattr(module, structure, longer(getattr(module, structure)))
    with pytest.raises(UserError, match=rf"_sizeof_{structure.lower()}: \d+ bytes, here \d+\); delete it"):
        module.Library(path)


@needs_compiler
@pytest.mark.parametrize(
    ("form", "groups", "most"),
    [
        # Clusters of an H200, of another GPU and of parts of one.
        *(("clusters", groups, 7 * groups) for groups in (15, 16, 1, 0)),
        ("grid16", 108 // 16, 96),  # A100
        ("grid32", 128 // 32, 64),  # RTX 4090
        ("grid32", 82 // 32, 32),  # RTX 3090
        ("grid32", 28 // 32, 0),  # RTX 3060
    ],
)
def test_every_number_of_atoms_takes_a_path_that_has_room(emulate, student, monkeypatch, form, groups, most):
    """As many groups as a GPU holds, one block a multiprocessor; no launch asks for more than a block can have."""
    from mlff_distiller.potentials import cuda

    potential = cuda.CudaPotential(student, libraries=emulate(student.config, form), products="float32")
    library = potential.molecule
    library.groups = groups
    potential.most_in_one_launch = library.most_atoms
    assert library.shared_limit == FORMS[form].shared_limit
    assert library.shared_bytes(library.atoms_each, 0) <= library.shared_limit
    if library.atoms_each < library.max_atoms:
        assert library.shared_bytes(library.atoms_each + 1, 0) > library.shared_limit
    launched = []
    monkeypatch.setattr(
        molecule.Library,
        "prepared",
        lambda library, arguments, groups, sent: lambda groups, stream: launched.append("one"),
    )
    monkeypatch.setattr(
        neighbor_matrix.NeighborMatrixProgram, "launch", lambda program, forces=True: launched.append("rows")
    )
    monkeypatch.setattr(neighbor_matrix.NeighborMatrixProgram, "most_neighbors", lambda program, waited=False: 0)
    for n_atoms in range(1, 401):
        batch = torch.zeros([n_atoms], dtype=torch.int64)
        potential(torch.ones_like(batch), torch.zeros([n_atoms, 3]), batch)
        assert launched.pop() == ("one" if n_atoms <= most else "rows")
        if n_atoms <= library.most_atoms:
            program = molecule.MoleculeProgram.alone(library, potential.molecule_weights, n_atoms, 1)
            work = program.work
            asked = work.arguments
            assert library.shared_bytes(asked.atoms, asked.stash_shared) <= library.shared_limit
            assert asked.atoms <= library.max_atoms
            assert work.groups <= groups
            assert work.groups * asked.atoms >= n_atoms
        potential.evaluations.clear()
    with pytest.raises(UserError, match=f"takes 1 to {most} atoms, not {most + 1}"):
        molecule.MoleculeProgram.alone(library, potential.molecule_weights, most + 1, 1)


@pytest.mark.parametrize(
    ("card", "form"),
    [
        ((8, 0), "grid16"),
        ((8, 6), "grid32"),
        ((8, 9), "grid32"),
        ((9, 0), "clusters"),
        ((10, 0), "clusters"),
        ((12, 0), "grid32"),
        ((99, 0), "grid32"),
    ],
)
def test_the_form_is_the_one_for_the_card(card, form):
    assert form_for(card) == form
    assert FORMS["grid32"].runs_on(card)


def test_every_form_can_be_asked_for():
    assert FAMILIES["cuda"].options["form"] == ("auto", *FORMS)


def test_a_form_that_the_card_lacks_memory_or_clusters_for_is_refused(monkeypatch):
    monkeypatch.setattr("mlff_distiller.kernels.cuda.build.find_nvcc", lambda: "nvcc")
    with pytest.raises(UserError, match=r"form clusters needs clusters .* and 227 KB .*; for sm_80 use grid16"):
        build(StudentConfig(), (8, 0), "molecule", "clusters")
    with pytest.raises(UserError, match="form grid16 needs 163 KB of shared memory a block; for sm_120 use grid32"):
        build(StudentConfig(), (12, 0), "molecule", "grid16")


@needs_compiler
def test_a_form_is_chosen_when_the_kernels_are_compiled(emulated, student):
    libraries = emulated["molecule"].parent
    with pytest.raises(UserError, match=r"compiled in a form of their own; leave out form='grid32'"):
        CudaPotential(student, libraries=libraries, products="float32", form="grid32")
    with pytest.raises(UserError, match=r"unknown form 'grid23'.*grid32"):
        CudaPotential(student, products="float32", form="grid23")


@needs_compiler
def test_order_of_threads_does_not_matter(molecule_library, student):
    """A missing barrier would show as other results in another order."""
    library = molecule_library
    library.groups = 2
    packed = molecule.pack(student, library.ranks)
    arguments = random_batch([3, 2], seed=0)
    results = []
    for seed in (1, 2, 3):
        program = molecule.MoleculeProgram.alone(library, packed, 5, 2)
        fill(program, *arguments)
        program.launch()  # says where positions and results are
        library.launch(program.work.arguments, program.work.groups, seed)
        results.append(program.results())
    assert all(torch.equal(e, results[0][0]) and torch.equal(f, results[0][1]) for e, f in results)


@needs_compiler
def test_buffers_for_other_sizes_give_the_same_bits(molecule_library, student):
    """From one size to the next, with more and fewer groups and systems, as programs of their own do."""
    library = molecule_library
    library.groups = 3
    packed = molecule.pack(student, library.ranks)
    shared = molecule.Workspace(library, packed, 6, 4)
    for seed, sizes in enumerate([[1], [4, 1], [2], [1, 1, 2, 1], [3], [6]]):
        given = random_batch(sizes, seed)
        own = molecule.MoleculeProgram.alone(library, packed, sum(sizes), len(sizes))
        other = molecule.MoleculeProgram(shared, *(torch.zeros_like(part) for part in (own.positions, *own.results())))
        for program in (own, other):
            fill(program, *given)
            program.launch()
        assert all(torch.equal(*pair) for pair in zip(own.results(), other.results(), strict=True))
    assert not shared.fits(7, 1)
    assert not shared.fits(1, 5)


@needs_compiler
def test_small_systems_of_all_sizes_share_a_workspace(emulate, student):
    """And each call has results of its own, whatever memory its positions are in."""
    potential = CudaPotential(student, libraries=emulate(student.config), products="float32")
    kept = []
    for seed in range(2):
        for sizes in ([3], [1, 2], [2]):
            numbers, positions, batch = random_batch(sizes, seed)
            energies, forces = AutogradPotential(student)(numbers, positions, batch)
            spread = torch.zeros([len(numbers), 6])[:, ::2].copy_(positions)
            for found in (potential(numbers, spread, batch), potential.on_host(numbers, positions, batch)):
                assert (found[0] - energies).abs().max() < 1e-4
                assert (found[1] - forces).abs().max() < 1e-4 * max(1.0, float(forces.abs().max()))
                kept += [(part, part.clone()) for part in found]
            assert torch.equal(potential.energy(numbers, positions, batch), found[0])
    assert all(torch.equal(given, copied) for given, copied in kept)
    assert not potential.evaluations
    # What moves atoms by itself keeps its buffers, whatever is called meanwhile.
    given = random_batch([4], seed=0)
    program = potential.program(*given)
    before = program.positions.clone()
    potential(*random_batch([1], seed=1))
    assert torch.equal(program.positions, before)


@needs_compiler
def test_new_molecules_are_read_by_the_library_and_all_else_in_words(emulate, student, monkeypatch):
    potential = CudaPotential(student, libraries=emulate(student.config), products="float32")
    potential.limits = potential.inputs.limits = Limits(frozenset({1, 6}), most=student.config.max_atomic_number)
    looked = []
    look = potential.inputs._topology
    monkeypatch.setattr(potential.inputs, "_topology", lambda *given: looked.append(1) or look(*given))
    zeros = torch.zeros([3], dtype=torch.int64)
    positions = random_batch([3], seed=0)[1]
    numbers = torch.tensor([6, 1, 1])
    right = AutogradPotential(student)(numbers, positions, zeros)
    for _ in range(2):
        found = potential(numbers, positions, zeros)
        assert (found[1] - right[1]).abs().max() < 1e-4
    assert not looked
    assert potential.inputs(numbers, positions, zeros, None, None).topology.sizes == (3,)
    # Written to since: looked at again.
    numbers[1] = 6
    right = AutogradPotential(student)(numbers, positions, zeros)
    assert (potential(numbers, positions, zeros)[1] - right[1]).abs().max() < 1e-4
    assert len(looked) == 1
    for wrong, words in [
        (8, "atom 2 is O"),
        (0, "atomic number 0"),
        (-3, "atomic number -3"),
        (10**12, "atomic number 1000000000000"),
    ]:
        with pytest.raises(UserError, match=words):
            potential(torch.tensor([6, 1, wrong]), positions, zeros)
    for batch, words in [
        ([0, -1, 0], "batch must rise"),
        ([1, 0, 0], "batch must rise"),
        ([0, 0], "positions must be of shape"),
    ]:
        with pytest.raises(UserError, match=words):
            potential(torch.tensor([6, 1, 1])[: len(batch)], positions, torch.tensor(batch))
    # Two systems, one of them empty, and tensors with gaps are right all the same.
    assert potential(torch.tensor([6, 1, 1]), positions, zeros + 1)[0].shape == (2,)
    wide = torch.tensor([[6, 9], [1, 9], [1, 9]])[:, 0]
    right = AutogradPotential(student)(wide, positions, zeros)
    assert (potential(wide, positions, zeros)[1] - right[1]).abs().max() < 1e-4
    with torch.inference_mode():
        assert torch.equal(potential(wide.clone(), positions, zeros)[1], potential(wide.clone(), positions, zeros)[1])


@needs_compiler
def test_sizes_that_are_met_once_share_buffers_of_more_atoms(emulate, student):
    """With ghosts in the rest, which change nothing, whatever was there before; a size that stays gets its own."""
    potential = CudaPotential(student, libraries=emulate(student.config), products="float32", single_launch=False)
    for calls in range(1, CALLS_BEFORE_CAPTURE + 2):
        for sizes in ([5], [3], [1, 2, 1], [2, 2]):
            numbers, positions, batch = random_batch(sizes, seed=calls)
            energies, forces = AutogradPotential(student)(numbers, positions, batch)
            for found in (potential(numbers, positions, batch), potential.on_host(numbers, positions, batch)):
                assert found[0].shape == energies.shape
                assert (found[0] - energies).abs().max() < 1e-4
                assert (found[1] - forces).abs().max() < 1e-4 * max(1.0, float(forces.abs().max()))
        lost = positions.clone()
        lost[3] = torch.nan
        potential(numbers, lost, batch)
    atoms = [key[0] for key in potential.evaluations]
    assert sorted(atoms) == [3, 4, 4, 5, 32, 32]
    program = potential._many(potential.inputs(numbers, positions, batch, None, None).topology, None).program
    assert program.n_atoms == len(numbers)


@pytest.mark.parametrize(
    ("n", "more"), [(1, 32), (4, 32), (32, 32), (33, 64), (256, 256), (500, 512), (1025, 1152), (4096, 4096)]
)
def test_what_is_shared_is_an_eighth_larger_at_most(n, more):
    assert roomy(n) == more
    assert n > 256 or more - n < 32
    assert n <= 256 or more <= 1.125 * n


@needs_compiler
def test_more_systems_than_one_launch_has_room_for(emulated, student64, student):
    """Most of them empty."""
    potential = CudaPotential(student, libraries=emulated["molecule"].parent, products="float32")
    batch = torch.tensor([0, 0, potential.molecule.most_atoms])
    numbers, positions = torch.tensor([6, 8, 1]), torch.tensor([[0.0, 0, 0], [1.2, 0, 0], [0, 0, 0]])
    energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch)
    found, found_forces = potential(numbers, positions, batch)
    assert (found - energies).abs().max() < 1e-4
    assert (found_forces - forces).abs().max() < 1e-4


@needs_compiler
@pytest.mark.parametrize("sizes", [[1], [5, 1, 3]])
def test_row_kernels_emulated(emulated, student, student64, sizes):
    library = neighbor_matrix.Library(emulated["neighbor_matrix"])
    arguments = random_batch(sizes, seed=3)
    energies, forces = AutogradPotential(student64)(arguments[0], arguments[1].double(), arguments[2])
    packed = neighbor_matrix.pack(student, library.depth, products="float32")
    program = neighbor_matrix.NeighborMatrixProgram(library, packed, sum(sizes), len(sizes), 16)
    fill(program, *arguments)
    program.launch()
    assert_close(program, energies, forces)
    assert program.most_neighbors() == int(program.counts.max())


@needs_compiler
@pytest.mark.parametrize("periodic", [[True, True, True], [True, False, True]])
def test_row_kernels_emulated_in_cells(emulated, student, student64, periodic):
    """Boxes narrower than the cutoff and wider than twice of it, skewed, with atoms outside of them, in one batch."""
    library = neighbor_matrix.Library(emulated["neighbor_matrix"])
    cell = torch.tensor([[[5.5, 0, 0], [1, 11, 0], [0, 2, 16.0]], [[4.6, 0, 0], [0, 5.2, 0], [0.5, 0, 6.0]]])
    pbc = torch.tensor([periodic, periodic])
    generator = torch.Generator().manual_seed(2)
    numbers = torch.randint(1, 10, [7], generator=generator)
    batch = torch.tensor([0] * 5 + [1] * 2)
    fractional = torch.rand(7, 3, generator=generator) * 2 - 0.5
    positions = torch.einsum("nk,nkl->nl", fractional, cell[batch])
    energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch, cell.double(), pbc)
    grid = neighbor_matrix.CellGrid.of(cell, pbc, 5.0, 100)
    assert grid.grid.max() > 1
    packed = neighbor_matrix.pack(student, library.depth, products="float32")
    program = neighbor_matrix.NeighborMatrixProgram(library, packed, 7, 2, 64, cells=200)
    fill(program, numbers, positions, batch)
    program.system.copy_(batch)
    program.set_grid(grid)
    program.launch()
    assert program.most_neighbors() <= 64
    assert_close(program, energies, forces)


@needs_compiler
@pytest.mark.parametrize("name", SMALL_CELLS)
def test_row_kernels_emulated_in_small_cells(emulated, student, student64, name):
    """Images of one atom in the same direction are told apart; the potential makes room for all of them."""
    from mlff_distiller.potentials.cuda import CudaPotential

    potential = CudaPotential(student, libraries=emulated["neighbor_matrix"].parent, products="float32")
    energies, forces, pull = right_answer(student64, *small_cell(name))
    found, found_forces = potential(*small_cell(name, torch.float32))
    assert (found - energies).abs().max() < 1e-4 * max(1.0, pull)
    assert (found_forces - forces).abs().max() < 1e-5 * max(1.0, pull)


def boxes_of_all_kinds():
    """A skewed box cut by its faces, one narrower than the cutoff, and one that repeats along two axes."""
    cell = torch.tensor([[[5.5, 0, 0], [1, 11, 0], [0, 2, 16.0]], [[4.6, 0, 0], [0, 5.2, 0], [0.5, 0, 6.0]]])
    cell = torch.cat([cell, 8.0 * torch.eye(3)[None]])
    pbc = torch.tensor([[True, True, True], [True, True, True], [True, False, True]])
    generator = torch.Generator().manual_seed(2)
    numbers, batch = torch.randint(1, 10, [10], generator=generator), torch.tensor([0] * 5 + [1] * 2 + [2] * 3)
    fractional = torch.rand(10, 3, generator=generator) * 1.5 - 0.25
    return numbers, torch.einsum("nk,nkl->nl", fractional, cell[batch]), batch, cell, pbc


def assert_stress_is_right(potential, student64, numbers, positions, batch, cell, pbc, device="cpu"):
    right = AutogradPotential(student64).with_stress(numbers, positions.double(), batch, cell.double(), pbc)
    given = [tensor.to(device) for tensor in (numbers, positions, batch, cell, pbc)]
    energies, _ = potential(*given)
    found = potential.with_stress(*given)
    assert [part.dtype for part in found] == [torch.float64, torch.float32, torch.float32]
    assert torch.equal(found[2], found[2].transpose(1, 2))
    assert (found[0] - energies).abs().max() < 1e-4 * max(1.0, right[1].abs().max().item())
    volume = torch.linalg.det(cell.double()).abs()[:, None, None]
    # Virials, since stresses are small in large boxes.
    scale = max(1.0, (right[2] * volume).abs().max().item())
    assert scale > 1.0
    assert ((found[2].cpu() - right[2]) * volume).abs().max() < 5e-6 * scale
    assert (found[1].cpu() - right[1]).abs().max() < 2e-5 * max(1.0, right[1].abs().max().item())
    again = potential.with_stress(*given)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


@needs_compiler
def test_stress_emulated(neighbor_matrix_alone, student64):
    """Of boxes of all kinds, and of molecules within their walls in a cell."""
    assert_stress_is_right(neighbor_matrix_alone, student64, *boxes_of_all_kinds())


@needs_compiler
@pytest.mark.parametrize("name", ["graphene", "chain"])
def test_stress_emulated_in_small_cells(neighbor_matrix_alone, student64, name):
    assert_stress_is_right(neighbor_matrix_alone, student64, *small_cell(name, torch.float32))


@needs_compiler
def test_stress_emulated_within_walls(neighbor_matrix_alone, student, student64):
    numbers, positions, batch = squeezed(student, 0.6)
    boxes = cut_by_boxes(positions, batch)
    assert_stress_is_right(neighbor_matrix_alone, student64, numbers, positions, batch, *boxes)


@needs_compiler
def test_stress_emulated_passes_the_equivalence_gate(neighbor_matrix_alone, student, student64, molecules):
    """By the limits that a variant is held to, on periodic cases of its check."""
    reference, eager = AutogradPotential(student64), AutogradPotential(student)
    cases = cases_of({"water": molecules["water"]}, None, student.cutoff)
    # The larger boxes would take minutes by emulation.
    cases = [case for case in cases if case.name in ("small cell", "batch of cells")]
    assert [case.has_stress for case in cases] == [True, True]
    for case in cases:
        exact, plain, mine = (answers(one, case, stress=True) for one in (reference, eager, neighbor_matrix_alone))
        errors, of_eager = errors_against(exact, mine), errors_against(exact, plain)
        assert errors["virial_rmse"] > 0
        assert judge(errors, of_eager, TOLERANCES["float32"]) == "", case.name


@needs_compiler
def test_stress_emulated_is_the_slope_of_the_energy_under_strain(neighbor_matrix_alone):
    """By the kernels alone: every component, by differences of their own energies, of fourth order."""
    numbers, positions, batch, cell, pbc = (part[: 1 if len(part) == 3 else 5] for part in boxes_of_all_kinds())
    _, _, stress = neighbor_matrix_alone.with_stress(numbers, positions, batch, cell, pbc)
    virials = stress.double() * torch.linalg.det(cell.double()).abs()[:, None, None]
    step = 1e-2
    for a, b in [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]:
        strain = torch.zeros([3, 3], dtype=torch.float64)
        strain[a, b] = strain[b, a] = step if a == b else 0.5 * step
        slope = 0.0
        for steps, weight in [(1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)]:
            deformed = torch.eye(3, dtype=torch.float64) + steps * strain
            moved, box = (positions.double() @ deformed).float(), (cell.double() @ deformed).float()
            slope += weight * neighbor_matrix_alone.energy(numbers, moved, batch, box, pbc)
        assert (slope / (12 * step) - virials[:, a, b]).abs().max() < 1e-3 * virials.abs().max()


@needs_compiler
def test_stress_emulated_of_a_system_with_a_lost_atom(neighbor_matrix_alone):
    numbers, positions, batch, cell, pbc = boxes_of_all_kinds()
    right = neighbor_matrix_alone.with_stress(numbers, positions, batch, cell, pbc)
    lost = positions.clone()
    lost[6, 1] = torch.nan
    found = neighbor_matrix_alone.with_stress(numbers, lost, batch, cell, pbc)
    assert found[2][1].isnan().all()
    torch.testing.assert_close(found[2][[0, 2]], right[2][[0, 2]])


@pytest.fixture
def neighbor_matrix_alone(emulated, student):
    """The potential on the CPU, by the kernels for many atoms."""
    from mlff_distiller.potentials.cuda import CudaPotential

    return CudaPotential(student, libraries=emulated["neighbor_matrix"].parent, products="float32", single_launch=False)


def assert_right(potential, student64, numbers, positions, batch, cell=None, pbc=None):
    reference = AutogradPotential(student64)
    energies, forces = reference(numbers, positions.double(), batch, None if cell is None else cell.double(), pbc)
    found, found_forces = potential(numbers, positions, batch, cell, pbc)
    scale = max(1.0, forces.abs().max().item())
    assert (found - energies).abs().max() < 2e-4 * scale
    assert (found_forces - forces).abs().max() < 2e-5 * scale


@needs_compiler
def test_other_atoms_in_the_same_box(neighbor_matrix_alone, student64):
    """Cells are made for the room that a system has: fewer atoms, and more again, with the very same tensors of the box."""
    cell, pbc = 22.0 * torch.eye(3)[None], torch.ones([1, 3], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for n_atoms in (30, 4, 1, 30, 12):
        positions = 22.0 * torch.rand(n_atoms, 3, generator=generator)
        numbers = torch.randint(1, 10, [n_atoms], generator=generator)
        assert_right(
            neighbor_matrix_alone, student64, numbers, positions, torch.zeros([n_atoms], dtype=torch.int64), cell, pbc
        )
        assert neighbor_matrix_alone.grid.cells <= n_atoms
    # The same numbers of atoms and systems, dealt out otherwise.
    cells, axes = cell.repeat(2, 1, 1), pbc.repeat(2, 1)
    positions, numbers = 22.0 * torch.rand(12, 3, generator=generator), torch.ones([12], dtype=torch.int64)
    for first in (11, 6, 11):
        batch = (torch.arange(12) >= first).to(torch.int64)
        assert_right(neighbor_matrix_alone, student64, numbers, positions, batch, cells, axes)


@needs_compiler
def test_more_cells_than_room_are_refused(neighbor_matrix_alone):
    program = neighbor_matrix.NeighborMatrixProgram(
        neighbor_matrix_alone.neighbor_matrix, neighbor_matrix_alone.neighbor_matrix_weights, 8, 1, 16, cells=8
    )
    box, pbc = 17.0 * torch.eye(3)[None], torch.ones([1, 3], dtype=torch.bool)
    with pytest.raises(ValueError, match="27 cells where there is room for 8"):
        program.set_grid(neighbor_matrix.CellGrid.of(box, pbc, 5.0, 100))
    program.set_grid(neighbor_matrix.CellGrid.of(box, pbc, 5.0, 8))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("value", [torch.inf, 1e30, 1e300, torch.nan])
@pytest.mark.parametrize("most", [0, 1, 1000])
def test_a_grid_is_made_whatever_the_box_is(value, most):
    box = 8.0 * torch.eye(3, dtype=torch.float64)[None]
    box[0, 0, 0] = value
    grid = neighbor_matrix.CellGrid.of(box, torch.ones([1, 3], dtype=torch.bool), 5.0, most)
    assert 1 <= grid.cells <= max(most, 1)


@needs_compiler
def test_free_atoms_in_boxes_beside_an_empty_system(neighbor_matrix_alone, student64, monkeypatch):
    """Large systems that do not repeat are put into boxes of their own; far apart, too."""
    monkeypatch.setattr("mlff_distiller.potentials.cuda.ALL_PAIRS_LIMIT", 3)
    numbers, positions, batch = random_batch([7, 4], seed=1, spread=3.0)
    assert_right(neighbor_matrix_alone, student64, numbers, positions, batch)
    assert_right(neighbor_matrix_alone, student64, numbers, positions + 1e4 * batch[:, None], batch)
    energies, forces = neighbor_matrix_alone(numbers, positions, batch)
    behind = neighbor_matrix_alone(numbers, positions, 1 + batch)
    assert behind[0][0] == 0
    torch.testing.assert_close(behind[0][1:], energies)
    torch.testing.assert_close(behind[1], forces)


@needs_compiler
@pytest.mark.parametrize("periodic", [False, True])
def test_an_atom_that_is_lost_costs_no_room_for_good(neighbor_matrix_alone, student64, monkeypatch, periodic):
    """It is near to all others; its own system is NaN throughout, the other one right, and nothing grows."""
    for name in ("FIRST_CAPACITY", "ALWAYS_ENOUGH"):
        monkeypatch.setattr(f"mlff_distiller.potentials.cuda.{name}", 16)
    neighbor_matrix_alone.release()
    numbers, positions, batch = random_batch([18, 2], seed=4, spread=6.0)
    boxes = (40.0 * torch.eye(3).repeat(2, 1, 1), torch.ones([2, 3], dtype=torch.bool)) if periodic else (None, None)
    right = neighbor_matrix_alone(numbers, positions, batch, *boxes)
    lost = positions.clone()
    lost[17, 1] = torch.nan
    energies, forces = neighbor_matrix_alone.on_host(numbers, lost, batch, *boxes)
    assert energies[0].isnan()
    assert forces[:18].isnan().all()
    torch.testing.assert_close(energies[1], right[0][1])
    torch.testing.assert_close(forces[18:], right[1][18:])
    assert neighbor_matrix_alone.capacity == 16
    # Those that are really there get their room, until it is given back.
    assert_right(neighbor_matrix_alone, student64, numbers, positions * 0.08, batch, *boxes)
    assert neighbor_matrix_alone.capacity > 16
    neighbor_matrix_alone.release()
    assert neighbor_matrix_alone.capacity == 16


@needs_compiler
@pytest.mark.parametrize(("sizes", "lost", "kept"), [([80], 3, True), ([70, 10], 75, False), ([70, 10], 3, True)])
def test_an_atom_that_is_lost_leaves_the_single_launch(emulated, student, sizes, lost, kept):
    from mlff_distiller.potentials.cuda import CudaPotential

    potential = CudaPotential(student, libraries=emulated["neighbor_matrix"].parent, products="float32")
    numbers, positions, batch = random_batch(sizes, seed=0)
    positions[lost] = torch.nan
    systems = potential.inputs(numbers, positions, batch, None, None)
    program = potential._shared(systems.topology, positions, on_host=True)
    program.most.fill_(79)
    before = potential.most_in_one_launch
    assert potential._make_room(program, systems.topology, potential._too_many(program, systems)) is not kept
    assert program.most == 0
    assert (potential.most_in_one_launch == before) is kept
    assert program.energies.isnan().tolist() == [kept and int(batch[lost]) == b for b in range(len(sizes))]
    potential.release()
    assert potential.most_in_one_launch == before


def test_filter_fragments_hold_every_weight():
    """hi + lo is the weight to 22 bits, where the layout of the tensor cores wants it."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(3 * 64, 20, generator=generator), torch.randn(3 * 64, generator=generator)
    fragments = neighbor_matrix.filter_fragments(weight, bias, 24)
    assert fragments.shape == (2, 3, 4, 3, 32, 2)
    for quarter, channel, narrow, group, t in [(0, 0, 0, 0, 0), (1, 2, 3, 7, 3), (1, 1, 2, 4, 1)]:
        row = channel * 64 + quarter * 32 + narrow // 2 * 16 + group // 2 * 4 + narrow % 2 * 2 + group % 2
        halves = fragments[quarter, channel, narrow, :, 4 * group + t].contiguous().view(torch.float16).float()
        found = {k: halves[0, i] + halves[1, i] for i, k in enumerate([2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9])}
        found |= {2 * t + 16 + i: halves[2, i] + halves[2, 2 + i] for i in range(2)}
        for k, value in found.items():
            wanted = weight[row, k] if k < 20 else bias[row] if k == 20 else torch.tensor(0.0)
            torch.testing.assert_close(value, wanted, rtol=2e-6, atol=6e-8)


def test_a_build_is_of_one_student():
    """What the kernels are compiled with tells builds apart: also what is no size of a matrix."""
    one = definitions(StudentConfig())
    assert f"-DWALL_REST={wall.REST}f" in one
    assert "-DELEMENTS=101" in one
    assert "-DNORM_EPSILON=0.01f" in one
    for other in ({"norm_epsilon": 1e-4}, {"max_atomic_number": 86}):
        assert definitions(StudentConfig(**other)) != one


def test_sizes_that_the_kernels_cannot_take():
    with pytest.raises(UserError, match="n_features 128, not 64"):
        definitions(StudentConfig(n_features=64))
    with pytest.raises(UserError, match="at most 23 Gaussians, not 30"):
        definitions(StudentConfig(n_radial=30))
    with pytest.raises(UserError, match="n_blocks of at least 2"):
        definitions(StudentConfig(n_blocks=1))


@pytest.mark.parametrize(
    ("card", "nvcc_knows", "reason"),
    [
        ((9, 0), "sm_80 sm_90", None),
        ((9, 0), "", None),
        ((12, 0), "sm_80 sm_90", r"an nvcc that knows sm_120 \(A card\); .*/nvcc is of CUDA 12.4: .* set CUDA_HOME"),
        ((8, 6), "sm_86 sm_90", None),
        ((7, 5), "sm_75 sm_90", r"8\.0 \(Ampere\) or newer.*A card, 7\.5"),
    ],
)
def test_a_card_that_cannot_have_the_kernels_is_told_why(tmp_path, monkeypatch, card, nvcc_knows, reason):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    lines = ["#!/bin/sh", f'[ "$1" = --list-gpu-code ] && echo "{nvcc_knows}" || echo "release 12.4, V12.4.131"']
    nvcc.write_text("\n".join(lines))
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: card)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    found = unavailable()
    assert found is None if reason is None else re.search(reason, found)
    if reason is None and card < (9, 0):
        assert re.search("form clusters needs clusters .*: use grid32", unavailable("clusters"))


def form_on_gpu(student, form):
    """The potential with that form of the molecule kernel; a newer card runs those of older ones, too."""
    if reason := unavailable(form):
        pytest.skip(reason)
    return CudaPotential(copy.deepcopy(student).to("cuda"), form=form)


@pytest.fixture(params=FORMS)
def on_gpu(request, student):
    return form_on_gpu(student, request.param)


@needs_gpu
@pytest.mark.parametrize("sizes", [[1], [3], [24], [5, 1, 3], [64], [102], [105], [110], [24] * 5, [24] * 40, [300]])
def test_equals_autograd_on_the_gpu(on_gpu, student, student64, sizes):
    """While atoms cross the cutoff from call to call; as exact as autograd in float32."""
    reference, eager = AutogradPotential(student64), AutogradPotential(copy.deepcopy(student).to("cuda"))
    numbers, _, batch = random_batch(sizes, seed=5)
    on_device = numbers.to("cuda"), batch.to("cuda")
    kept = []
    for seed, spread in enumerate([1.3, 0.9, 3.0]):
        positions = random_batch(sizes, seed, spread)[1]
        energies, forces = reference(numbers, positions.double(), batch)
        found, found_forces = on_gpu(on_device[0], positions.to("cuda"), on_device[1])
        plain = eager(on_device[0], positions.to("cuda"), on_device[1])[1]
        error, allowed = ((part.cpu() - forces).square().mean().sqrt() for part in (found_forces, plain))
        assert error <= 2 * allowed + 5e-6 * max(1.0, forces.abs().max().item())
        assert (found.cpu() - energies).abs().max() < 1e-4 * max(1.0, energies.abs().max().item() * 1e-3)
        again = on_gpu(on_device[0], positions.to("cuda"), on_device[1])
        assert torch.equal(found_forces, again[1])
        assert torch.equal(found, again[0])
        mine, eagers = (one.on_host(on_device[0], positions.to("cuda"), on_device[1]) for one in (on_gpu, eager))
        assert torch.equal(mine[0], found.cpu())
        assert torch.equal(mine[1], found_forces.cpu())
        torch.testing.assert_close(eagers[1], plain.cpu(), rtol=1e-3, atol=1e-3 * forces.abs().max().item())
        kept.append((found_forces, found_forces.clone()))
    assert all(torch.equal(given, copied) for given, copied in kept)


@needs_gpu
def test_more_neighbors_than_room(on_gpu, student64):
    """A hundred atoms in one place: the molecule kernel's rows overflow, and the answer is right all the same."""
    numbers, positions, batch = random_batch([100], seed=0, spread=0.35)
    energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch)
    found, found_forces = on_gpu(numbers.to("cuda"), positions.to("cuda"), batch.to("cuda"))
    assert (found_forces.cpu() - forces).abs().max() < 1e-4 * forces.abs().max()
    assert (found.cpu() - energies).abs().max() < 1e-4 * energies.abs().max()


@needs_gpu
def test_periodic_on_the_gpu(on_gpu, student64):
    cell = torch.tensor([[[12.0, 0, 0], [0, 17, 0], [0, 3, 16.0]]])
    pbc = torch.ones([1, 3], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    grid = torch.stack(torch.meshgrid(*[torch.arange(5)] * 3, indexing="ij"), -1).reshape(-1, 3) / 5.0
    numbers, batch = torch.randint(1, 10, [125], generator=generator), torch.zeros([125], dtype=torch.int64)
    for _ in range(2):
        positions = (grid + 0.05 * torch.rand(125, 3, generator=generator) - 0.5) @ cell[0]
        energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch, cell.double(), pbc)
        arguments = [x.to("cuda") for x in (numbers, positions, batch, cell, pbc)]
        found, found_forces = on_gpu(*arguments)
        assert (found_forces.cpu() - forces).abs().max() < 2e-5 * max(1.0, forces.abs().max().item())
        assert (found.cpu() - energies).abs().max() < 1e-3


@needs_gpu
@pytest.mark.parametrize("copies", [1, 100])
def test_stress_on_the_gpu(student, student64, copies):
    """Whether or not the launches are captured, beside calls that take no stress."""
    potential = CudaPotential(copy.deepcopy(student).to("cuda"))
    numbers, positions, batch, cell, pbc = boxes_of_all_kinds()
    numbers, positions = numbers.repeat(copies), positions.repeat(copies, 1)
    batch = torch.cat([batch + 3 * k for k in range(copies)])
    cell, pbc = cell.repeat(copies, 1, 1), pbc.repeat(copies, 1)
    for _ in range(CALLS_BEFORE_CAPTURE + 1):
        assert_stress_is_right(potential, student64, numbers, positions, batch, cell, pbc, "cuda")
    for name in SMALL_CELLS:
        assert_stress_is_right(potential, student64, *small_cell(name, torch.float32), "cuda")


@needs_gpu
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("copies", [1, 10, 100])
def test_within_walls_on_the_gpu(on_gpu, student, student64, share, copies):
    """By one launch and by the kernels for many atoms, alone and in boxes whose faces run through the molecules."""
    numbers, positions, batch = squeezed(student, share)
    numbers, positions = numbers.repeat(copies), positions.repeat(copies, 1)
    batch = torch.cat([batch + 2 * k for k in range(copies)])
    for periodic in (False, True):
        boxes = cut_by_boxes(positions, batch) if periodic else ()
        double = [box.double() if box.is_floating_point() else box for box in boxes]
        energies, forces = AutogradPotential(student64)(numbers, positions.double(), batch, *double)
        given = [tensor.to("cuda") for tensor in (numbers, positions, batch, *boxes)]
        scale = max(1.0, forces.abs().max().item())
        for _ in range(CALLS_BEFORE_CAPTURE + 1):
            found, found_forces = on_gpu(*given)
            assert (found.cpu() - energies).abs().max() < 2e-4 * scale
            assert (found_forces.cpu() - forces).abs().max() < 2e-5 * scale
        assert torch.equal(on_gpu.energy(*given), found)


@needs_gpu
@pytest.mark.parametrize("single_launch", [True, False])
def test_across_walls_on_the_gpu(student, student64, single_launch):
    from mlff_distiller.potentials.cuda import CudaPotential

    potential = CudaPotential(copy.deepcopy(student).to("cuda"), single_launch=single_launch)
    numbers, positions, batch = near_walls(student)
    right = AutogradPotential(student64)(numbers, positions.double(), batch)
    found = potential(*(tensor.to("cuda") for tensor in (numbers, positions, batch)))
    assert_close_each(*(part.cpu() for part in found), *right)


def caffeine_like(device="cuda"):
    numbers, positions, batch = random_batch([24], seed=5)
    return numbers.to(device), positions.to(device), batch.to(device)


@needs_gpu
@pytest.mark.parametrize("setting", ["autocast", "tf32", "inference", "double", "device"])
def test_nothing_that_a_caller_set_is_captured(student, student64, setting, monkeypatch):
    """The first call of a size makes buffers and graph: later ones must not inherit what held then."""
    from mlff_distiller.potentials.analytic import analytic_edge_gradient
    from mlff_distiller.potentials.cuda import CudaPotential
    from mlff_distiller.potentials.graphed import GraphedPotential
    from mlff_distiller.potentials.triton import TritonPotential

    moved = copy.deepcopy(student).to("cuda")
    arguments = caffeine_like()
    many = [tensor.to("cuda") for tensor in random_batch([24] * 6, seed=6)]
    potentials = [CudaPotential(moved), GraphedPotential(moved, analytic_edge_gradient(moved)), TritonPotential(moved)]
    for potential in potentials:
        for given in (arguments, many):
            cpu = [tensor.cpu() for tensor in given]
            forces = AutogradPotential(student64)(cpu[0], cpu[1].double(), cpu[2])[1]
            try:
                if setting == "double":
                    torch.set_default_dtype(torch.float64)
                if setting == "device":
                    torch.set_default_device("cuda")
                monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", setting == "tf32")
                autocast = torch.autocast("cuda", torch.float16, enabled=setting == "autocast")
                with autocast, torch.inference_mode(setting == "inference"):
                    for _ in range(CALLS_BEFORE_CAPTURE + 1):
                        potential(*given)
            finally:
                torch.set_default_dtype(torch.float32)
                torch.set_default_device(None)
            monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
            found = potential(*given)[1].cpu()
            assert (found - forces).abs().max() < 2e-5 * max(1.0, forces.abs().max().item())


@needs_gpu
@pytest.mark.parametrize("kind", ["cuda", "cuda, kernels for many atoms", "triton"])
def test_a_new_potential_can_be_called_on_another_stream(student, kind):
    """Its weights are still being packed, behind long kernels of the stream that it was made on."""
    from mlff_distiller.potentials.triton import TritonPotential

    make = {
        "cuda": CudaPotential,
        "cuda, kernels for many atoms": lambda moved: CudaPotential(moved, single_launch=False),
        "triton": TritonPotential,
    }[kind]
    moved, given = copy.deepcopy(student).to("cuda"), caffeine_like()
    right = make(moved)(*given)[1].clone()
    large = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    for _ in range(20):
        large @ large
    potential = make(moved)
    with torch.cuda.stream(torch.cuda.Stream()):
        found = potential(*given)[1].clone()
        torch.cuda.current_stream().synchronize()
    assert torch.equal(found, right)


@needs_gpu
def test_threads_may_capture_while_others_run(student):
    import threading

    from mlff_distiller.potentials.analytic import analytic_edge_gradient
    from mlff_distiller.potentials.cuda import CudaPotential
    from mlff_distiller.potentials.graphed import GraphedPotential

    moved, failed = copy.deepcopy(student).to("cuda"), []

    def work(make):
        try:
            potential = make()
            with torch.cuda.stream(torch.cuda.Stream()):
                for n_atoms in range(5, 30):
                    given = [tensor.to("cuda") for tensor in random_batch([n_atoms], seed=n_atoms)]
                    for _ in range(CALLS_BEFORE_CAPTURE + 1):
                        potential(*given)
                        torch.cuda.current_stream().synchronize()
        except Exception as error:
            failed.append(error)

    kinds = [
        lambda: CudaPotential(moved, single_launch=False),
        lambda: GraphedPotential(moved, analytic_edge_gradient(moved)),
    ]
    threads = [threading.Thread(target=work, args=[kind]) for kind in kinds * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@needs_gpu
@pytest.mark.parametrize("kind", [*FORMS, "cuda, kernels for many atoms", "triton", "graph of analytic forces"])
def test_every_size_from_1_to_400(student, kind):
    """One call each, as in screening; the limits of the kernels lie at 105 and 120 atoms, and at other sizes on other cards."""
    from mlff_distiller.potentials.analytic import analytic_edge_gradient
    from mlff_distiller.potentials.graphed import GraphedPotential
    from mlff_distiller.potentials.triton import TritonPotential

    moved = copy.deepcopy(student).to("cuda")
    potential = {
        **{form: lambda form=form: form_on_gpu(student, form) for form in FORMS},
        "cuda, kernels for many atoms": lambda: CudaPotential(moved, single_launch=False),
        "triton": lambda: TritonPotential(moved),
        "graph of analytic forces": lambda: GraphedPotential(moved, analytic_edge_gradient(moved)),
    }[kind]()
    reference = AutogradPotential(copy.deepcopy(student).to("cuda", torch.float64))
    for n_atoms in range(1, 401):
        numbers, positions, batch = (tensor.to("cuda") for tensor in random_batch([n_atoms], seed=n_atoms))
        energies, forces = reference(numbers, positions.double(), batch)
        found, found_forces = potential(numbers, positions, batch)
        scale = max(1.0, forces.abs().max().item())
        assert (found_forces - forces).abs().max() < 1e-4 * scale, n_atoms
        assert (found - energies).abs().max() < 1e-4 * scale, n_atoms


@needs_gpu
def test_threads_and_streams_may_share_a_potential(student):
    """Sizes that are met once, and sizes that are captured, of one and of different sizes: the bits of calls made alone."""
    import threading

    potential = form_on_gpu(student, None)
    sizes = (12, 12, 24, 60, 300, 300)
    given = [[tensor.to("cuda") for tensor in random_batch([size], seed=k)] for k, size in enumerate(sizes)]
    alone = [[part.clone() for part in form_on_gpu(student, None)(*one)] for one in given]
    failed = []

    def work(k):
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(300):
                    found = potential(*given[k])
                    if not all(torch.equal(one, other) for one, other in zip(found, alone[k], strict=True)):
                        raise AssertionError(f"{sizes[k]} atoms")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[k]) for k in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@needs_gpu
@pytest.mark.parametrize("form", FORMS)
def test_launches_on_several_streams_at_once(student, form):
    """Each with its own potential, beside long kernels of others: none waits for a block that never starts, same bits."""
    import threading

    given = [[tensor.to("cuda") for tensor in random_batch([size], seed=size)] for size in (24, 60, 102, 105, 300)]
    alone = [form_on_gpu(student, form)(*one) for one in given]
    failed = []

    def work(k):
        try:
            potential = form_on_gpu(student, form)
            with torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(1000):
                    found = potential(*given[k])
                torch.cuda.current_stream().synchronize()
                assert all(torch.equal(one, other) for one, other in zip(found, alone[k], strict=True))
        except Exception as error:
            failed.append(error)

    def occupy():
        large = torch.randn(8192, 8192, device="cuda")
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(100):
                large @ large
            torch.cuda.current_stream().synchronize()

    threads = [threading.Thread(target=work, args=[k]) for k in range(len(given))] + [threading.Thread(target=occupy)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
