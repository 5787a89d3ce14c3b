"""Are the errors that a student expects those that it makes, and does it notice what it was not trained on?"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.student.last_layer import last_layer
from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.systems.batch import Batch
from mlff_distiller.training.domain import seen

if TYPE_CHECKING:
    from ase import Atoms

MEV = 1000.0
#: Groups of equally many atoms, by the error expected.
GROUPS = 8
#: Configurations that are changed into others, unlike any trained, in each way.
CHANGED = 300
#: Bonds are at most so many times the sum of the covalent radii.
BOND = 1.15


def reliability(student: StudentForceField, dataset: Dataset, wrong: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Fields of an accuracy record about the student's domain, on labels that it was not trained on.

    Args:
        student: with a domain.
        dataset: configurations.
        wrong: [T, 3] eV/A, errors of their forces.
        seed: of what is changed.

    Returns:
        ``expected_mev_per_a`` and ``found_mev_per_a``: root mean square errors of force components in :data:`GROUPS` groups
        of atoms, by the error expected; ``detection``: for each way of making a configuration unlike any trained, the area
        under the ROC curve by which the farthest atom tells it from those of ``dataset``.

    Raises:
        ValueError: the student has no domain.
    """
    domain = student.domain
    if domain is None:
        raise ValueError("a student without a domain")
    distances, inside = [], []
    for part in seen(student, dataset):
        distances.append(domain.distances(part.features, part.numbers))
        inside.append(_farthest(distances[-1], part.batch.cpu(), part.n_systems))
    errors = domain.force_errors(torch.cat(distances))
    squares = torch.from_numpy(wrong).double().square().mean(dim=1)
    parts = [part for part in torch.argsort(errors).chunk(GROUPS) if len(part)]
    known = torch.cat(inside).numpy()
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(dataset))[:CHANGED])
    detection = {}
    for name, change in CHANGES.items():
        frames = [made for i in chosen if (made := change(dataset.atoms(int(i)), rng)) is not None]
        if frames:
            detection[name] = area(known, np.concatenate(list(_outside(student, frames))))
    return {
        "expected_mev_per_a": [MEV * float(errors[part].square().mean().sqrt()) for part in parts],
        "found_mev_per_a": [MEV * float(squares[part].mean().sqrt()) for part in parts],
        "detection": detection,
    }


def area(inside: np.ndarray, outside: np.ndarray) -> float:
    """Area under the ROC curve: the chance that one of ``outside`` [m] is larger than one of ``inside`` [n], ties half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([inside, outside]))[len(inside) :]
    n, m = len(inside), len(outside)
    return float((ranks.sum() - m * (m + 1) / 2) / (n * m))


def _outside(student: StudentForceField, frames: "list[Atoms]", at_once: int = 64) -> Iterator[np.ndarray]:
    """Distance of the farthest atom of each of ``frames``, in batches."""
    assert student.domain is not None
    for first in range(0, len(frames), at_once):
        some = frames[first : first + at_once]
        inputs = Batch.from_atoms(some, student.device, student.dtype, allow=("charge", "spin"))
        distances = student.domain.distances(last_layer(student, *inputs), inputs.numbers)
        yield _farthest(distances, inputs.batch.cpu(), len(some)).numpy()


def _farthest(distances: torch.Tensor, batch: torch.Tensor, n_systems: int) -> torch.Tensor:
    return torch.zeros(n_systems, dtype=distances.dtype).scatter_reduce(0, batch, distances, "amax")


def _bond(atoms: "Atoms", rng: np.random.Generator) -> tuple[int, int] | None:
    """A bond drawn at random, the lighter atom last; None where there is none."""
    from ase.neighborlist import natural_cutoffs, neighbor_list

    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=BOND))
    if len(i) == 0:
        return None
    k = rng.integers(len(i))
    pair = sorted((int(i[k]), int(j[k])), key=lambda atom: -atoms.numbers[atom])
    return pair[0], pair[1]


def _with_bond_times(low: float, high: float) -> "Callable[[Atoms, np.random.Generator], Atoms | None]":
    def change(atoms: "Atoms", rng: np.random.Generator) -> "Atoms | None":
        bond = _bond(atoms, rng)
        if bond is None:
            return None
        fixed, moved = bond
        vector = atoms.get_distance(fixed, moved, mic=bool(atoms.pbc.any()), vector=True)
        atoms.positions[moved] += (rng.uniform(low, high) - 1.0) * vector
        return atoms

    return change


def _without_hydrogen(atoms: "Atoms", rng: np.random.Generator) -> "Atoms | None":
    hydrogens = np.flatnonzero(atoms.numbers == 1)
    if len(hydrogens) == 0 or len(atoms) == 1:
        return None
    del atoms[int(rng.choice(hydrogens))]
    return atoms


def _compressed(atoms: "Atoms", rng: np.random.Generator) -> "Atoms":
    atoms.set_cell(0.85 * atoms.cell.array)
    atoms.positions *= 0.85
    return atoms


#: Ways to make a configuration unlike any trained, by name; None where one cannot be made so.
CHANGES: "dict[str, Callable[[Atoms, np.random.Generator], Atoms | None]]" = {
    "bond pulled to 1.5 to 2.2 times its length": _with_bond_times(1.5, 2.2),
    "bond pressed to 0.70 to 0.78 of its length": _with_bond_times(0.70, 0.78),
    "radical: a hydrogen less": _without_hydrogen,
    "all distances times 0.85": _compressed,
}
