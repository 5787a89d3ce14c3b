"""What a reader of an own dataset's card should know of its split: geometries in two parts, isomers taken for one molecule."""

import hashlib
from collections import Counter

import numpy as np

from mlff_distiller.data.dataset import Dataset

#: Frames of a formula whose bonds are looked at.
_ENOUGH = 200


def notes_on_split(dataset: Dataset) -> list[str]:
    """Sentences for card and screen; none where there is nothing to say."""
    return [*_shared_geometries(dataset), *_isomers(dataset), *_names_of_single_frames(dataset)]


def _shared_geometries(dataset: Dataset) -> list[str]:
    """Geometries (elements and positions to 1e-3 A, wherever they lie) that stand in more than one split."""
    found: dict[bytes, set[int]] = {}
    frames: Counter[bytes] = Counter()
    for i in range(len(dataset)):
        rows = slice(dataset.offsets[i], dataset.offsets[i + 1])
        positions = dataset.positions[rows].astype(np.float64)
        key = dataset.numbers[rows].tobytes() + np.round((positions - positions[:1]) / 1e-3).astype(np.int64).tobytes()
        if dataset.cells is not None:
            key += np.round(dataset.cells[i] / 1e-3).astype(np.int64).tobytes()
        found.setdefault(key, set()).add(int(dataset.split[i]))
        frames[key] += 1
    notes = []
    if repeated := sum(n - 1 for n in frames.values()):
        notes.append(f"{repeated} of {len(dataset)} frames repeat the geometry of another")
    pairs = Counter(tuple(sorted(splits)) for splits in found.values() if len(splits) > 1)
    for splits, n in sorted(pairs.items()):
        names = " and in ".join(dataset.splits[k] for k in splits)
        notes.append(f"{n} geometries are in {names}: errors there are too small; drop the copies")
    return notes


def _isomers(dataset: Dataset) -> list[str]:
    """Formulas under which there are molecules with other bonds."""
    notes = []
    for row, name in enumerate(dataset.molecules):
        members = np.flatnonzero(dataset.molecule == row)
        if len(members) < 2:
            continue
        frames = [dataset.atoms(i) for i in members[:: max(1, len(members) // _ENOUGH)]]
        if name != frames[0].get_chemical_formula() or any(frame.pbc.any() for frame in frames):
            continue
        patterns = {bond_pattern(frame.numbers, frame.positions) for frame in frames}
        if len(patterns) > 1:
            notes.append(
                f"{name}: molecules with {len(patterns)} patterns of bonds share this formula and are taken for one, all in "
                "one split; give the frames smiles= or name= in the info line to tell isomers apart"
            )
    return notes


def bond_pattern(numbers: np.ndarray, positions: np.ndarray) -> str:
    """The elements around each atom, and around these, whatever the order of the atoms: the same for the same molecule.

    Args:
        numbers: [N] atomic numbers.
        positions: [N, 3] in A; atoms closer than 1.3 times the sum of their covalent radii are bonded.
    """
    from ase.data import covalent_radii

    radii = covalent_radii[numbers]
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    bonded = (distance < 1.3 * (radii[:, None] + radii[None])) & ~np.eye(len(numbers), dtype=bool)
    colors = [str(z) for z in numbers.tolist()]
    for _ in range(4):
        around = ["-".join(sorted(colors[j] for j in np.flatnonzero(row))) for row in bonded]
        colors = [_digest(f"{own}:{others}") for own, others in zip(colors, around, strict=True)]
    return _digest(" ".join(sorted(colors)))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _names_of_single_frames(dataset: Dataset) -> list[str]:
    """Whether each frame has a name of its own, so that a split by molecule is one by frame."""
    names, frames = len(dataset.molecules), len(dataset)
    formulas = {dataset.numbers[dataset.offsets[i] : dataset.offsets[i + 1]].tobytes() for i in range(frames)}
    if names < frames or frames < 10 or len(formulas) > frames // 5:
        return []
    return [
        f"each of {frames} frames has a name of its own, and only {len(formulas)} sets of atoms are among them: frames of one "
        "molecule may be in several splits; name the molecule in name= or smiles="
    ]
