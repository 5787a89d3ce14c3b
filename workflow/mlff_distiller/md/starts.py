"""From where a student's own dynamics start: molecules and clusters of its dataset, at the geometry with the lowest label."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.md.explore_settings import ExploreSettings
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: Ways of sampling whose configurations hold several molecules.
OF_SEVERAL = ("cluster", "contact", "small_molecule_cluster", "solvation", "droplet", "box")


@dataclass(frozen=True)
class Start:
    """What moves: its name in the dataset, the split it stays in, and its geometry; ``alone``: one molecule."""

    molecule: str
    split: str
    alone: bool
    atoms: "Atoms"


def choose_starts(
    dataset: Dataset, settings: ExploreSettings, learned: Collection[int] | None, seed: int
) -> tuple[list[Start], dict[str, int]]:
    """Starts from the splits ``train`` and ``val``, drawn with ``seed``, and how many of each kind were to be had.

    A molecule whose name stands in both splits is trained on, and so is none that measures. Kinds of clusters (``cluster``,
    ``droplet``, ...) take turns.

    Args:
        dataset: labeled.
        settings: how many.
        learned: atomic numbers that the student knows; None where that is unknown. Others do not start.
        seed: of the drawing.

    Raises:
        UserError: a split from which some are wanted has none.
    """
    rng = np.random.default_rng(seed)
    best = _lowest(dataset, learned)
    starts: list[Start] = []
    there: dict[str, int] = {}
    for split, share in (("train", 1.0 - settings.held_out), ("val", settings.held_out)):
        kinds: dict[str, list[int]] = {}
        for i in best[split]:
            method = dataset.methods[dataset.method[i]]
            kinds.setdefault(method if method in OF_SEVERAL else "", []).append(i)
        alone = kinds.pop("", [])
        several = [rng.permutation(kinds[kind]).tolist() for kind in sorted(kinds)]
        in_turn = [group[place] for place in range(max(map(len, several), default=0)) for group in several
                   if place < len(group)]  # fmt: skip
        wanted = {
            True: (rng.permutation(alone).tolist(), settings.molecules),
            False: (in_turn, settings.clusters),
        }
        before = len(starts)
        for is_alone, (candidates, n) in wanted.items():
            there[f"{split}: {'molecules' if is_alone else 'clusters'}"] = len(candidates)
            # At least one of what is wanted at all.
            most = max(1, round(share * n)) if n and share else 0
            for i in candidates[:most]:
                name = dataset.molecules[dataset.molecule[i]]
                starts.append(Start(name, split, is_alone, _bare(dataset.atoms(i))))
        if share and len(starts) == before:
            raise UserError(
                f"exploring: the dataset has nothing to start from in the split {split!r} (of what "
                f"{settings.molecules} molecules and {settings.clusters} clusters ask for); sample or give more "
                + ("molecules" if split == "train" else "molecules there, or set student.rounds.explore.held_out: 0")
            )
    return starts, there


def _lowest(dataset: Dataset, learned: Collection[int] | None) -> dict[str, list[int]]:
    """Of each molecule (the same name and the same atoms) the configuration of the lowest energy, by split."""
    found: dict[str, dict[tuple[int, bytes], int]] = {"train": {}, "val": {}}
    for split, lowest in found.items():
        for i in np.flatnonzero(dataset.split == dataset.splits.index(split)).tolist():
            numbers = dataset.numbers[dataset.offsets[i] : dataset.offsets[i + 1]]
            key = (int(dataset.molecule[i]), numbers.tobytes())
            known = key in lowest or learned is None or set(numbers.tolist()) <= set(learned)
            if known and (key not in lowest or dataset.energies[i] < dataset.energies[lowest[key]]):
                lowest[key] = i
    trained = {key[0] for key in found["train"]}
    measured = {key: i for key, i in found["val"].items() if key[0] not in trained}
    return {"train": list(found["train"].values()), "val": list((measured or found["val"]).values())}


def _bare(atoms: "Atoms") -> "Atoms":
    """Without labels."""
    from ase import Atoms

    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
