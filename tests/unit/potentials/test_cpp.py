"""The C++ kernel computes what autograd computes, for every kind of input, and refuses what makes no sense."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from ase import Atoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlff_distiller.kernels.compile_time import seconds_noted
from mlff_distiller.kernels.cpu import binding
from mlff_distiller.kernels.cpu import build as builder
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.student import wall
from mlff_distiller.systems.batch import Batch
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.utils.errors import UserError
from tests.unit.potentials.biased_student import make_student

MOLECULES = Path(__file__).parents[3] / "resources" / "molecules"
NAMES = ("water", "methane", "benzene", "caffeine", "penicillin_g", "cholesterol", "ala9_capped")
EXACT = 1e-12
THREADS = (1, 2, 3)
#: Of their size that squeezed molecules keep. Bonds are within their walls before.
SHARES = (0.3, 0.6, 0.8, 0.95)
SMALL = {"n_features": 16, "mlp_width": 8, "readout_width": 8, "n_blocks": 1, "n_radial": 8}


@pytest.fixture(scope="module")
def exact():
    """(truth by autograd, the kernel), both fp64."""
    student = make_student()
    return AutogradPotential(student), CppPotential(student)


@pytest.fixture(scope="module")
def single():
    """(fp64 truth, fp32 autograd, fp32 kernel), of the same weights."""
    student = make_student(torch.float32)
    return AutogradPotential(make_student()), AutogradPotential(student), CppPotential(student)


def relative(found, expected):
    scale = float(expected.norm())
    difference = float((found - expected).norm())
    return difference / scale if scale > 0 else difference


def molecule(*names, dtype=torch.float64):
    return Batch.from_atoms([load_system(name, MOLECULES) for name in names], dtype=dtype)


def random_system(seed, n_atoms, side, pbc=(True, True, True)):
    """Atoms at random in a skewed cell."""
    generator = torch.Generator().manual_seed(seed)
    cell = side * (torch.eye(3).double() + 0.3 * torch.rand(3, 3, generator=generator, dtype=torch.float64))
    # Beyond the cell, too: wrapping is the kernel's own business.
    fractions = 3 * torch.rand(n_atoms, 3, generator=generator, dtype=torch.float64) - 1
    numbers = torch.tensor([1, 6, 7, 8, 16])[torch.randint(5, (n_atoms,), generator=generator)]
    return Atoms(numbers=numbers.numpy(), positions=(fractions @ cell).numpy(), cell=cell.numpy(), pbc=pbc)


def assert_equal_to_autograd(exact, batch, tolerance=EXACT):
    truth, kernel = exact
    energies, forces = truth(*batch)
    for kernel.threads in THREADS:
        found_energies, found_forces = kernel(*batch)
        assert relative(found_energies, energies) < tolerance
        assert relative(found_forces, forces) < tolerance
    kernel.threads = None
    assert relative(kernel.energy(*batch), energies) < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_molecules_equal_autograd(exact, name):
    assert_equal_to_autograd(exact, molecule(name))


def test_a_batch_of_all_molecules_equals_autograd(exact):
    assert_equal_to_autograd(exact, molecule(*NAMES, *NAMES[::-1]))


def test_a_large_molecule_searched_by_bins_equals_autograd(exact):
    atoms = random_system(5, 700, 24.0, pbc=False)
    assert_equal_to_autograd(exact, Batch.from_atoms([atoms, load_system("water", MOLECULES)], dtype=torch.float64))


@pytest.mark.parametrize(
    ("n_atoms", "side", "pbc"),
    [
        (1, 3.1, (True, True, True)),
        (5, 4.0, (True, True, True)),
        (9, 4.5, (True, False, True)),
        (7, 4.5, (False, True, False)),
        (20, 7.0, (True, True, True)),
        (150, 16.0, (True, True, True)),
        (200, 18.0, (True, True, False)),
        (6, 3000.0, (True, True, True)),
    ],
)
def test_periodic_systems_equal_autograd(exact, n_atoms, side, pbc):
    assert_equal_to_autograd(exact, Batch.from_atoms([random_system(n_atoms, n_atoms, side, pbc)], dtype=torch.float64))


def test_missing_cell_vectors_of_axes_that_are_not_periodic(exact):
    chain, layer = load_system("benzene", MOLECULES), load_system("caffeine", MOLECULES)
    chain.set_cell([[0, 0, 0], [1.0, 6.5, 0.3], [0, 0, 0]])
    chain.pbc = (False, True, False)
    layer.set_cell([[9.0, 1.0, 0], [0, 0, 0], [0.5, 0, 8.0]])
    layer.pbc = (True, False, True)
    assert_equal_to_autograd(exact, Batch.from_atoms([chain, layer], dtype=torch.float64))


def test_a_batch_of_many_is_shared_out_in_groups(exact):
    truth, kernel = exact
    names = [name for name in NAMES if name != "cholesterol"] * 9
    batch = molecule(*names)
    energies = torch.cat([truth.energy(*molecule(name)) for name in names[:6]] * 9)
    forces = torch.cat([truth(*molecule(name))[1] for name in names[:6]] * 9)
    boxes = Batch.from_atoms([random_system(seed, 12, 5.0) for seed in range(40)], dtype=torch.float64)
    expected = truth.with_stress(*boxes)
    for kernel.threads in THREADS:
        found_energies, found_forces = kernel(*batch)
        assert relative(found_energies, energies) < EXACT
        assert relative(found_forces, forces) < EXACT
        for found, one in zip(kernel.with_stress(*boxes), expected, strict=True):
            assert relative(found, one) < EXACT
    kernel.threads = 2
    bad = batch.positions.clone()
    bad[1000, 2] = float("nan")
    system, first = int(batch.batch[1000]), int((batch.batch < batch.batch[1000]).sum())
    with pytest.raises(UserError, match=rf"atom 1000 is at .*\(atom {1000 - first} of system {system} in the batch\)"):
        kernel(*batch._replace(positions=bad))
    flat = boxes.cell.clone()
    flat[33, 1] = 0
    with pytest.raises(UserError, match="system 33 span no volume"):
        kernel(*boxes._replace(cell=flat))
    kernel.threads = None


def squeezed(*names, share, dtype=torch.float64):
    """A batch of molecules, their positions shrunk to a share."""
    systems = [load_system(name, MOLECULES) for name in names]
    for atoms in systems:
        atoms.positions *= share
    return Batch.from_atoms(systems, dtype=dtype)


@pytest.fixture(scope="module")
def calm(student64):
    """(truth by autograd, the kernel), both fp64, where the energies of dense molecules are mostly their walls'."""
    return AutogradPotential(student64), CppPotential(student64)


@pytest.mark.parametrize("share", SHARES)
def test_molecules_within_their_walls_equal_autograd(calm, share):
    for name in NAMES:
        assert_equal_to_autograd(calm, squeezed(name, share=share))
    assert_equal_to_autograd(calm, squeezed(*NAMES, share=share))


@pytest.mark.parametrize("share", SHARES)
def test_stress_within_the_walls_equals_autograd(calm, share):
    """Molecules across the faces of a cell, and an atom that meets the walls of its own images."""
    truth, kernel = calm
    crossing, chain = load_system("caffeine", MOLECULES), Atoms("C", pbc=(True, False, False))
    crossing.positions *= share
    crossing.set_cell([[9.0, 1.0, 0], [0, 8.0, 0], [0.5, 0, 8.0]])
    crossing.pbc = True
    chain.set_cell([[1.7 * share, 0.1, 0], [0, 6.0, 0], [0, 0, 6.0]])
    for systems in ([crossing], [chain], [crossing, chain]):
        batch = Batch.from_atoms(systems, dtype=torch.float64)
        assert_equal_to_autograd(calm, batch)
        expected = truth.with_stress(*batch)
        for kernel.threads in THREADS:
            for found, one in zip(kernel.with_stress(*batch), expected, strict=True):
                assert relative(found, one) < EXACT
    kernel.threads = None


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", NAMES)
def test_float32_within_the_walls(student, calm, name, share):
    """Relative errors here: beside repulsions of up to 10,000 eV there are no digits left for 1e-6 eV."""
    truth, kernel = calm[0], CppPotential(student)
    batch = squeezed(name, share=share, dtype=torch.float32)
    energies, forces = truth(*batch._replace(positions=batch.positions.double()))
    size = abs(float(energies) - float(student.reference_energies[batch.numbers].sum()))
    for kernel.threads in THREADS:
        found_energies, found_forces = kernel(*batch)
        assert abs(float(found_energies - energies)) < 2e-6 * (size + len(batch.numbers))
        assert relative(found_forces.double(), forces) < 2e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pairs_about_the_end_of_their_wall(dtype):
    """At it and beyond, nothing differs from a student without walls; before it, a pair has its energy."""
    student, free = make_student(dtype), make_student(dtype)
    free.network.wall.copy_(wall.no_wall(100))
    end, strength = student.network.wall[6 * 101 + 8].tolist()
    walled, without = CppPotential(student), CppPotential(free)
    numbers, batch = torch.tensor([6, 8]), torch.zeros(2, dtype=torch.int64)
    for distance in (end, end * (1 + 1e-6), 1.5 * end):
        positions = torch.tensor([[0, 0, 0], [distance, 0, 0]], dtype=dtype)
        for found, expected in zip(walled(numbers, positions, batch), without(numbers, positions, batch), strict=True):
            assert torch.equal(found, expected)
    # From x = 0.8 on the network sees 0.9 R, whatever the distance: only the repulsion changes.
    energies = [
        float(walled.energy(numbers, torch.tensor([[0, 0, 0], [x * end, 0, 0]], dtype=dtype), batch))
        for x in (0.5, 0.7)
    ]
    repulsions = [strength * (1 - x) ** 3 / x for x in (0.5, 0.7)]
    assert energies[0] - energies[1] == pytest.approx(
        repulsions[0] - repulsions[1], rel=1e-10 if dtype == torch.float64 else 1e-5
    )


def test_the_norms_epsilon_is_the_students():
    truth, kernel = (potential(make_student(norm_epsilon=0.3)) for potential in (AutogradPotential, CppPotential))
    assert_equal_to_autograd((truth, kernel), molecule("caffeine"))


@pytest.mark.parametrize("threads", THREADS)
def test_stress_equals_autograd(exact, threads):
    truth, kernel = exact
    batch = Batch.from_atoms([random_system(1, 9, 4.0), random_system(2, 60, 11.0)], dtype=torch.float64)
    kernel.threads = threads
    for found, expected in zip(kernel.with_stress(*batch), truth.with_stress(*batch), strict=True):
        assert relative(found, expected) < EXACT
    kernel.threads = None


def test_systems_without_atoms_have_no_energy(exact):
    truth, kernel = exact
    batch = molecule("water", "methane")
    spread = batch._replace(batch=1 + 2 * batch.batch)  # systems 0 and 2 are empty
    energies, forces = kernel(*spread)
    expected_energies, expected_forces = truth(*batch)
    assert relative(energies[[1, 3]], expected_energies) < EXACT
    assert energies[[0, 2]].tolist() == [0.0, 0.0]
    assert relative(forces, expected_forces) < EXACT
    with pytest.raises(UserError, match="no atoms: there is nothing to compute"):
        kernel(batch.numbers[:0], batch.positions[:0], batch.batch[:0])


def test_one_atom_has_no_force(exact):
    assert_equal_to_autograd(exact, Batch.from_atoms([Atoms("C")], dtype=torch.float64))


@pytest.mark.parametrize(
    "sizes",
    [
        {"n_features": 16, "n_blocks": 1, "mlp_width": 8, "readout_width": 8},
        {"n_features": 37, "n_blocks": 2, "mlp_width": 13, "readout_width": 5, "n_radial": 6, "cutoff": 3.4},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_students_of_other_sizes(sizes, dtype):
    truth = AutogradPotential(make_student(**sizes))
    kernel = CppPotential(make_student(dtype, **sizes))
    batch = molecule("caffeine", "water")
    _, forces = kernel(*batch._replace(positions=batch.positions.to(dtype)))
    assert relative(forces.double(), truth(*batch)[1]) < (EXACT if dtype == torch.float64 else 3e-5)


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_within_the_bound_of_the_fp64_reference(single, name):
    truth, eager, kernel = single
    batch = molecule(name, dtype=torch.float32)
    energies, forces = truth(*batch._replace(positions=batch.positions.double()))
    bound = 2 * (eager(*batch)[1] - forces).pow(2).mean().sqrt() + 5e-6
    for kernel.threads in THREADS:
        found_energies, found_forces = kernel(*batch)
        assert (found_forces - forces).pow(2).mean().sqrt() <= bound
        assert abs(found_energies - energies) <= 2 * abs(eager.energy(*batch) - energies) + 1e-6 * len(batch.numbers)
    kernel.threads = None


positions_of_few = st.lists(
    # Inductor's libraries, once loaded, make this process flush subnormal numbers to zero.
    st.tuples(*[st.floats(-7.0, 7.0, width=32, allow_subnormal=False)] * 3),
    min_size=1,
    max_size=14,
    unique_by=lambda p: tuple(map(round, p)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    positions=positions_of_few, threads=st.sampled_from(THREADS), split=st.integers(0, 14), side=st.floats(3.0, 40.0)
)
def test_any_few_atoms_equal_autograd(exact, positions, threads, split, side):
    """Clusters and loose atoms, one system and two, molecules and periodic cells."""
    truth, kernel = exact
    kernel.threads = threads
    points = torch.tensor(positions, dtype=torch.float64)
    close = torch.pdist(points)
    if close.numel() and close.min() < 0.05:
        return  # forces there are beyond any force field, and digits cancel
    numbers = torch.tensor([1, 6, 8, 7, 16, 9, 17])[torch.arange(len(points)) % 7]
    system = (torch.arange(len(points)) >= split).to(torch.int64)
    for cell, pbc in (
        (None, None),
        (
            side * torch.eye(3).double().repeat(2, 1, 1) + 0.1,
            torch.tensor([[True, True, True], [True, False, False]]),
        ),
    ):
        batch = system if cell is not None or split else torch.zeros_like(system)
        receivers, senders, shifts = kernel.neighbors(points, batch, cell, pbc)
        vectors = points[senders] - points[receivers]
        if shifts is not None:
            vectors = vectors + torch.einsum("es,esk->ek", shifts.double(), cell[batch[receivers]])
        if len(vectors) and vectors.norm(dim=1).min() < 0.05:
            continue
        expected = truth(numbers, points, batch, cell, pbc)
        found = kernel(numbers, points, batch, cell, pbc)
        assert relative(found[0], expected[0]) < EXACT
        assert (found[1] - expected[1]).abs().max() < 1e-11 * max(1.0, float(expected[1].abs().max()))
    kernel.threads = None


@pytest.mark.parametrize("delta", [-1e-3, -1e-7, 0.0, 1e-7, 1e-3])
def test_atoms_about_the_cutoff(exact, delta):
    truth, kernel = exact
    positions = torch.tensor([[0.0, 0.0, 0.0], [truth.cutoff + delta, 0.0, 0.0]], dtype=torch.float64)
    numbers, batch = torch.tensor([6, 8]), torch.zeros(2, dtype=torch.int64)
    forces = kernel(numbers, positions, batch)[1]
    assert (forces - truth(numbers, positions, batch)[1]).abs().max() < 1e-12
    if delta >= 0:
        assert torch.equal(forces, torch.zeros_like(forces))


def edges_of(receivers, senders, shifts):
    columns = [receivers[:, None], senders[:, None]] + ([] if shifts is None else [shifts])
    return sorted(map(tuple, torch.cat(columns, dim=1).tolist()))


@pytest.mark.parametrize(
    "systems",
    [
        [load_system("ala9_capped", MOLECULES), load_system("water", MOLECULES)],
        [random_system(5, 400, 20.0, pbc=False)],
        [random_system(1, 9, 4.0), random_system(2, 60, 11.0, (True, False, True)), load_system("water", MOLECULES)],
    ],
    ids=["molecules", "bins", "periodic"],
)
def test_neighbors_equal_the_native_search(exact, systems):
    truth, kernel = exact
    batch = Batch.from_atoms(systems, dtype=torch.float64)
    found = kernel.neighbors(batch.positions, batch.batch, batch.cell, batch.pbc)
    expected = truth.neighbors(batch.positions, batch.batch, batch.cell, batch.pbc)
    assert edges_of(*found) == edges_of(*expected)
    assert bool((found[0].diff() >= 0).all())


def test_results_are_the_callers_to_keep_and_repeat_bit_for_bit(single):
    kernel = single[2]
    batch = molecule("caffeine", dtype=torch.float32)
    energies, forces = kernel(*batch)
    kept = forces.clone()
    kernel(*molecule("ala9_capped", dtype=torch.float32))
    again_energies, again = kernel(*batch)
    assert torch.equal(forces, kept)
    assert torch.equal(forces, again)
    assert torch.equal(energies, again_energies)


def test_many_threads_may_call_two_potentials(exact):
    truth, kernel = exact
    potentials = (kernel, CppPotential(make_student()))
    batches = [molecule(name) for name in NAMES[:5]]
    expected = [truth(*batch)[1] for batch in batches]
    worst = []

    def work(offset):
        for turn in range(20):
            index = (offset + turn) % len(batches)
            worst.append(relative(potentials[turn % 2](*batches[index])[1], expected[index]))

    workers = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(worst) == 80
    assert max(worst) < EXACT


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e12])
def test_positions_that_are_no_positions_are_refused_by_name(exact, value):
    batch = molecule("caffeine")
    batch.positions[7, 1] = value
    with pytest.raises(UserError, match="atom 7 is at"):
        exact[1](*batch)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("name", "pair"), [("caffeine", (3, 19)), ("ala9_capped", (0, 100))])
def test_coinciding_atoms_are_refused_by_name(exact, threads, name, pair):
    batch = molecule(name)
    batch.positions[pair[1]] = batch.positions[pair[0]]
    exact[1].threads = threads
    with pytest.raises(UserError, match=f"atoms {pair[0]} and {pair[1]} coincide"):
        exact[1](*batch)
    exact[1].threads = None
    assert_equal_to_autograd(exact, molecule(name))  # and the next call is none the worse for it


def test_other_wrong_input_is_refused(exact):
    kernel = exact[1]
    batch = molecule("water", "methane")
    with pytest.raises(UserError, match=r"atom 4 .*has the atomic number 101"):
        kernel(batch.numbers.clone().index_fill_(0, torch.tensor(4), 101), *batch[1:])
    with pytest.raises(UserError, match="batch must rise"):
        kernel(batch.numbers, batch.positions, batch.batch.flip(0))
    periodic = Batch.from_atoms([random_system(0, 5, 6.0), random_system(1, 5, 6.0)], dtype=torch.float64)
    flat = periodic.cell.clone()
    flat[1, 2] = flat[1, 0]
    with pytest.raises(UserError, match="system 1 span no volume"):
        kernel(*periodic._replace(cell=flat))
    with pytest.raises(UserError, match=r"must be torch\.float64"):
        kernel(*batch._replace(positions=batch.positions.float()))


def test_float16_is_refused():
    with pytest.raises(UserError, match="float32 or float64, not bfloat16"):
        CppPotential(make_student(torch.bfloat16))


def test_no_compiler_is_said_in_words(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler" in no_compiler()
    with pytest.raises(UserError, match=r"no C\+\+ compiler"):
        builder.build(SMALL, "float32")


def test_the_build_is_quick_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path))
    sizes = {"n_features": 128, "mlp_width": 80, "readout_width": 96, "n_blocks": 3, "n_radial": 20}
    before = os.times()
    path = builder.build(sizes, "float32")
    after = os.times()
    assert after.children_user - before.children_user < 15  # processor time: other jobs do not count
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["painn.so", "painn.so.seconds"]
    assert 0.1 < seconds_noted(path.parent) < 300, "who finds it here says what it took to make"
    stamp = path.stat().st_mtime_ns
    began = time.perf_counter()
    assert builder.build(sizes, "float32") == path
    assert time.perf_counter() - began < 1
    assert path.stat().st_mtime_ns == stamp


def test_a_compiler_that_fails_leaves_nothing_and_is_quoted(monkeypatch, tmp_path):
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho 'catastrophe in line 1' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(UserError, match="catastrophe in line 1"):
        builder.build(SMALL, "float32")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_said_in_words(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("MLFF_DISTILLER_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"cannot be written there .*; set MLFF_DISTILLER_CACHE to a folder"):
        builder.build(SMALL, "float32")


def test_a_damaged_library_is_refused_with_advice(tmp_path):
    damaged = tmp_path / "painn.so"
    damaged.write_bytes(b"not a library")
    with pytest.raises(UserError, match="run the compile stage again"):
        CppPotential(make_student(), library=damaged)


def test_a_library_for_other_weights_is_refused():
    path = builder.build(SMALL, "float32")
    with pytest.raises(
        UserError, match=r"of other sizes \(features of an atom: 16, in the weights 128\): take both from"
    ):
        CppPotential(make_student(torch.float32), library=path)
    with pytest.raises(UserError, match=r"of other sizes \(bytes of a number: 4, in the weights 8\)"):
        CppPotential(make_student(**SMALL), library=path)


@pytest.mark.parametrize("name", ["INTERFACE", "BATCH"])
def test_a_library_of_another_version_is_refused(monkeypatch, name):
    path = builder.build(SMALL, "float32")
    binding.load_library(path)
    versions = {f"mlff_{name.lower()}_version": 7}
    monkeypatch.setattr(binding, "_VERSIONS", versions)
    with pytest.raises(UserError, match=rf"mlff_{name.lower()}_version is \d, this package has 7; delete it and run"):
        binding.load_library(path)


def test_one_openmp_runtime_serves_torch_and_the_kernel(exact):
    """Two runtimes would keep two teams of spinning threads on the same cores."""
    exact[1](*molecule("caffeine"))
    maps = Path("/proc/self/maps").read_text()
    assert len({line.split()[-1] for line in maps.splitlines() if "libgomp" in line}) == 1


def test_a_liquid_box_in_float32(single):
    truth, eager, kernel = single
    box = liquid_box(load_system("water", MOLECULES), 64, seed=1)
    batch = Batch.from_atoms([box], dtype=torch.float32)
    expected = truth(*batch._replace(positions=batch.positions.double(), cell=batch.cell.double()))
    found = kernel(*batch)
    bound = 2 * (eager(*batch)[1] - expected[1]).pow(2).mean().sqrt() + 5e-6
    assert (found[1] - expected[1]).pow(2).mean().sqrt() <= bound


def test_a_fresh_process_takes_the_kernel_from_the_cache():
    code = (
        "import torch; from mlff_distiller.potentials.cpp import CppPotential;"
        "from mlff_distiller.student.painn import StudentForceField;"
        "k = CppPotential(StudentForceField()); z = torch.tensor([8, 1, 1]);"
        "x = torch.tensor([[0., 0, 0], [1, 0, 0], [0, 1, 0]]);"
        "e, f = k(z, x, torch.zeros(3, dtype=torch.int64)); assert f.isfinite().all() and f.abs().max() > 0"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "workflow")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)
