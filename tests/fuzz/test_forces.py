"""Every potential of the CPU, and the CUDA kernels emulated on it, on random systems against the network in fp64; on a
machine with a GPU its potentials instead.

``make fuzz`` runs more of them: N calls (100,000), from the SEED given. A failure prints the smallest system found and the
command that repeats it.
"""

import copy
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

from mlff_distiller.kernels.cuda.build import FORMS, unavailable
from mlff_distiller.potentials.analytic import AnalyticPotential, analytic_edge_gradient
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.potentials.base import Potential
from mlff_distiller.potentials.cpp import CppPotential
from mlff_distiller.potentials.cuda import CudaPotential
from mlff_distiller.potentials.graphed import GraphedPotential
from mlff_distiller.student import wall
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.batch import Batch
from tests.fuzz.reference import energies_and_forces
from tests.fuzz.systems import Variation, random_batch, varied

CHECKPOINT = Path(__file__).parents[2] / "resources" / "student" / "student.safetensors"
CALLS = int(os.environ.get("FUZZ_CALLS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
#: Ends after so many seconds in any case.
SECONDS = float(os.environ.get("FUZZ_SECONDS", "inf"))
#: Only this batch of the seed.
ONLY = os.environ.get("FUZZ_BATCH")
#: How often the same systems are told otherwise, turned and in another order: what is right follows at no cost.
VARIATIONS = int(os.environ.get("FUZZ_VARIATIONS", "1" if unavailable() else "31"))
#: Allowed error of forces in eV/A: this, so many times that of the network itself in float32 on the same neighbors, and
#: so much of the largest force.
FLOOR, TIMES, SHARE = 5e-4, 30.0, 1e-5
#: Where a force is larger, eV/A, atoms were pushed together and the network says anything: in float32 even the network itself
#: is off by percents, from one device to another, so nothing is compared.
ABSURD = 1e6
#: Of energies in eV; and of both in fp64.
ENERGY_FLOOR, DOUBLE = 1e-3, 1e-7
#: Emulated kernels, and whether they take a molecule in one launch.
EMULATED = {"molecule kernel": True, "neighbor-matrix kernels": False}
#: How often those whose names begin so are told the same at most: a call takes ten times as long as those of the others, or more.
TOLD = {**dict.fromkeys(EMULATED, 1), **dict.fromkeys(("graph", "eager", "torchscript", "analytic"), 4)}
#: Batches with more atoms take the emulated kernels, at 0.2 s an atom, too long.
EMULATED_ATOMS = 5


@dataclass(frozen=True)
class Truth:
    """What is right for a batch, and how far from it the network in float32 is, on neighbors counted out."""

    energies: torch.Tensor
    forces: torch.Tensor
    energy_error: float
    force_error: float
    pull: float

    def of(self, variation: Variation) -> "Truth":
        """What is right for the same systems told otherwise."""
        energies, forces = variation.energies(self.energies.numpy()), variation.forces(self.forces.numpy())
        return replace(self, energies=torch.from_numpy(energies), forces=torch.from_numpy(forces))


@pytest.fixture(scope="module")
def students() -> dict[torch.dtype, StudentForceField]:
    """The student that ships, by dtype, with walls that begin at the bonds, so that many pairs meet them."""
    shipped = load_student(CHECKPOINT)
    shipped.network.wall.copy_(wall.pair_table(wall.bond_lengths(shipped.config.max_atomic_number)))
    return {
        dtype: copy.deepcopy(shipped).to(dtype).eval().requires_grad_(False) for dtype in (torch.float32, torch.float64)
    }


@pytest.fixture(scope="module")
def potentials(request, students, tmp_path_factory) -> dict[str, Potential]:
    """What is tried, by name."""
    if unavailable() is None:
        return on_gpu(students[torch.float32])
    made: dict[str, Potential] = {}
    for dtype, student in students.items():
        name = str(dtype).removeprefix("torch.")
        program = tmp_path_factory.mktemp("torchscript") / f"{name}.pt"
        torch.jit.script(student).save(str(program))
        made |= {
            f"eager {name}": AutogradPotential(student),
            f"analytic {name}": AnalyticPotential(student),
            f"cpp {name}": CppPotential(student),
            f"torchscript {name}": AutogradPotential(student, torch.jit.load(str(program))),
        }
    folder = request.getfixturevalue("emulate")(students[torch.float32].config)
    for name, single_launch in EMULATED.items():
        made[name] = CudaPotential(
            students[torch.float32], libraries=folder, products="float32", single_launch=single_launch
        )
    return made


def on_gpu(student: StudentForceField) -> dict[str, Potential]:
    from mlff_distiller.potentials.triton import TritonPotential

    moved = copy.deepcopy(student).to("cuda")
    return {
        **{f"cuda, {form}": CudaPotential(moved, form=form) for form in FORMS if unavailable(form) is None},
        "cuda, kernels for many atoms": CudaPotential(moved, single_launch=False),
        "triton": TritonPotential(moved),
        "graph of analytic forces": GraphedPotential(moved, analytic_edge_gradient(moved)),
        "eager": AutogradPotential(moved),
    }


def truth_of(students: dict[torch.dtype, StudentForceField], systems: list[Atoms]) -> Truth:
    energies, forces, pull = energies_and_forces(students[torch.float64], systems)
    single, single_forces, _ = energies_and_forces(students[torch.float32], systems)
    return Truth(
        energies,
        forces,
        float((single - energies).abs().max()),
        float((single_forces - forces).abs().max()),
        float(pull),
    )


def fault(potential: Potential, systems: list[Atoms], truth: Truth) -> str:
    """What is wrong with the potential's answer, in words; empty when nothing is."""
    found, found_forces = (
        part.cpu() for part in potential(*Batch.from_atoms(systems, potential.device, potential.dtype))
    )
    energy = float((found - truth.energies).abs().max())
    force = float((found_forces - truth.forces).abs().max())
    largest = float(truth.forces.abs().max())
    if potential.dtype == torch.float64:
        limit = energy_limit = DOUBLE * max(1.0, 1e-2 * truth.pull)
    else:
        limit = FLOOR + TIMES * truth.force_error + SHARE * largest
        energy_limit = ENERGY_FLOOR + TIMES * truth.energy_error + SHARE * truth.pull
    if not force <= limit:
        return f"forces are off by {force:.3g} eV/A, allowed are {limit:.3g} (largest force {largest:.3g})"
    if not energy <= energy_limit:
        return f"energies are off by {energy:.3g} eV, allowed are {energy_limit:.3g}"
    return ""


def tried(name: str, systems: list[Atoms]) -> bool:
    """Whether the potential takes such systems (in the time there is)."""
    if name in ("molecule kernel", "triton") and any(atoms.pbc.any() for atoms in systems):
        return False
    return name not in EMULATED or sum(map(len, systems)) <= EMULATED_ATOMS


def at_most(name: str) -> int | None:
    """How often the potential is told the same; None: as often as it is varied."""
    return next((times for beginning, times in TOLD.items() if name.startswith(beginning)), None)


def smaller(systems: list[Atoms]) -> Iterator[list[Atoms]]:
    """The same without one system, or without one atom, or with rounder positions."""
    for k in range(len(systems)) if len(systems) > 1 else ():
        yield systems[:k] + systems[k + 1 :]
    for k, atoms in enumerate(systems):
        for i in range(len(atoms)) if len(atoms) > 1 else ():
            less = atoms.copy()
            del less[i]
            yield [*systems[:k], less, *systems[k + 1 :]]
    for digits in (1, 2, 3):
        rounder = [atoms.copy() for atoms in systems]
        for atoms in rounder:
            atoms.positions = atoms.positions.round(digits)
        if any((a.positions != b.positions).any() for a, b in zip(rounder, systems, strict=True)):
            yield rounder


def smallest(systems: list[Atoms], fails: Callable[[list[Atoms]], bool], attempts: int = 300) -> list[Atoms]:
    """What is left of ``systems`` when all is taken away without which it still ``fails``."""
    while True:
        for candidate in smaller(systems):
            attempts -= 1
            if attempts < 0:
                return systems
            if fails(candidate):
                systems = candidate
                break
        else:
            return systems


def as_extxyz(systems: list[Atoms]) -> str:
    stream = io.StringIO()
    write(stream, systems, format="extxyz", plain=False)
    return stream.getvalue()


@pytest.mark.timeout(0)
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_forces_of_random_systems_are_right(students, potentials):
    calls, number, end = 0, int(ONLY or 0), time.monotonic() + SECONDS
    while calls < CALLS and time.monotonic() < end:
        random = np.random.default_rng([SEED, number])
        systems = random_batch(random)
        truth = truth_of(students, systems)
        comparable = float(truth.forces.abs().max()) <= ABSURD
        told = [(systems, truth)] if comparable else []
        for _ in range(VARIATIONS if comparable else 0):
            variation = varied(systems, random)
            told.append((variation.systems, truth.of(variation)))
        for name, potential in potentials.items():
            for given, right in told[: at_most(name)]:
                if not tried(name, given):
                    break
                calls += 1
                # Where large forces cancel, the network's own error changes from telling to telling.
                if not fault(potential, given, right) or not fault(potential, given, truth_of(students, given)):
                    continue
                small = smallest(given, lambda some, one=potential: bool(fault(one, some, truth_of(students, some))))
                pytest.fail(
                    f"{name}: {fault(potential, given, truth_of(students, given))}; smallest: "
                    f"{fault(potential, small, truth_of(students, small))}\n{as_extxyz(small)}"
                    f"again: FUZZ_SEED={SEED} FUZZ_BATCH={number} FUZZ_VARIATIONS={VARIATIONS} pytest tests/fuzz"
                )
        number += 1
        if ONLY:
            break
    print(f"{calls} calls of {number} batches")


def test_what_is_told_otherwise_has_the_energies_and_forces_that_belong_to_it(students):
    """Of the fp64 network on neighbors counted out."""
    for seed in range(12):
        random = np.random.default_rng(seed)
        systems = random_batch(random)
        variation = varied(systems, random)
        truth, again = truth_of(students, systems).of(variation), truth_of(students, variation.systems)
        scale = max(1.0, truth.pull)
        torch.testing.assert_close(truth.energies, again.energies, rtol=0, atol=1e-9 * scale)
        torch.testing.assert_close(truth.forces, again.forces, rtol=0, atol=1e-9 * scale)


def test_a_fault_is_found_and_made_small(students):
    """A potential that drops one neighbor of bromine is told, and shown by two atoms or few more."""

    class Wrong(AutogradPotential):
        def __call__(self, numbers, positions, batch, cell=None, pbc=None):
            energies, forces = super().__call__(numbers, positions, batch, cell, pbc)
            return energies, forces + 0.01 * (numbers == 35)[:, None]

    wrong = Wrong(students[torch.float32])

    def fails(systems):
        return bool(fault(wrong, systems, truth_of(students, systems)))

    number = next(k for k in range(100) if fails(random_batch(np.random.default_rng([0, k]))))
    small = smallest(random_batch(np.random.default_rng([0, number])), fails)
    assert [atoms.get_chemical_symbols() for atoms in small] == [["Br"]]
    assert "Br" in as_extxyz(small)
