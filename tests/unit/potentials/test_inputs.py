"""What every potential refuses, in the same words; and that nothing a caller sets around a call changes an answer."""

import copy
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.checks import InputCheck
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.potentials.edgewise import EdgewisePotential, autograd_edge_gradient
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.systems.batch import Batch
from mlff_distiller.utils.errors import UserError

HAS_COMPILER = shutil.which("g++") is not None
NAMES = [
    "eager",
    "edgewise",
    "analytic",
    "graphed",
    "graphed autograd",
    "triton",
    *(["cpp", "cuda"] if HAS_COMPILER else []),
]
#: Those that compute here: Triton's kernels have an interpreter of their own (test_triton_kernels.py).
COMPUTING = [name for name in NAMES if name != "triton"]


@pytest.fixture
def make(request, student):
    """Potentials by name, float32, on the CPU."""

    def made(name):
        if name == "eager":
            return AutogradPotential(student)
        if name == "edgewise":
            return EdgewisePotential(student, autograd_edge_gradient(student))
        if name == "analytic":
            return AnalyticPotential(student)
        if name == "graphed":
            return GraphedPotential(student, analytic_edge_gradient(student))
        if name == "graphed autograd":
            return GraphedPotential(student, autograd_edge_gradient(student))
        if name == "cpp":
            return CppPotential(student)
        if name == "triton":
            pytest.importorskip("triton")
            from mlff_distiller.potentials.triton import TritonPotential

            return TritonPotential(student)
        from mlff_distiller.potentials.cuda import CudaPotential

        libraries = request.getfixturevalue("emulated")["neighbor_matrix"].parent
        # Emulating a launch takes as long as it has threads: the kernels for many atoms have fewer.
        return CudaPotential(student, libraries=libraries, products="float32", single_launch=False)

    return made


def two_systems(periodic=True):
    """Two systems of three atoms in boxes, float32."""
    place = torch.tensor([[0.0, 0.0, 0.1], [0.0, 0.8, -0.5], [0.0, -0.8, -0.5]])
    cell = 9.0 * torch.eye(3).repeat(2, 1, 1)
    boxes = (cell, torch.ones([2, 3], dtype=torch.bool)) if periodic else (None, None)
    return Batch(torch.tensor([8, 1, 1] * 2), place.repeat(2, 1), torch.tensor([0, 0, 0, 1, 1, 1]), *boxes)


def changed(field, index, value):
    def change(batch):
        tensor = getattr(batch, field).clone()
        tensor[index] = value
        return batch._replace(**{field: tensor})

    return change


REFUSED = {
    "cell of inf": (changed("cell", (1, 0, 0), torch.inf), r"the cell of system 1 is .*inf.*: not finite"),
    "cell with a NaN": (changed("cell", (1, 2, 1), torch.nan), r"the cell of system 1 is .*nan.*: not finite"),
    "cell of NaN": (changed("cell", 0, torch.nan), "the cell of system 0 is .*: not finite"),
    "cell without volume": (lambda b: b._replace(cell=b.cell * torch.tensor([1, 1, 0.0])), "system 0 span no volume"),
    "flat cell": (changed("cell", (1, 2), torch.tensor([9.0, 9.0, 1e-6])), "system 1 span no volume"),
    "cell of 0.05 A": (
        lambda b: b._replace(cell=b.cell * 0.05 / 9),
        "or a cell too flat or too small for the cutoff of 5 A",
    ),
    "cell of 1e30 A": (changed("cell", (0, 0, 0), 1e30), r"system 0 has lattice vectors of \[1e\+30, 9\.0, 9\.0\] A"),
    "number 0": (
        changed("numbers", 4, 0),
        r"atom 4 \(atom 1 of system 1 in the batch\) has the atomic number 0; known elements are",
    ),
    "number -1": (changed("numbers", 4, -1), r"atom 4 .*has the atomic number -1; known elements are 1 \(H\) to 100"),
    "number 101": (changed("numbers", 0, 101), r"atom 0 .*has the atomic number 101; known elements are"),
    "number 100000": (changed("numbers", 0, 100000), "atom 0 .*has the atomic number 100000; "),
    "batch up and down": (changed("batch", 1, 1), "batch must rise from 0 .*; atom 2 breaks that"),
    "batch below 0": (changed("batch", 0, -1), "batch must rise from 0 .*; atom 0 breaks that"),
    "one cell for two": (
        lambda b: b._replace(cell=b.cell[:1], pbc=b.pbc[:1]),
        "batch must rise .*; atom 3 breaks that",
    ),
    "short batch": (lambda b: b._replace(batch=b.batch[:5]), r"numbers must be of shape \[5\], not \[6\]"),
    "positions of one atom": (
        lambda b: b._replace(positions=b.positions[:1]),
        r"positions must be of shape \[6, 3\], not \[1, 3\]",
    ),
    "one position": (lambda b: b._replace(positions=b.positions[0]), r"positions must be of shape \[6, 3\], not \[3\]"),
    "positions in double": (
        lambda b: b._replace(positions=b.positions.double()),
        "positions must be torch.float32 on cpu, not torch.float64",
    ),
    "cell in double": (
        lambda b: b._replace(cell=b.cell.double()),
        "cell must be torch.float32 on cpu, not torch.float64",
    ),
    "numbers in 32 bits": (
        lambda b: b._replace(numbers=b.numbers.int()),
        "numbers must be torch.int64 on cpu, not torch.int32",
    ),
    "pbc in numbers": (lambda b: b._replace(pbc=b.pbc.long()), "pbc must be torch.bool on cpu"),
    "cell of one system": (lambda b: b._replace(cell=b.cell[0]), r"cell must be of shape \[3, 3, 3\], not \[3, 3\]"),
    "pbc of one system": (lambda b: b._replace(pbc=b.pbc[0]), r"pbc must be of shape"),
    "no cell": (lambda b: b._replace(cell=None), "there is no cell; give the lattice vectors"),
    "no atoms": (lambda b: Batch(*(part[:0] for part in b)), "no atoms: there is nothing to compute"),
    "far system": (lambda b: changed("batch", 5, 10**12)(b)._replace(cell=None, pbc=None), "atom 5 breaks that"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_the_same_words_by_all(make, case):
    change, words = REFUSED[case]
    found = set()
    for name in NAMES:
        potential = make(name)
        for call in (potential, potential.energy):
            with pytest.raises(UserError, match=words) as error:
                call(*change(two_systems()))
            found.add(str(error.value))
    assert len(found) == 1


@pytest.mark.parametrize("name", COMPUTING)
def test_right_again_after_what_was_refused(make, name):
    potential, batch = make(name), two_systems()
    energies, forces = potential(*batch)
    batch.cell[1, 0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        potential(*batch)
    batch.cell[1, 0, 0] = 9.0
    batch.numbers[3] = 0
    with pytest.raises(UserError, match="atomic number"):
        potential(*batch)
    batch.numbers[3] = 8
    again = potential(*batch)
    torch.testing.assert_close(again[0], energies)
    torch.testing.assert_close(again[1], forces)


def test_looks_once_at_what_stays_the_same(student, monkeypatch):
    check, batch, looks = InputCheck(student), two_systems(), []
    for name in ("_topology", "_cells"):
        original = getattr(InputCheck, name)
        monkeypatch.setattr(
            InputCheck,
            name,
            lambda self, *given, name=name, original=original: looks.append(name) or original(self, *given),
        )
    first = check(*batch)
    assert looks == ["_topology", "_cells"]
    assert check(*batch._replace(positions=batch.positions + 1)) == first
    assert len(looks) == 2
    batch.cell.mul_(1.1)
    assert check(*batch).topology is first.topology
    assert looks[2:] == ["_cells"]
    batch.numbers[0] = 16
    assert check(*batch).topology is not first.topology
    assert looks[3:] == ["_topology"]
    with torch.inference_mode():
        uncounted = Batch(*(tensor.clone() for tensor in batch))
        check(*uncounted)
        uncounted.numbers[0] = 0
        with pytest.raises(UserError, match=r"atom 0 .*has the atomic number 0"):
            check(*uncounted)


WRITTEN_UNSEEN = {
    "data": lambda tensor, place, value: tensor.data.__setitem__(place, value),
    "numpy": lambda tensor, place, value: tensor.numpy().__setitem__(place, value),
    "dlpack": lambda tensor, place, value: torch.from_dlpack(tensor).__setitem__(place, value),
}


@pytest.mark.parametrize("write", WRITTEN_UNSEEN.values(), ids=WRITTEN_UNSEEN)
@pytest.mark.parametrize("name", COMPUTING)
def test_a_new_tensor_is_looked_at_after_a_write_that_torch_does_not_see(make, name, write):
    potential, batch = make(name), two_systems()
    potential(*batch)
    versions = [tensor._version for tensor in batch]
    # A view of the same memory is a new tensor, too.
    for field, place, value, anew in (
        ("numbers", 0, 16, torch.Tensor.detach),
        ("numbers", 3, 7, torch.Tensor.clone),
        ("cell", (1, 0, 0), 3.0, torch.Tensor.detach),
        ("cell", (0, 1, 1), 4.0, torch.Tensor.clone),
    ):
        write(getattr(batch, field), place, value)
        batch = batch._replace(**{field: anew(getattr(batch, field))})
        found, wanted = potential(*batch), make("eager")(*batch)
        torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-3)
        torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-4)
    assert [tensor._version for tensor in batch] == versions
    write(batch.numbers, 4, 0)
    with pytest.raises(UserError, match=r"atom 4 .*has the atomic number 0"):
        potential(*batch._replace(numbers=batch.numbers.clone()))


def test_a_singular_cell_of_a_molecule_does_not_matter(make, student64):
    """Only systems that repeat need a cell, and only along the axes that do."""
    batch = two_systems()
    batch.cell[1] = 0.0
    batch.pbc[1] = False
    batch.cell[0, 2] = 0.0
    batch.pbc[0, 2] = False
    wanted = AutogradPotential(student64)(*batch._replace(positions=batch.positions.double(), cell=batch.cell.double()))
    for name in COMPUTING:
        found = make(name)(*batch)
        assert (found[0] - wanted[0]).abs().max() < 1e-3
        assert (found[1] - wanted[1]).abs().max() < 1e-4


@pytest.mark.parametrize("name", COMPUTING)
def test_empty_systems_have_an_energy_of_zero(make, name, molecules):
    from ase import Atoms

    systems = [molecules["water"], Atoms(), molecules["methane"], Atoms()]
    potential = make(name)
    full = potential(*Batch.from_atoms(systems[::2]))
    energies, forces = potential(*Batch.from_atoms(systems))
    assert energies[[1, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(energies[[0, 2]], full[0])
    torch.testing.assert_close(forces, full[1])
    boxes = two_systems()
    wanted = potential(*boxes)
    spread = [torch.cat([part, part])[[0, 0, 1, 1]] for part in (boxes.cell, boxes.pbc)]
    found = potential(*boxes._replace(batch=boxes.batch * 2, cell=spread[0], pbc=spread[1]))
    assert found[0][[1, 3]].tolist() == [0.0, 0.0]
    torch.testing.assert_close(found[0][[0, 2]], wanted[0])
    torch.testing.assert_close(found[1], wanted[1])
    with pytest.raises(UserError, match="no atoms"):
        Batch.from_atoms([Atoms()])


@pytest.fixture
def around():
    """What a caller may set around a call, by name; put back afterwards."""

    class InDouble:
        def __enter__(self):
            torch.set_default_dtype(torch.float64)

        def __exit__(self, *error):
            torch.set_default_dtype(torch.float32)

    class Elsewhere:
        def __enter__(self):
            torch.set_default_device("meta")

        def __exit__(self, *error):
            torch.set_default_device(None)

    return {
        "double": InDouble,
        "device": Elsewhere,
        "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
    }


@pytest.mark.parametrize("setting", ["double", "device", "autocast", "no_grad", "inference"])
@pytest.mark.parametrize("name", COMPUTING)
def test_no_setting_of_the_caller_changes_an_answer(make, around, name, setting):
    """Whether it holds at the first call, which makes the buffers, or at a later one; for molecules and for boxes."""
    for periodic in (False, True):
        batch = two_systems(periodic)
        energies, forces = make(name)(*batch)
        late = make(name)
        late(*batch)
        with around[setting]():
            early = make(name)
        for potential in (late, early):
            with around[setting]():
                inside = potential(*batch)
                only = potential.energy(*batch)
            outside = potential(*batch)
            for found in (inside, outside):
                assert found[0].dtype == torch.float64
                assert found[1].dtype == torch.float32
                torch.testing.assert_close(found[0], energies, rtol=0, atol=5e-5)
                torch.testing.assert_close(found[1], forces, rtol=0, atol=1e-6)
            torch.testing.assert_close(only, energies, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    "name", ["eager", "edgewise", "analytic", "graphed", *(["cpp", "cuda"] if HAS_COMPILER else [])]
)
@pytest.mark.parametrize("setting", ["no_grad", "inference", "autocast"])
def test_stress_under_settings_of_the_caller(make, around, name, setting):
    potential, batch = make(name), two_systems()
    wanted = potential.with_stress(*batch)
    with around[setting]():
        found = potential.with_stress(*(part.clone() for part in batch))
    for part, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(part, right, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", COMPUTING)
def test_inputs_made_in_inference_mode(make, name):
    potential, batch = make(name), two_systems()
    energies, forces = potential(*batch)
    with torch.inference_mode():
        uncounted = Batch(*(part.clone() for part in batch))
    found = potential(*uncounted)
    torch.testing.assert_close(found[0], energies)
    torch.testing.assert_close(found[1], forces)


@pytest.mark.parametrize("name", NAMES)
def test_copies(make, name, molecules):
    """A copy, through pickle too, gives the same bits and shares nothing that a call writes."""
    potential, batch = make(name), two_systems(periodic=False)
    if name != "triton":
        wanted = potential(*batch)
    for other in (copy.deepcopy(potential), pickle.loads(pickle.dumps(potential)), copy.deepcopy(make(name))):
        assert type(other) is type(potential)
        assert other.cutoff == potential.cutoff
        if name != "triton":
            found = other(*batch)
            assert torch.equal(found[0], wanted[0])
            assert torch.equal(found[1], wanted[1])
    if name != "triton":
        atoms = molecules["water"].copy()
        atoms.calc = StudentCalculator(potential)
        energy = atoms.get_potential_energy()
        twin = copy.deepcopy(atoms)
        twin.positions[0, 0] += 0.1
        assert twin.get_potential_energy() != energy
        assert atoms.get_potential_energy() == energy


FORKING = """
import multiprocessing, torch
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.student.painn import StudentForceField
torch.set_num_threads(2)
torch.manual_seed(0)
potential = CppPotential(StudentForceField().requires_grad_(False), threads=2)
torch.manual_seed(1)
numbers, batch = torch.randint(1, 9, [60]), torch.zeros(60, dtype=torch.int64)
small = torch.arange(60) // 2
positions = torch.randn(60, 3) * 4
def work(_):
    return [part.tolist() for way in (batch, small) for part in potential(numbers, positions, way)]
before = work(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(work, range(4))
for one in found:
    for a, b in zip(one, before):
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=1e-4)
print("all there")
"""


@pytest.mark.skipif(not HAS_COMPILER, reason="needs g++")
def test_a_forked_process_does_not_wait_for_threads_that_it_has_not(tmp_path):
    script = tmp_path / "forking.py"
    script.write_text(FORKING)
    environment = {"PYTHONPATH": str(Path(__file__).parents[3] / "workflow")}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    assert done.stdout.strip() == "all there", done.stderr[-2000:]


def test_potentials_say_whether_they_compute_a_stress():
    from mlff_distiller.potentials.cuda import CudaPotential
    from mlff_distiller.potentials.graphed import GraphedPotential
    from mlff_distiller.potentials.triton import TritonPotential

    classes = (AutogradPotential, AnalyticPotential, CppPotential, CudaPotential, GraphedPotential, TritonPotential)
    # Without a GPU they cannot be made, and what they say depends on the class alone.
    assert [kind.__name__ for kind in classes if not object.__new__(kind).has_stress] == ["TritonPotential"]
