"""Small labeled datasets for tests: real molecules' shapes, labeled by a Morse potential between all pairs or by EMT."""

from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlff_distiller.data.dataset import Dataset, from_lists
from mlff_distiller.data.stress import full_stress

#: Numbers and positions (A) of water, methane and formaldehyde.
SHAPES = {
    "water": ([8, 1, 1], [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]),
    "methane": (
        [6, 1, 1, 1, 1],
        [[0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]],
    ),
    "formaldehyde": ([8, 6, 1, 1], [[0, 0, 1.21], [0, 0, 0], [0.94, 0, -0.59], [-0.94, 0, -0.59]]),
}
#: eV, the part of the energy that composition alone decides.
ATOM_ENERGIES = {1: -10.0, 6: -50.0, 8: -110.0}


def morse(numbers: np.ndarray, positions: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy (eV) and forces [N, 3] (eV/A) of Morse pairs (1 eV deep at 1.4 A, width 1/A) on top of the atoms."""
    vectors = positions[None, :, :] - positions[:, None, :]
    distances = np.linalg.norm(vectors, axis=-1) + np.eye(len(numbers)) * 1e9
    decay = np.exp(-(distances - 1.4))
    energy = 0.5 * (decay**2 - 2 * decay).sum() + sum(ATOM_ENERGIES[z] for z in numbers)
    slope = -2 * decay**2 + 2 * decay
    return float(energy), (slope[:, :, None] * vectors / distances[:, :, None]).sum(axis=1)


def morse_dataset(n: int = 60, seed: int = 0, spread: float = 0.08) -> Dataset:
    """``n`` displaced molecules, labeled; every fifth is in the split ``val``, every seventh in ``test``."""
    random = np.random.default_rng(seed)
    numbers, positions, names, splits, energies, forces = [], [], [], [], [], []
    for i in range(n):
        name = list(SHAPES)[i % len(SHAPES)]
        z, r = np.array(SHAPES[name][0]), np.array(SHAPES[name][1], dtype=float)
        r = (r + spread * random.standard_normal(r.shape)).astype(np.float32)
        energy, force = morse(z, r.astype(float))
        numbers.append(z), positions.append(r), names.append(name), energies.append(energy), forces.append(force)
        splits.append("val" if i % 5 == 0 else "test" if i % 7 == 0 else "train")
    labels = {"energies": np.array(energies), "forces": np.concatenate(forces).astype(np.float32)}
    return from_lists(numbers, positions, names, splits, ["random"] * n, **labels, teacher="Morse pairs")


def in_boxes(dataset: Dataset, length: float) -> Dataset:
    """The same configurations, each in a periodic cubic box of ``length`` A (the labels are left as they are)."""
    cells = np.tile(np.eye(3) * length, (len(dataset), 1, 1))
    return replace(dataset, cells=cells, pbc=np.ones((len(dataset), 3), dtype=bool))


def labeled(atoms: Atoms, energy: float, forces: np.ndarray) -> Atoms:
    """A copy of ``atoms`` with these labels and nothing else."""
    frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return frame


def emt_frames(n=12, energy_factor=1.0, force_factor=1.0, offset=None, names=("H2O", "CH4", "CH3OH")):
    """Successive small displacements of molecules, labeled by EMT; ``offset`` adds energies per element."""
    rng, frames = np.random.default_rng(0), []
    for name in names:
        atoms = molecule(name)
        for _ in range(n):
            atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
            atoms.calc = EMT()
            energy = atoms.get_potential_energy() + sum((offset or {}).get(z, 0.0) for z in atoms.numbers.tolist())
            frames.append(labeled(atoms, energy * energy_factor, atoms.get_forces() * force_factor))
    return frames


def emt_crystals(n: int = 12, seed: int = 0, rattle: float = 0.05, strain: float = 0.02) -> list[Atoms]:
    """Copper in strained cells of four atoms, displaced, with EMT's energy, forces and stress; the first one is as it stands."""
    rng, frames = np.random.default_rng(seed), []
    for i in range(n):
        atoms = bulk("Cu", cubic=True)
        if i:
            drawn = rng.uniform(-strain, strain, (3, 3))
            atoms.set_cell(atoms.cell.array @ (np.eye(3) + (drawn + drawn.T) / 2), scale_atoms=True)
            atoms.positions += rng.normal(0, rattle, atoms.positions.shape)
        atoms.calc = EMT()
        frame = labeled(atoms, atoms.get_potential_energy(), atoms.get_forces())
        frame.calc.results["stress"] = atoms.get_stress()
        frames.append(frame)
    return frames


def crystal_dataset(n: int = 12, **changes) -> Dataset:
    """:func:`emt_crystals` as a dataset; every fifth is in the split ``val``, every seventh in ``test``."""
    frames = emt_crystals(n, **changes)
    splits = ["val" if i % 5 == 0 else "test" if i % 7 == 0 else "train" for i in range(n)]
    labels = {
        "energies": np.array([frame.get_potential_energy() for frame in frames]),
        "forces": np.concatenate([frame.get_forces() for frame in frames]).astype(np.float32),
        "cells": np.array([frame.cell.array for frame in frames]),
        "pbc": np.ones((n, 3), dtype=bool),
        "stresses": np.array([full_stress(frame.get_stress()) for frame in frames]),
    }
    numbers, positions = [frame.numbers for frame in frames], [frame.positions for frame in frames]
    return from_lists(numbers, positions, ["Cu4"] * n, splits, ["rattled"] * n, **labels, teacher="EMT")
