"""Which molecules the suite takes: small ones that the student has never seen."""

from collections.abc import Sequence
from itertools import count

from mlff_distiller.data.molecule_list import Molecule, benchmark_smiles, flat_smiles, split_of
from mlff_distiller.data.sampling_settings import SamplingSettings

#: In place of a split where nobody knows what the student was trained on.
UNKNOWN = "unknown"
#: The split of benchmark molecules: never trained on.
BENCHMARK = "benchmark"


def split_in(smiles: str, sampling: SamplingSettings | None) -> str:
    """``train``, ``val``, ``test``, ``benchmark`` or ``unknown``: the part of the student's data that a molecule belongs to.

    Args:
        smiles: of the molecule.
        sampling: by which the data were split; None where that is not known.
    """
    if sampling is None:
        return UNKNOWN
    if flat_smiles(smiles) in benchmark_smiles():
        return BENCHMARK
    return split_of(smiles, sampling.fractions.to_mapping(), sampling.seed)


def unseen(molecules: Sequence[Molecule], sampling: SamplingSettings | None, max_atoms: int) -> list[Molecule]:
    """The molecules of the test split of up to ``max_atoms`` atoms: small ones first, every class in turn.

    Of all molecules where the split is not known.
    """
    known = [m for m in molecules if m.n_atoms <= max_atoms and split_in(m.smiles, sampling) in ("test", UNKNOWN)]
    known.sort(key=lambda m: (m.n_atoms, m.name))
    turns: dict[str, count[int]] = {}
    turn = {m.name: next(turns.setdefault(m.family, count())) for m in known}
    return sorted(known, key=lambda m: (turn[m.name], m.n_atoms, m.name))
