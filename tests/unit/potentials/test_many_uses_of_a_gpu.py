"""One GPU used in turn and at once by calls of many kinds: processes, threads, copies, sizes, settings, MD."""

import copy
import hashlib
import pickle
import subprocess
import sys
import threading

import pytest
import torch

from mlff_distiller.kernels.cuda.build import unavailable
from mlff_distiller.md.device import DeviceDynamics
from mlff_distiller.potentials.analytic import analytic_edge_gradient
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cuda import CudaPotential
from mlff_distiller.potentials.edgewise import autograd_edge_gradient
from mlff_distiller.potentials.graphed import CALLS_BEFORE_CAPTURE, GRAPHS_KEPT, GraphedPotential
from mlff_distiller.potentials.triton import TritonPotential
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=unavailable() or "")
KINDS = {
    "cuda": CudaPotential,
    "cuda, kernels for many atoms": lambda student: CudaPotential(student, single_launch=False),
    "triton": TritonPotential,
    "graph of analytic forces": lambda student: GraphedPotential(student, analytic_edge_gradient(student)),
    "graph of autograd's forces": lambda student: GraphedPotential(student, autograd_edge_gradient(student)),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def on_card(student):
    return copy.deepcopy(student).to("cuda")


def chain(n_atoms, seed=0):
    """A long molecule on the card: numbers, positions, batch."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.arange(n_atoms)
    positions = torch.stack([1.3 * k, 0.8 * (k % 2), 1.1 * (k // 2 % 3)], dim=1)
    positions = positions + 0.05 * torch.randn(n_atoms, 3, generator=generator)
    numbers = torch.randint(6, 9, [n_atoms], generator=generator)
    return numbers.to("cuda"), positions.to("cuda"), torch.zeros([n_atoms], dtype=torch.int64, device="cuda")


def assert_same(forces, others):
    """But for the order in which a GPU adds what several threads give to one atom."""
    assert (forces - others).abs().max() < 2e-6 * max(1.0, float(others.abs().max()))


def digest(potential, calls):
    """Of the forces on three chains, each after so many calls."""
    seen = hashlib.sha256()
    for size in (24, 105, 300):
        given = chain(size)
        for _ in range(calls):
            forces = potential(*given)[1]
        seen.update(forces.cpu().numpy().tobytes())
    return seen.hexdigest()


IN_A_PROCESS = """
import sys
from mlff_distiller.potentials.cuda import CudaPotential
from mlff_distiller.student.checkpoint import load_student
from tests.unit.potentials.test_many_uses_of_a_gpu import digest
print(digest(CudaPotential(load_student(sys.argv[1], "cuda")), 400))
"""


def test_two_processes_at_once_get_the_bits_of_one_alone(student, on_card, tmp_path):
    """None waits for a block of the other that never starts."""
    save_student(tmp_path / "student.safetensors", student)
    alone = digest(CudaPotential(on_card), 1)
    command = [sys.executable, "-c", IN_A_PROCESS, str(tmp_path / "student.safetensors")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=240)[0].strip() for process in running] == [alone] * 2


def test_sizes_beyond_those_kept_are_right(kind, on_card):
    """Graphs that are dropped die while others are captured and replayed."""
    potential, reference = kind(on_card), AutogradPotential(on_card)
    sizes = range(4, 4 + 2 * (GRAPHS_KEPT + 10), 2)
    for _ in range(2):
        for size in sizes:
            given = chain(size, seed=size)
            for _ in range(CALLS_BEFORE_CAPTURE + 1):
                found = potential(*given)
            energies, forces = reference(*given)
            scale = max(1.0, float(forces.abs().max()))
            assert (found[1] - forces).abs().max() < 1e-4 * scale
            assert (found[0] - energies).abs().max() < 1e-3 * scale


def test_threads_capture_sizes_of_their_own_at_once(kind, on_card):
    failed = []

    def work(first):
        try:
            potential = kind(on_card)
            with torch.cuda.stream(torch.cuda.Stream()):
                for size in range(first, first + 20):
                    given = chain(size)
                    for _ in range(CALLS_BEFORE_CAPTURE + 1):
                        potential(*given)
                        torch.cuda.current_stream().synchronize()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=[first]) for first in (5, 15, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("setting", ["tf32", "autocast"])
def test_what_held_at_a_capture_does_not_stay(kind, on_card, student64, setting, monkeypatch):
    potential, given = kind(on_card), chain(40)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", setting == "tf32")
    with torch.autocast("cuda", torch.float16, enabled=setting == "autocast"):
        for _ in range(CALLS_BEFORE_CAPTURE + 1):
            potential(*given)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    numbers, positions, batch = (tensor.cpu() for tensor in given)
    forces = AutogradPotential(student64)(numbers, positions.double(), batch)[1]
    assert (potential(*given)[1].cpu() - forces).abs().max() < 2e-5 * max(1.0, float(forces.abs().max()))


def test_a_size_that_was_first_asked_for_in_float64_is_right_in_float32(kind, on_card):
    potential, (numbers, positions, batch) = kind(on_card), chain(30)
    right = kind(on_card)(numbers, positions, batch)[1].clone()
    for _ in range(CALLS_BEFORE_CAPTURE + 1):
        with pytest.raises(UserError, match=r"positions must be torch\.float32"):
            potential(numbers, positions.double(), batch)
    for _ in range(CALLS_BEFORE_CAPTURE + 1):
        assert_same(potential(numbers, positions, batch)[1], right)


def test_copies_of_what_was_captured_answer_the_same(kind, on_card):
    potential, given = kind(on_card), chain(30)
    for _ in range(CALLS_BEFORE_CAPTURE + 1):
        forces = potential(*given)[1].clone()
    for other in (copy.deepcopy(potential), pickle.loads(pickle.dumps(potential))):
        assert_same(other(*given)[1], forces)


def test_a_calculator_does_not_mind_the_default_device(kind, on_card, molecules):
    atoms, forces = molecules["caffeine"].copy(), []
    for device in (None, "cuda", "cpu"):
        try:
            torch.set_default_device(device)
            atoms.calc = PotentialCalculator(kind(on_card))
            forces.append(atoms.get_forces())
            atoms.positions[0] += 0.1
            atoms.get_forces()
            atoms.positions[0] -= 0.1
            assert abs(atoms.get_forces() - forces[0]).max() < 1e-4
        finally:
            torch.set_default_device(None)
    assert all(abs(found - forces[0]).max() < 2e-5 for found in forces)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_an_infinite_position_is_no_silent_number(kind, on_card, value):
    """Its own system is not finite, or the atom is one alone; the other system is right."""
    numbers, positions, batch = chain(30)
    batch = torch.tensor([0] * 15 + [1] * 15, device="cuda")
    potential = kind(on_card)
    right = potential(numbers, positions, batch)[1].clone()
    positions[20, 1] = value
    for _ in range(CALLS_BEFORE_CAPTURE + 1):
        energies, forces = potential(numbers, positions, batch)
        assert torch.allclose(forces[:15], right[:15], atol=1e-4)
        assert not energies[1].isfinite() or not forces[20].isfinite().all()


@pytest.mark.parametrize("n_atoms", [105, 106, 112, 120, 121])
def test_md_on_the_device_with_as_many_atoms_as_crashed(on_card, n_atoms):
    numbers, positions, batch = chain(n_atoms)
    positions *= 1.1
    masses = torch.full([n_atoms], 14.0, dtype=torch.float64, device="cuda")
    ends = []
    for potential in (CudaPotential(on_card), AutogradPotential(on_card)):
        still = torch.zeros_like(positions, dtype=torch.float64)
        dynamics = DeviceDynamics(
            potential, numbers, positions, batch, masses, timestep_fs=0.1, velocities=still, steps_per_replay=5
        )
        ends.append(list(dynamics.run(20))[-1].positions)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-4)


def test_batches_of_md_on_the_device_by_one_launch(on_card, molecules):
    """Five caffeines are 120 atoms."""
    numbers, positions, batch, *_ = Batch.from_atoms([molecules["caffeine"]] * 5, "cuda", torch.float32)
    masses = torch.as_tensor(molecules["caffeine"].get_masses(), device="cuda").repeat(5)
    dynamics = DeviceDynamics(CudaPotential(on_card), numbers, positions, batch, masses, timestep_fs=0.1)
    last = list(dynamics.run(20))[-1]
    assert last.positions.isfinite().all()
