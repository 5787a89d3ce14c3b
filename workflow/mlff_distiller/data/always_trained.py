"""Molecules that are always trained on: small ones that no other resembles, and those of common liquids.

``resources/always_trained.csv`` (columns name, smiles, class, density_g_cm3) is written by hand. The density is that of the
liquid at 298 K, or where it boils; it is left open for what is no liquid here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlff_distiller.data.molecule_list import Molecule, benchmark_smiles, flat_smiles, molecule_rows, split_of
from mlff_distiller.utils.errors import UserError, nearest


@dataclass(frozen=True)
class AlwaysTrained:
    """One of the molecules, and the density of its liquid in g/cm3 (None: no liquid)."""

    molecule: Molecule
    density: float | None


def read_always_trained(path: str | Path) -> list[AlwaysTrained]:
    """The molecules of a CSV file with columns name, smiles, class, density_g_cm3, each checked.

    Neutral closed-shell molecules of the nine elements, as in the molecule list, and benchmark molecules, too.

    Raises:
        UserError: missing file or column, or rows that cannot stay, all of them named.
    """
    molecules, rows = molecule_rows(path, ("density_g_cm3",), benchmark=True)
    wrong, densities = [], []
    for molecule, row in zip(molecules, rows, strict=True):
        given = (row["density_g_cm3"] or "").strip()
        density = _number(given)
        if given and (density is None or not 0 < density < 30):
            wrong.append(f"{molecule.name}: density_g_cm3 is {given!r}, expected a number of g/cm3 or nothing")
        densities.append(density)
    if wrong:
        raise UserError(f"{path}: {len(wrong)} of {len(rows)} rows cannot stay:\n  " + "\n  ".join(wrong[:20]))
    return [AlwaysTrained(molecule, density) for molecule, density in zip(molecules, densities, strict=True)]


def outside_test(
    always: Sequence[AlwaysTrained], fractions: dict[str, float], seed: int
) -> tuple[list[AlwaysTrained], list[str]]:
    """Those that may be trained on, and the names of those that may not: they are in ``test`` (:func:`split_of`).

    Benchmark molecules are never in ``test``, so they may.
    """
    taken, left_out = [], []
    for entry in always:
        smiles = entry.molecule.smiles
        held_out = split_of(smiles, fractions, seed) == "test" and flat_smiles(smiles) not in benchmark_smiles()
        left_out.append(entry.molecule.name) if held_out else taken.append(entry)
    return taken, left_out


def by_name(
    always: Sequence[AlwaysTrained], names: Sequence[str], left_out: Sequence[str], key: str
) -> list[AlwaysTrained]:
    """The molecules that ``names`` name; those among ``left_out`` are passed over.

    Raises:
        UserError: a name that is not in the file, or a name of ``key`` with none left.
    """
    known = {entry.molecule.name: entry for entry in always}
    for name in names:
        if name not in known and name not in left_out:
            raise UserError(f"{key}: {name!r} is not in molecules.always_trained{nearest(name, known)}")
    return [known[name] for name in names if name in known]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
