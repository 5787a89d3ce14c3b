"""The systems on which a variant is compared with the student: the molecules of the run, and what else it will be asked.

Fast code takes other paths for many atoms than for few, for batches, and for boxes, most of all where an atom sees several
images of another. A variant that is right on single molecules near their minima may be wrong there.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.systems.boxes import box_of
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.systems.stress import no_stress

if TYPE_CHECKING:
    from ase import Atoms

#: The kind of case that is one molecule of the run; the others are named by what they are.
MOLECULE = "molecule"
#: More atoms than a kernel here takes in one launch (a CUDA cluster: at most 128).
MANY_ATOMS = 130
#: Bonds of the case with stretched bonds, relative to those of the molecule.
STRETCH = 1.25
#: Between the atoms of a molecule and of its images in the small cell, along the cell's heights, A.
GAP = 2.4
#: Between neighboring atoms of the case with all elements, A.
SPACING = 2.2


@dataclass(frozen=True)
class Case:
    """Systems that are computed alike.

    Args:
        name: of the records.
        kind: :data:`MOLECULE`, or the same as the name.
        frames: each is computed in one call, as a batch of its systems.
    """

    name: str
    kind: str
    frames: "list[list[Atoms]]"

    @property
    def n_atoms(self) -> int:
        """Atoms of the largest call."""
        return max(sum(map(len, frame)) for frame in self.frames)

    @property
    def batch(self) -> int:
        """Systems of a call."""
        return len(self.frames[0])

    @property
    def has_stress(self) -> bool:
        """Whether all of its systems have a stress."""
        return not any(no_stress(box_of(atoms)) for frame in self.frames for atoms in frame)


def cases_of(
    systems: "Mapping[str, Atoms]",
    elements: Iterable[int] | None,
    cutoff: float,
    n_frames: int = 4,
    amplitude: float = 0.05,
    seed: int = 0,
) -> list[Case]:
    """All cases that a variant must pass.

    Args:
        systems: molecules (or boxes) by name.
        elements: that the student learned; None: those of ``systems``.
        cutoff: of the student, A; the larger boxes are more than twice as wide.
        n_frames: geometries of each of the ``systems``.
        amplitude: how far atoms are displaced, A.
        seed: of the displacements.
    """
    molecules = [
        Case(name, MOLECULE, [[frame] for frame in rattled(atoms, n_frames, amplitude, seed)])
        for name, atoms in systems.items()
    ]
    # Not the geometry itself, which comes first: in lattices, symmetry makes forces zero.
    rest = {
        name: [[rattled(one, 2, amplitude, seed + k)[1] for k, one in enumerate(frame)] for frame in frames]
        for name, frames in _others(list(systems.values()), elements, cutoff).items()
    }
    return molecules + [Case(name, name, frames) for name, frames in rest.items()]


def _others(systems: "list[Atoms]", elements: Iterable[int] | None, cutoff: float) -> "dict[str, list[list[Atoms]]]":
    """The frames of what is computed beside the molecules of the run, by name."""
    known = sorted(elements) if elements is not None else sorted({int(z) for atoms in systems for z in atoms.numbers})
    cell = small_cell(min(systems, key=len))
    wide = [max(1, math.ceil(2.2 * cutoff / height)) for height in _heights(cell)]
    thin = [1, *wide[1:]]
    while math.prod(thin) * len(cell) < MANY_ATOMS:
        thin[1 + (thin[1] > thin[2])] += 1
    while math.prod(wide) * len(cell) < MANY_ATOMS:
        wide[int(np.argmin(wide))] += 1
    times = -(-MANY_ATOMS // sum(map(len, systems)))
    return {
        "batch": [times * systems],
        "stretched bonds": [[stretched(atoms)] for atoms in systems],
        "all elements": [[all_elements(known)]],
        "small cell": [[cell]],
        "batch of cells": [[cell, stretched(cell), cell.repeat([1, 1, 2])]],
        "thin box": [[cell.repeat(thin)]],
        "triclinic box": [[cell.repeat(wide)]],
    }


def stretched(atoms: "Atoms") -> "Atoms":
    """A copy in which all distances are longer by a quarter, those to periodic images too."""
    atoms = atoms.copy()
    atoms.positions *= STRETCH
    atoms.set_cell(atoms.cell.array * STRETCH)
    return atoms


def all_elements(elements: "list[int]") -> "Atoms":
    """A cluster of atoms on a cubic lattice, every one of ``elements`` at least twice."""
    from ase import Atoms

    per_side = math.ceil((2 * len(elements)) ** (1 / 3))
    sites = SPACING * np.array(list(itertools.product(range(per_side), repeat=3)), dtype=float)
    numbers = np.resize(elements, len(sites))
    return Atoms(np.random.default_rng(0).permutation(numbers), sites)


def small_cell(molecule: "Atoms") -> "Atoms":
    """A molecule in a triclinic periodic cell that is hardly larger than itself."""
    from ase import Atoms

    a, b, c = np.ptp(molecule.positions, axis=0) + GAP
    # Its heights are at least those of the rectangular box.
    cell = [[a, 0.0, 0.0], [0.3 * a, b, 0.0], [0.2 * a, -0.3 * b, c]]
    return Atoms(molecule.numbers, molecule.positions, cell=cell, pbc=True)


def _heights(atoms: "Atoms") -> np.ndarray:
    """Distances between opposite faces of the cell, A [3]."""
    return 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
