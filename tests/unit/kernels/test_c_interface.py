"""What programs in C get: the calculator's numbers, its refusals in words, and weights that are whole or refused."""

import ctypes
import re
import shutil
import struct
import subprocess
import threading
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.stress import voigt_6_to_full_3x3_stress

from mlff_distiller.kernels.cpu import binding
from mlff_distiller.kernels.cpu.build import PUBLIC_HEADER
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.cpp import CppPotential, build_library, weights_of
from mlff_distiller.student.domain import Domain
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.compilers import find_compiler
from mlff_distiller.utils.errors import UserError
from tests.conftest import MOLECULES, make_student

SIZES = {"n_features": 16, "mlp_width": 16, "readout_width": 8, "n_blocks": 2}
#: All but fluorine (9) up to sulfur.
LEARNED = frozenset({1, 6, 7, 8, 15, 16})
HEADER = PUBLIC_HEADER.read_text()
CODES = {name: int(code) for name, code in re.findall(r"(?m)^  (MLFF_\w+) = (\d+)", HEADER)}


class Refused(Exception):
    """A code and its words."""


class Program:
    """What a program in C does, by ctypes: open a weights file, compute, close."""

    def __init__(self, library, weights):
        self.library = ctypes.CDLL(str(library))
        self.library.mlff_open.restype = ctypes.c_void_p
        self.library.mlff_cutoff.restype = ctypes.c_double
        self.library.mlff_exchange_bytes.restype = ctypes.c_size_t
        words = ctypes.create_string_buffer(1024)
        found = self.library.mlff_open(str(weights).encode(), words, ctypes.c_size_t(1024))
        if not found:
            raise Refused(words.value.decode())
        self.model = ctypes.c_void_p(found)

    def __del__(self):
        if hasattr(self, "model"):
            self.library.mlff_free(self.model)

    def __call__(self, atoms, forces=True, virial=True, periodic=True):
        numbers = np.array(atoms.numbers, dtype=np.int32)
        positions = np.array(atoms.positions, dtype=np.float64)
        cell, pbc = np.array(atoms.cell.array), np.array(atoms.pbc, dtype=np.intc)
        return self.evaluate(numbers, positions, cell if periodic else None, pbc if periodic else None, forces, virial)

    def uncertainty(self, atoms, of_atoms=True):
        """Errors of the energy and of forces, and how unlike what was trained on atoms are."""
        given = [
            np.array(atoms.numbers, dtype=np.int32),
            atoms.positions,
            atoms.cell.array,
            np.array(atoms.pbc, dtype=np.intc),
        ]
        found = [np.full(1, 7.0), *([np.full(len(atoms), 7.0) for _ in range(2)] if of_atoms else [None, None])]
        pointers = [None if each is None else each.ctypes.data_as(ctypes.c_void_p) for each in (*given, *found)]
        words = ctypes.create_string_buffer(b"before", 1024)
        count, size = ctypes.c_int64(len(atoms)), ctypes.c_size_t(1024)
        if code := self.library.mlff_uncertainty(self.model, count, *pointers, words, size):
            raise Refused(code, words.value.decode())
        assert words.value == b""
        return found[0][0], *found[1:]

    def evaluate(self, numbers, positions, cell, pbc, forces=True, virial=True):
        energy = np.full(1, 7.0)
        out = [np.full((len(numbers), 3), 7.0) if forces else None, np.full((3, 3), 7.0) if virial else None]
        words = ctypes.create_string_buffer(b"before", 1024)
        given = [None if each is None else each.ctypes.data_as(ctypes.c_void_p)
                 for each in (numbers, positions, cell, pbc, energy, *out)]  # fmt: skip
        code = self.library.mlff_evaluate(
            self.model, ctypes.c_int64(len(numbers)), *given, words, ctypes.c_size_t(1024)
        )
        said = words.value.decode()
        if code:
            assert all((each == 7.0).all() for each in (energy, *out) if each is not None), "results without success"
            raise Refused(code, said)
        assert said == ""
        return energy[0], *out


def make_domain():
    """Of hydrogen, carbon, nitrogen and oxygen; any numbers, but not the same for each."""
    random, size = torch.Generator().manual_seed(3), SIZES["readout_width"] + 1
    roots = torch.randn([5, size, size], generator=random, dtype=torch.float64)
    return Domain(torch.tensor([1.0, 6.0, 7.0, 8.0]).double(), roots[:4], roots[4], 0.02, 0.03, 1.3, 2.5)


@pytest.fixture(scope="module")
def students():
    """The same student in fp32 and fp64, which says what it learned."""
    made = [make_student(**SIZES).to(dtype) for dtype in (torch.float32, torch.float64)]
    for student in made:
        student.limits = replace(student.limits, elements=LEARNED)
        student.domain = make_domain()
    return dict(zip(("float32", "float64"), made, strict=True))


@pytest.fixture(scope="module")
def programs(students, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for dtype, student in students.items():
        file = folder / f"{dtype}.mlff"
        file.write_bytes(weights_of(student))
        found[dtype] = Program(build_library(student), file)
    return found


@pytest.fixture(scope="module")
def exact(students):
    """The calculator by autograd in fp64."""
    return PotentialCalculator(AutogradPotential(students["float64"]))


def molecule(name="caffeine"):
    return load_system(name, MOLECULES)


def crystal(pbc, away=0.0):
    atoms = molecule()
    atoms.set_cell([[11.5, 0.3, -0.4], [1.1, 9.5, 0.2], [-0.5, 2.0, 7.5]])
    atoms.pbc = pbc
    atoms.positions += away
    return atoms


@pytest.mark.parametrize("name", ["water", "caffeine", "ala9_capped"])
def test_molecules_equal_the_calculator(programs, exact, name):
    atoms = molecule(name)
    energy, forces, virial = programs["float64"](atoms)
    assert energy == pytest.approx(exact.get_potential_energy(atoms), abs=1e-9)
    np.testing.assert_allclose(forces, exact.get_forces(atoms), atol=1e-10)
    # The sum over pairs is that over atoms where the forces sum to zero.
    np.testing.assert_allclose(virial, atoms.positions.T @ forces, atol=1e-8)
    again = programs["float64"](atoms, periodic=False, virial=False)
    assert again[0] == energy
    assert (again[1] == forces).all()
    assert programs["float64"](atoms, forces=False, virial=False)[0] == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize("pbc", list(product((False, True), repeat=3))[1:])
def test_periodic_systems_equal_the_calculator(programs, exact, pbc):
    atoms = crystal(pbc)
    energy, forces, virial = programs["float64"](atoms)
    assert energy == pytest.approx(exact.get_potential_energy(atoms), abs=1e-9)
    np.testing.assert_allclose(forces, exact.get_forces(atoms), atol=1e-10)
    expected = voigt_6_to_full_3x3_stress(exact.get_stress(atoms)) * atoms.get_volume()
    np.testing.assert_allclose(virial, -expected, atol=1e-8)
    atoms.cell[~atoms.pbc] = 0
    for found, same in zip(programs["float64"](atoms), (energy, forces, virial), strict=True):
        np.testing.assert_allclose(found, same, atol=1e-9)


def test_without_flags_a_cell_repeats_along_all_axes(programs):
    atoms = crystal(True)
    numbers, positions = atoms.numbers.astype(np.int32), atoms.positions.copy()
    found = programs["float64"].evaluate(numbers, positions, atoms.cell.array.copy(), None)
    assert found[0] == programs["float64"](atoms)[0]
    assert found[0] != programs["float64"](molecule())[0]


@pytest.mark.parametrize("pbc", [False, True, (True, False, False), (False, True, True)])
def test_far_from_the_origin_float32_keeps_its_digits(programs, pbc):
    program = programs["float32"]
    energy, forces, virial = program(crystal(pbc))
    for away in ([3e5, -2e5, 7e4], [-1e3, 500.0, 20.0]):
        found = program(crystal(pbc, away))
        assert found[0] == pytest.approx(energy, abs=1e-3)
        np.testing.assert_allclose(found[1], forces, atol=3e-4)
        np.testing.assert_allclose(found[2], virial, atol=3e-3)
    # Atoms that drifted into other images.
    atoms = crystal(pbc)
    hops = np.random.default_rng(1).integers(-20000, 20000, (len(atoms), 3)) * atoms.pbc
    atoms.positions += hops @ atoms.cell.array
    np.testing.assert_allclose(program(atoms)[1], forces, atol=3e-4)


def test_float32_equals_the_calculator_of_the_kernel(programs, students):
    calculator = PotentialCalculator(CppPotential(students["float32"]))
    for atoms in (molecule(), crystal(True, 30.0)):
        energy, forces, _ = programs["float32"](atoms)
        assert energy == pytest.approx(calculator.get_potential_energy(atoms), abs=1e-5)
        np.testing.assert_allclose(forces, calculator.get_forces(atoms), atol=5e-6)


@pytest.mark.parametrize(
    "atoms", [molecule(), crystal((True, False, True), 40.0), Atoms("SO", [[0, 0, 0], [0, 0, 1.5]])]
)
def test_errors_to_expect_are_the_calculators(programs, exact, atoms):
    energy, forces, unlike = programs["float64"].uncertainty(atoms)
    assert energy == pytest.approx(exact.get_property("energy_uncertainty", atoms), rel=1e-9)
    np.testing.assert_allclose(forces, exact.get_property("force_uncertainties", atoms), rtol=1e-9)
    domain = make_domain()
    np.testing.assert_allclose(domain.force_scale * (unlike * domain.limit) ** domain.force_power, forces, rtol=1e-12)
    # Sulfur was learned, but has no part in what is known of errors.
    assert (np.isinf(unlike) == (atoms.numbers == 16)).all()
    assert programs["float64"].uncertainty(atoms, of_atoms=False)[0] == energy
    assert programs["float32"].uncertainty(atoms)[0] == pytest.approx(energy, rel=1e-4)


def test_weights_that_know_no_errors_say_so(students, tmp_path):
    without = make_student(**SIZES)
    file = tmp_path / "weights.mlff"
    file.write_bytes(weights_of(without))
    program = Program(build_library(without), file)
    with pytest.raises(Refused, match=r"say nothing of the errors to expect: .*learn-domain") as refused:
        program.uncertainty(molecule())
    assert refused.value.args[0] == CODES["MLFF_NO_UNCERTAINTY"]
    program(molecule())


def changed(index, value, array="positions", pbc=False):
    atoms = crystal(pbc)
    getattr(atoms, array)[index] = value
    return atoms


REFUSED = {
    "never learned": (Atoms("HF", [[0, 0, 0], [0, 0, 0.92]]), "UNKNOWN_ELEMENT", r"atom 1 .* 9, which .* it knows 1, 6, 7, 8,"),
    "no element": (Atoms("XH", [[0, 0, 0], [0, 0, 3]]), "UNKNOWN_ELEMENT", "atom 0 has the atomic number 0; known .* 1 to 100"),
    "beyond the embedding": (Atoms([101], [[0, 0, 0]]), "UNKNOWN_ELEMENT", "atom 0 has the atomic number 101"),
    "NaN": (changed((3, 1), np.nan), "BAD_POSITION", r"atom 3 is at \[.*, nan, .*\]: not a finite position"),
    "infinite, in a box": (changed((3, 1), np.inf, pbc=True), "BAD_POSITION", "atom 3 is at"),
    "far": (changed((4, 0), 2.1e4), "TOO_FAR", r"atom 4 is 2\.01e\+04 A from the center of its system"),
    "coinciding": (changed(5, crystal(False).positions[2]), "COINCIDING", "atoms 2 and 5 coincide"),
    "too close": (Atoms("OHH", [[0, 0, 0], [0, 0, 0.5], [0, 0.6, 0]]), "TOO_CLOSE", r"atoms 0 and 1 are 0\.500 A .*0\.66 A"),
    "too close to itself": (Atoms("C", cell=[0.8, 9, 9], pbc=True), "TOO_CLOSE", r"atom 0 and its periodic image are 0\.800 A"),
    "no cell": (Atoms("C", pbc=True), "BAD_CELL", "periodic along a, but the cell spans no volume"),
    "flat": (changed(2, [11.5, 0.3, -0.4], "cell", True), "BAD_CELL", "spans no volume"),
    "thin": (Atoms("C", cell=[9, 0.3, 9], pbc=True), "BAD_CELL", r"along b, .* thinner than 0\.5 A"),
    "long": (Atoms("C", cell=[9, 2e4, 9], pbc=True), "BAD_CELL", r"lattice vector b is \[0, 20000, 0\], longer"),
    "a cell of NaN": (changed((2, 1), np.nan, "cell", True), "BAD_CELL", "lattice vector c is .*nan.*: not finite"),
}  # fmt: skip


@pytest.mark.parametrize(("atoms", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_what_the_calculator_refuses_is_refused_in_words(programs, students, atoms, code, words):
    with pytest.raises(UserError):
        PotentialCalculator(CppPotential(students["float64"])).get_potential_energy(atoms)
    for program in programs.values():
        for threads in (1, 3):
            program.library.mlff_set_threads(program.model, threads)
            with pytest.raises(Refused) as refused:
                program(atoms)
            assert refused.value.args[0] == CODES[f"MLFF_{code}"]
            assert re.search(words, refused.value.args[1])
            with pytest.raises(Refused) as again:
                program.uncertainty(atoms)
            assert again.value.args == refused.value.args
        program.library.mlff_set_threads(program.model, 0)
        program(molecule())  # and the next call is none the worse for it


def test_missing_arguments_are_named(programs):
    program = programs["float64"]
    atoms = molecule()
    numbers = atoms.numbers.astype(np.int32)
    for given, word in (((numbers, None), "positions"), ((numbers[:0], atoms.positions), "no atoms")):
        with pytest.raises(Refused, match=word) as refused:
            program.evaluate(*given, None, None)
        assert refused.value.args[0] == CODES["MLFF_BAD_ARGUMENT"]
    with pytest.raises(Refused, match="periodic, but there is no cell"):
        program.evaluate(numbers, atoms.positions, None, np.array([0, 1, 0], dtype=np.intc))


def test_what_is_allowed_is_computed_as_the_calculator_does(programs, students):
    program = programs["float64"]
    close, fluoride = REFUSED["too close"][0], REFUSED["never learned"][0]
    for atoms, flag, name in ((close, "DISTANCES", "distances"), (fluoride, "ELEMENTS", "elements")):
        potential = AutogradPotential(students["float64"])
        potential.limits = replace(potential.limits, allow=(name,))
        potential.inputs.limits = potential.limits
        program.library.mlff_allow(program.model, CODES[f"MLFF_ALLOW_{flag}"])
        try:
            found = program(atoms)[1]
        finally:
            program.library.mlff_allow(program.model, 0)
        np.testing.assert_allclose(found, PotentialCalculator(potential).get_forces(atoms), rtol=1e-9, atol=1e-9)
        with pytest.raises(Refused):
            program(atoms)


def test_it_says_what_it_is(programs):
    program = programs["float64"]
    learned = [z for z in range(-2, 200) if program.library.mlff_learned(program.model, z)]
    assert learned == sorted(LEARNED)
    assert program.library.mlff_cutoff(program.model) == 5.0
    defined = {name: int(value) for name, value in re.findall(r"#define (MLFF_\w+) (\d+)", HEADER)}
    assert program.library.mlff_interface_version() == defined["MLFF_INTERFACE_VERSION"] == binding.INTERFACE_VERSION
    assert defined["MLFF_MESSAGE"] == binding.MESSAGE


def test_a_student_that_does_not_say_what_it_learned_answers_all(students, tmp_path):
    student = make_student(**SIZES)
    file = tmp_path / "weights.mlff"
    file.write_bytes(weights_of(student))
    program = Program(build_library(student), file)
    assert [z for z in range(102) if program.library.mlff_learned(program.model, z)] == list(range(1, 101))
    assert program(REFUSED["never learned"][0])[0] < 0
    assert np.isfinite(program(REFUSED["too close"][0])[1]).all()


def test_threads_of_a_program_may_share_a_model(programs):
    program = programs["float32"]
    program.library.mlff_set_threads(program.model, 1)
    systems = [molecule(), molecule("water"), crystal(True), molecule("benzene")]
    alone = [program(atoms) for atoms in systems]
    wrong = []

    def work(offset):
        for k in range(40):
            which = (k + offset) % len(systems)
            found = program(systems[which])
            if found[0] != alone[which][0] or (found[1] != alone[which][1]).any():
                wrong.append(which)

    workers = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    program.library.mlff_set_threads(program.model, 3)
    np.testing.assert_allclose(program(molecule())[1], alone[0][1], atol=1e-5)
    program.library.mlff_set_threads(program.model, 0)


class Part(ctypes.Structure):
    """mlff_part of the header."""

    Exchange = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t)
    )
    _fields_ = (
        ("n_own", ctypes.c_int64),
        ("n_ghosts", ctypes.c_int64),
        ("numbers", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("n_pairs", ctypes.c_int64),
        ("pairs", ctypes.c_void_p),
        ("vectors", ctypes.c_void_p),
        ("exchange", Exchange),
        ("context", ctypes.c_void_p),
    )


class Divided:
    """A system whose atoms belong to parts, each computed by a thread of its own as by a process.

    Args:
        program: of the library.
        atoms: of the system.
        part_of: [N] the part of each atom.
    """

    def __init__(self, program, atoms, part_of):
        self.program, self.atoms = program, atoms
        self.n_parts = max(part_of) + 1
        i, j, vectors = neighbor_list("ijD", atoms, 5.5)
        self.own = [[a for a in range(len(atoms)) if part_of[a] == part] for part in range(self.n_parts)]
        self.ghosts = [
            sorted({b for a, b in zip(i, j, strict=True) if part_of[a] == part != part_of[b]})
            for part in range(self.n_parts)
        ]
        self.calls, self.rows = [0] * self.n_parts, [None] * self.n_parts
        self.barrier = threading.Barrier(self.n_parts)
        self.given = []
        for part in range(self.n_parts):
            place = {atom: k for k, atom in enumerate(self.own[part] + self.ghosts[part])}
            pairs, kept = [], []
            for a, b, r in zip(i, j, vectors, strict=True):
                # Of own atoms once: by their order, or, of an atom and its image, by the image's direction.
                if part_of[a] == part and (part_of[b] != part or a < b or (a == b and tuple(r) > (0, 0, 0))):
                    pairs.append((place[a], place[b]))
                    kept.append(r)
            names = np.array(self.own[part] + self.ghosts[part], dtype=np.int64)
            self.given.append(
                {
                    "numbers": atoms.numbers[names].astype(np.int32),
                    "names": names + 1000,
                    "pairs": np.array(pairs, dtype=np.int32).reshape(-1, 2),
                    "vectors": np.array(kept, dtype=np.float64).reshape(-1, 3),
                }
            )

    def exchange(self, part, n_arrays, rows, sizes):
        """Ghosts get the rows of the atoms that they are."""
        self.calls[part] += 1
        self.rows[part] = [(rows[k], sizes[k]) for k in range(n_arrays)]
        assert sum(sizes[k] for k in range(n_arrays)) <= self.program.library.mlff_exchange_bytes(self.program.model)
        self.barrier.wait(60)
        for k, atom in enumerate(self.ghosts[part]):
            owner = next(p for p in range(self.n_parts) if atom in self.own[p])
            for (to, size), (start, _) in zip(self.rows[part], self.rows[owner], strict=True):
                source = start + size * self.own[owner].index(atom)
                ctypes.memmove(to + size * (len(self.own[part]) + k), source, size)
        self.barrier.wait(60)

    def compute(self, part, forces=True, virial=True, alone=False):
        """Energies, forces and virial of a part; Refused as a program sees it."""
        given = self.given[part]
        callback = Part.Exchange(lambda _, *rest: self.exchange(part, *rest))
        record = Part(
            n_own=len(self.own[part]),
            n_ghosts=len(self.ghosts[part]),
            n_pairs=len(given["pairs"]),
            exchange=Part.Exchange() if alone else callback,
            **{name: array.ctypes.data_as(ctypes.c_void_p) for name, array in given.items()},
        )
        n = len(self.own[part])
        out = [np.full(n, 7.0), np.full((n, 3), 7.0) if forces else None, np.full((3, 3), 7.0) if virial else None]
        pointers = [None if each is None else each.ctypes.data_as(ctypes.c_void_p) for each in out]
        words = ctypes.create_string_buffer(1024)
        code = self.program.library.mlff_evaluate_part(
            self.program.model, ctypes.byref(record), *pointers, words, ctypes.c_size_t(1024)
        )
        if code:
            assert all((each == 7.0).all() for each in out if each is not None), "results without success"
            raise Refused(code, words.value.decode())
        return out

    def __call__(self, **options):
        """Energies [N], forces [N, 3] and virial [3, 3] of the whole."""
        results = [None] * self.n_parts

        def work(part):
            results[part] = self.compute(part, **options)

        workers = [threading.Thread(target=work, args=(part,)) for part in range(self.n_parts)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        energies, forces = np.empty(len(self.atoms)), np.empty((len(self.atoms), 3))
        for part, (energy, force, _) in enumerate(results):
            energies[self.own[part]] = energy
            if force is not None:
                forces[self.own[part]] = force
        virials = [virial for *_, virial in results if virial is not None]
        return energies, forces, sum(virials)


def scattered(n_atoms, n_parts):
    """Parts of atoms in no order, and, of more than two, one without any."""
    parts = np.random.default_rng(3).integers(0, n_parts, n_atoms)
    if n_parts > 2:
        parts[parts == 1] = 0
    parts[-1] = n_parts - 1
    return parts.tolist()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n_parts", [1, 2, 3])
@pytest.mark.parametrize("pbc", [False, True, (True, False, True)])
def test_parts_of_a_system_add_up_to_it(programs, pbc, n_parts, threads):
    program, atoms = programs["float64"], crystal(pbc)
    whole = program(atoms)
    divided = Divided(program, atoms, scattered(len(atoms), n_parts))
    program.library.mlff_set_threads(program.model, threads)
    try:
        energies, forces, virial = divided()
        assert divided.calls == [2 * SIZES["n_blocks"] - 1] * n_parts
        without = divided(forces=False, virial=False)[0]
        assert divided.calls == [3 * SIZES["n_blocks"] - 2] * n_parts
    finally:
        program.library.mlff_set_threads(program.model, 0)
    assert energies.sum() == pytest.approx(whole[0], abs=1e-9)
    np.testing.assert_allclose(without, energies, atol=1e-9)
    np.testing.assert_allclose(forces, whole[1], atol=1e-10)
    np.testing.assert_allclose(virial, whole[2], atol=1e-9)


def test_a_part_in_a_cell_smaller_than_the_cutoff(programs):
    program = programs["float64"]
    atoms = molecule("methane")
    atoms.set_cell([[4.0, 0, 0], [0.5, 4.2, 0], [0.3, -0.2, 4.4]])
    atoms.pbc = True
    whole = program(atoms)
    for part_of in ([0] * 5, [0, 1, 0, 1, 1]):
        energies, forces, virial = Divided(program, atoms, part_of)()
        assert energies.sum() == pytest.approx(whole[0], abs=1e-9)
        np.testing.assert_allclose(forces, whole[1], atol=1e-10)
        np.testing.assert_allclose(virial, whole[2], atol=1e-9)


def alone(program, atoms=None):
    """One part that is the whole, and what is handed over, to be changed."""
    divided = Divided(
        program, molecule() if atoms is None else atoms, [0] * len(molecule() if atoms is None else atoms)
    )
    return divided, divided.given[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_what_a_part_cannot_be_is_refused_by_the_names_of_its_atoms(programs, threads):
    program = programs["float64"]
    program.library.mlff_set_threads(program.model, threads)
    cases = [
        ("numbers", (3,), 9, "UNKNOWN_ELEMENT", "atom 1003 has the atomic number 9, which the student never learned"),
        ("pairs", (5, 1), 24, "BAD_ARGUMENT", "pair 5 is of atoms .* and 24: the first must be an own atom, of 24"),
        ("pairs", (5, 0), -1, "BAD_ARGUMENT", "pair 5 is of atoms -1"),
        (
            "vectors",
            (7, 1),
            np.nan,
            "BAD_POSITION",
            r"the vector from atom 10\d\d to atom 10\d\d is \[.*nan.*not finite",
        ),
        ("vectors", 7, [0, 0, 0], "COINCIDING", r"atoms 10\d\d and 10\d\d coincide"),
        ("vectors", 7, [0.3, 0, 0], "TOO_CLOSE", r"atoms 10\d\d and 10\d\d are 0\.300 A apart"),
    ]
    try:
        for array, index, value, code, words in cases:
            divided, given = alone(program)
            given[array][index] = value
            with pytest.raises(Refused) as refused:
                divided.compute(0)
            assert refused.value.args[0] == CODES[f"MLFF_{code}"]
            assert re.search(words, refused.value.args[1])
            assert divided.calls == [0], "a call that fails exchanges nothing"
    finally:
        program.library.mlff_set_threads(program.model, 0)
    assert np.isfinite(alone(program)[0].compute(0, alone=True)[0]).all()


def test_a_part_without_names_is_told_places(programs):
    divided, given = alone(programs["float64"])
    given["numbers"][3] = 9
    del given["names"]
    with pytest.raises(Refused, match="atom 3 has the atomic number 9"):
        divided.compute(0)
    del given["numbers"]
    with pytest.raises(Refused, match="numbers is NULL") as refused:
        divided.compute(0)
    assert refused.value.args[0] == CODES["MLFF_BAD_ARGUMENT"]


def signed(contents):
    return contents[:12] + struct.pack("<I", zlib.crc32(contents[16:])) + contents[16:]


DAMAGED = {
    "empty": (lambda b: b"", "not a weights file"),
    "another file": (lambda b: b"PK\3\4" + b[4:], "not a weights file"),
    "newer": (lambda b: signed(b[:8] + struct.pack("<I", 3) + b[12:]), "weights of version 3, and this library reads 2"),
    "cut short": (lambda b: b[:-8], "damaged"),
    "more elements in the domain": (lambda b: signed(b[:56] + struct.pack("<I", 5) + b[60:]), "damaged"),
    "one bit": (lambda b: b[:5000] + bytes([b[5000] ^ 1]) + b[5001:], "damaged"),
    "longer": (lambda b: b + bytes(8), "damaged"),
    "more elements than there are": (lambda b: signed(b[:28] + struct.pack("<I", 102) + b[32:]), "damaged"),
    "other sizes": (lambda b: signed(b[:40] + struct.pack("<I", 9) + b[44:]), r"\(width of the readout: 8, in the weights 9\)"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "words"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_weights_are_refused_in_words(students, tmp_path, damage, words):
    student = students["float32"]
    whole = weights_of(student)
    assert signed(whole) == whole, "the checksum is that of the format's description"
    file = tmp_path / "weights.mlff"
    file.write_bytes(damage(whole))
    with pytest.raises(Refused, match=rf"weights\.mlff: .*{words}"):
        Program(build_library(student), file)


@pytest.mark.parametrize("name", ["nowhere.mlff", "."])
def test_weights_that_cannot_be_read(students, tmp_path, name):
    with pytest.raises(Refused, match=r"cannot be read; give the path of the weights\.mlff of a bundle"):
        Program(build_library(students["float32"]), tmp_path / name)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_is_plain(tmp_path, language):
    """In C99 and in C++, without a warning."""
    source = tmp_path / "program.c"
    source.write_text('#include "mlff.h"\nint main(void) { return mlff_interface_version() == 0 ? MLFF_OK : 1; }\n')
    compiler = [shutil.which("cc") or "gcc", "-std=c99"] if language == "c" else [*find_compiler(), "-std=c++11"]
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{PUBLIC_HEADER.parent}", "-fsyntax-only", "-x", language]
    done = subprocess.run([*compiler, *strict, str(source)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
