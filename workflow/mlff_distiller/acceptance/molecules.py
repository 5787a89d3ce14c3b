"""Which molecules the suite takes: small ones that the student has never seen; and which of the others it was trained on."""

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Any

from mlff_distiller.data.always_trained import AlwaysTrained, outside_test
from mlff_distiller.data.molecule_list import Molecule, benchmark_smiles, flat_smiles, split_of
from mlff_distiller.data.sampling_settings import SamplingSettings

#: In place of a split where nobody knows what the student was trained on.
UNKNOWN = "unknown"
#: The split of benchmark molecules that are not trained on.
BENCHMARK = "benchmark"


def split_in(smiles: str, sampling: SamplingSettings | None, trained: Collection[str] = ()) -> str:
    """``train``, ``val``, ``test``, ``benchmark`` or ``unknown``: the part of the student's data that a molecule belongs to.

    Args:
        smiles: of the molecule.
        sampling: by which the data were split; None where that is not known.
        trained: flat SMILES of molecules that were trained on whatever the split (:func:`trained_on`).
    """
    if flat_smiles(smiles) in trained:
        return "train"
    if sampling is None:
        return UNKNOWN
    if flat_smiles(smiles) in benchmark_smiles():
        return BENCHMARK
    return split_of(smiles, sampling.fractions.to_mapping(), sampling.splits_by)


def trained_on(
    always: Sequence[AlwaysTrained], sampling: SamplingSettings | None, card: Mapping[str, Any] | None
) -> frozenset[str]:
    """Flat SMILES of the molecules that the student was trained on whatever their split.

    Args:
        always: those that ``coverage`` trains on.
        sampling: of this run; None where the labels are somebody's own.
        card: of the dataset that a given checkpoint was trained on; None without one.
    """
    made = (card or {}).get("sampling")
    recipes = [sampling, SamplingSettings.from_mapping(made["settings"]) if made else None]
    found = set((card or {}).get("by_split", {}).get("benchmark", {}).get("also_trained_on") or ())
    for recipe in recipes:
        if recipe is not None and recipe.coverage.wanted and "train" in recipe.splits:
            taken, _ = outside_test(always, recipe.fractions.to_mapping(), recipe.splits_by)
            found |= {entry.molecule.smiles for entry in taken}
    return frozenset(map(flat_smiles, found))


def unseen(molecules: Sequence[Molecule], sampling: SamplingSettings | None, max_atoms: int) -> list[Molecule]:
    """The molecules of the test split of up to ``max_atoms`` atoms: small ones first, every class in turn.

    Of all molecules where the split is not known.
    """
    known = [m for m in molecules if m.n_atoms <= max_atoms and split_in(m.smiles, sampling) in ("test", UNKNOWN)]
    known.sort(key=lambda m: (m.n_atoms, m.name))
    turns: dict[str, count[int]] = {}
    turn = {m.name: next(turns.setdefault(m.family, count())) for m in known}
    return sorted(known, key=lambda m: (turn[m.name], m.n_atoms, m.name))
