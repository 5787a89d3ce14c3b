"""Which molecules the student learns from: the list that ships, its growth by rule, and the split by molecule.

``resources/molecule_list.csv`` (columns name, smiles, class) is written by hand. Three rules grow it: substituents in
place of hydrogens, capped and free peptides, and recombination of BRICS fragments (Degen et al., ChemMedChem 3, 1503
(2008)). Everything is a function of the seed. The seven benchmark molecules are never in the list: not in either hand,
and not as part of a cluster. ``always_trained.py`` has those that are trained on all the same.
"""

import csv
import functools
import hashlib
import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlff_distiller.data.molecules import BENCHMARK_MOLECULES
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from rdkit.Chem import Mol

ELEMENTS = ("H", "C", "N", "O", "F", "P", "S", "Cl", "Br")

#: Groups put in place of a hydrogen on carbon; the attachment atom comes first.
SUBSTITUENTS = {
    "fluoro": "F",
    "chloro": "Cl",
    "bromo": "Br",
    "hydroxy": "O",
    "methoxy": "OC",
    "amino": "N",
    "methylamino": "NC",
    "dimethylamino": "N(C)C",
    "methyl": "C",
    "ethyl": "CC",
    "isopropyl": "C(C)C",
    "cyclopropyl": "C1CC1",
    "vinyl": "C=C",
    "ethynyl": "C#C",
    "phenyl": "c1ccccc1",
    "trifluoromethyl": "C(F)(F)F",
    "hydroxymethyl": "CO",
    "aminomethyl": "CN",
    "cyano": "C#N",
    "formyl": "C=O",
    "acetyl": "C(C)=O",
    "carboxy": "C(=O)O",
    "methoxycarbonyl": "C(=O)OC",
    "carbamoyl": "C(N)=O",
    "acetamido": "NC(C)=O",
    "nitro": "[N+](=O)[O-]",
    "sulfanyl": "S",
    "methylsulfanyl": "SC",
    "methylsulfinyl": "S(C)=O",
    "methylsulfonyl": "S(C)(=O)=O",
    "sulfamoyl": "S(N)(=O)=O",
    "phosphono": "P(=O)(O)O",
    "dimethylphosphino": "P(C)C",
    "morpholino": "N1CCOCC1",
    "pyrrolidino": "N1CCCC1",
    "imidazolyl": "N1C=CN=C1",
    "thienyl": "c1cccs1",
    "pyridyl": "c1ccccn1",
}

#: Amino acid residues from N to carbonyl C.
RESIDUES = {
    "gly": "NCC(=O)",
    "ala": "N[C@@H](C)C(=O)",
    "val": "N[C@@H](C(C)C)C(=O)",
    "leu": "N[C@@H](CC(C)C)C(=O)",
    "ile": "N[C@@H]([C@@H](C)CC)C(=O)",
    "pro": "N1CCC[C@H]1C(=O)",
    "ser": "N[C@@H](CO)C(=O)",
    "thr": "N[C@@H]([C@H](O)C)C(=O)",
    "cys": "N[C@@H](CS)C(=O)",
    "met": "N[C@@H](CCSC)C(=O)",
    "asn": "N[C@@H](CC(=O)N)C(=O)",
    "gln": "N[C@@H](CCC(=O)N)C(=O)",
    "asp": "N[C@@H](CC(=O)O)C(=O)",
    "glu": "N[C@@H](CCC(=O)O)C(=O)",
    "lys": "N[C@@H](CCCCN)C(=O)",
    "arg": "N[C@@H](CCCNC(=N)N)C(=O)",
    "his": "N[C@@H](Cc2c[nH]cn2)C(=O)",
    "phe": "N[C@@H](Cc2ccccc2)C(=O)",
    "tyr": "N[C@@H](Cc2ccc(O)cc2)C(=O)",
    "trp": "N[C@@H](Cc2c[nH]c3ccccc23)C(=O)",
    "aib": "NC(C)(C)C(=O)",
    "sar": "N(C)CC(=O)",
}
#: What closes a peptide at both ends.
CAPS = {"ace-nme": ("CC(=O)", "NC"), "formyl-nh2": ("O=C", "N"), "free": ("", "O"), "ace-ome": ("CC(=O)", "OC")}


@dataclass(frozen=True)
class Molecule:
    """A molecule of the list: name, isomeric SMILES, class, number of atoms with hydrogens."""

    name: str
    smiles: str
    family: str
    n_atoms: int


@functools.lru_cache(maxsize=1 << 17)
def flat_smiles(smiles: str) -> str:
    """Canonical SMILES without stereochemistry: the identity by which molecules are told apart and split.

    Raises:
        ValueError: RDKit cannot read ``smiles``.
    """
    from rdkit import Chem

    molecule = _parse(smiles)
    if molecule is None:
        raise ValueError(f"SMILES {smiles!r}: RDKit cannot read it")
    return Chem.MolToSmiles(molecule, isomericSmiles=False)


@functools.cache
def benchmark_smiles() -> frozenset[str]:
    """Flat SMILES of the seven benchmark molecules, which are never in the list or grown from it."""
    return frozenset(flat_smiles(molecule.smiles) for molecule in BENCHMARK_MOLECULES)


def objection(smiles: str, benchmark: bool = False) -> str:
    """Why ``smiles`` cannot stand in the list; empty when it can.

    A molecule of the list is one neutral closed-shell molecule of H, C, N, O, F, P, S, Cl, Br, and not the benchmark's unless
    ``benchmark``. Charges inside a group (nitro, azide, N-oxide) are fine as long as they cancel between bonded atoms.
    """
    molecule = _parse(smiles)
    if molecule is None:
        return "RDKit cannot read it; check brackets, ring numbers and valences"
    if "." in smiles:
        return "more than one molecule"
    if sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        return "it is charged"
    for atom in molecule.GetAtoms():
        charge = atom.GetFormalCharge()
        if not charge:
            continue
        # Beyond one more bond (azides, diazo compounds) opposite charges make a zwitterion, which folds onto itself.
        near = (b for a in atom.GetNeighbors() for b in (a, *a.GetNeighbors()))
        if not any(charge * b.GetFormalCharge() < 0 for b in near):
            return "it is a zwitterion; write the neutral form"
    if sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
        return "it has unpaired electrons"
    strange = sorted({atom.GetSymbol() for atom in molecule.GetAtoms()} - set(ELEMENTS))
    if strange:
        return f"it holds {', '.join(strange)}; elements are {', '.join(ELEMENTS)}"
    if not benchmark and flat_smiles(smiles) in benchmark_smiles():
        return "it is a benchmark molecule, and those are not in the list; `molecules.always_trained` may have it"
    return ""


def read_molecule_list(path: str | Path) -> list[Molecule]:
    """The molecules of a CSV file with columns name, smiles, class, each checked.

    Raises:
        UserError: missing file or column, or rows that cannot stay, all of them named.
    """
    return molecule_rows(path)[0]


def molecule_rows(
    path: str | Path, more_columns: Sequence[str] = (), benchmark: bool = False
) -> tuple[list[Molecule], list[dict[str, str | None]]]:
    """The molecules of a CSV file with columns name, smiles, class and ``more_columns``, each checked, and their rows.

    Args:
        path: of the file.
        more_columns: that it must have, too.
        benchmark: whether benchmark molecules may be in it.

    Raises:
        UserError: missing file or column, or rows that cannot stay, all of them named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such molecule list")
    columns = ("name", "smiles", "class", *more_columns)
    try:
        # A byte order mark, as spreadsheets write it, is no part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            lacking = set(columns) - set(reader.fieldnames or ())
            if lacking:
                raise UserError(
                    f"{path}: no column {', '.join(sorted(lacking))}; the columns are {','.join(columns)}, with commas"
                )
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None
    molecules, wrong, seen = [], [], {}
    for line, row in enumerate(rows, start=2):
        name, smiles = (row["name"] or "").strip(), (row["smiles"] or "").strip()
        reason = objection(smiles, benchmark)
        if not reason:
            molecule = _made(name, smiles, (row["class"] or "").strip())
            if molecule.smiles in seen:
                reason = f"it is the same molecule as {seen[molecule.smiles]}"
            seen.setdefault(molecule.smiles, name)
            molecules.append(molecule)
        if reason:
            wrong.append(f"line {line}, {name or '(no name)'} {smiles}: {reason}")
    if wrong:
        raise UserError(f"{path}: {len(wrong)} of {len(rows)} rows cannot stay:\n  " + "\n  ".join(wrong[:20]))
    if not molecules:
        raise UserError(f"{path}: no molecules in it")
    return molecules, rows


def grow(molecules: Sequence[Molecule], n: int, seed: int, max_atoms: int, min_atoms: int = 0) -> list[Molecule]:
    """``n`` new molecules (fewer when the rules run dry), the same for the same arguments.

    Args:
        molecules: the list to grow from.
        n: how many: about 45 % by substituents, 35 % by BRICS recombination, 20 % peptides.
        seed: of every choice.
        max_atoms: largest size, hydrogens included.
        min_atoms: smallest size.
    """
    rng = random.Random(seed)
    seen = {flat_smiles(molecule.smiles) for molecule in molecules}
    grown: list[Molecule] = []
    wanted = {"substituted": round(0.45 * n), "peptide": round(0.20 * n)}
    wanted["recombined"] = n - sum(wanted.values())
    # A stream that runs dry hands its share to the next; substitution, which never does, comes last.
    surplus = 0
    for family, stream in (
        ("peptide", _peptides(rng, max_atoms)),
        ("recombined", _recombined(molecules, rng, min_atoms)),
        ("substituted", _substituted(molecules, rng, max_atoms, min_atoms)),
    ):
        quota = wanted[family] + surplus
        for name, smiles in stream:
            if quota == 0:
                break
            # The cheapest question first: most candidates are too large.
            molecule = _made(name, smiles, family)
            if not min_atoms <= molecule.n_atoms <= max_atoms or flat_smiles(smiles) in seen or objection(smiles):
                continue
            seen.add(flat_smiles(smiles))
            grown.append(molecule)
            quota -= 1
        surplus = quota
    return grown


def split_of(smiles: str, fractions: dict[str, float], seed: int) -> str:
    """``train``, ``val`` or ``test`` for a molecule, from a hash of its flat SMILES.

    Both hands of a molecule share a split, and a longer list never moves a molecule from one split to another.

    Args:
        smiles: any SMILES of the molecule.
        fractions: of ``val`` and ``test``; the rest is ``train``.
        seed: another seed, another split.
    """
    digest = hashlib.sha256(f"{seed}:{flat_smiles(smiles)}".encode()).digest()
    draw = int.from_bytes(digest[:8], "big") / 2**64
    for split in ("test", "val"):
        draw -= fractions.get(split, 0.0)
        if draw < 0:
            return split
    return "train"


def _substituted(
    molecules: Sequence[Molecule], rng: random.Random, max_atoms: int, min_atoms: int
) -> Iterable[tuple[str, str]]:
    """One to three hydrogens on carbon replaced by groups."""
    from rdkit import Chem

    parents = [m for m in molecules if "C" in m.smiles.upper() and m.n_atoms < max_atoms]
    groups = sorted(SUBSTITUENTS)
    for _ in range(200 * max(len(parents), 1)):
        parent = rng.choice(parents)
        names, molecule = [], _parse(parent.smiles)
        while len(names) < 3 and (not names or rng.random() < (0.3 if min_atoms == 0 else 0.8)):
            sites = [a.GetIdx() for a in molecule.GetAtoms() if a.GetSymbol() == "C" and a.GetTotalNumHs() > 0]
            if not sites:
                break
            name = rng.choice(groups)
            molecule = _attach(molecule, rng.choice(sites), SUBSTITUENTS[name])
            if molecule is None:
                break
            names.append(name)
        if molecule is not None and names:
            yield "+".join([parent.name, *names]), Chem.MolToSmiles(molecule)


def _attach(molecule: "Mol", site: int, group: str) -> "Mol | None":
    from rdkit import Chem

    combined = Chem.RWMol(Chem.CombineMols(molecule, Chem.MolFromSmiles(group)))
    combined.AddBond(site, molecule.GetNumAtoms(), Chem.BondType.SINGLE)
    atom = combined.GetAtomWithIdx(site)
    if atom.GetNoImplicit():
        # Chiral and charged carbons carry their hydrogens explicitly; one has to make room.
        atom.SetNumExplicitHs(max(atom.GetNumExplicitHs() - 1, 0))
    try:
        Chem.SanitizeMol(combined)
    except Chem.MolSanitizeException:
        return None
    return combined.GetMol()


def _peptides(rng: random.Random, max_atoms: int) -> Iterable[tuple[str, str]]:
    """Chains of one residue, then of two, three and more, with every pair of caps, in random order."""
    longest = 2 + max_atoms // 20
    for length in range(1, longest + 1):
        if length <= 2:
            chains = list(itertools.product(sorted(RESIDUES), repeat=length))
        else:
            chains = [tuple(rng.choice(sorted(RESIDUES)) for _ in range(length)) for _ in range(2000)]
        capped = [(chain, cap) for chain in chains for cap in sorted(CAPS)]
        rng.shuffle(capped)
        for chain, cap in capped:
            head, tail = CAPS[cap]
            yield f"{cap}({'-'.join(chain)})", head + "".join(RESIDUES[residue] for residue in chain) + tail


def _recombined(molecules: Sequence[Molecule], rng: random.Random, min_atoms: int) -> Iterable[tuple[str, str]]:
    """Two or three BRICS fragments of the list, joined where the rules allow a bond; stereochemistry is dropped."""
    from rdkit import Chem
    from rdkit.Chem import BRICS

    found: set[str] = set()
    for molecule in molecules:
        found |= BRICS.BRICSDecompose(_parse(flat_smiles(molecule.smiles)), minFragmentSize=1)
    fragments = [_parse(smiles) for smiles in sorted(found)]
    ends = [f for f in fragments if len(_dummies(f)) == 1]
    middles = [f for f in fragments if len(_dummies(f)) == 2]
    if len(ends) < 2:
        return
    for _ in range(2000 * len(ends)):
        joined = rng.choice(ends)
        if middles and rng.random() < (0.4 if min_atoms == 0 else 0.9):
            joined = _join(joined, rng.choice(middles), rng)
        joined = joined and _join(joined, rng.choice(ends), rng)
        if joined is not None:
            yield "brics", Chem.MolToSmiles(joined)


def _join(first: "Mol", second: "Mol", rng: random.Random) -> "Mol | None":
    """Both fragments with one bond in place of two attachment points; None where no BRICS rule makes that bond."""
    from rdkit import Chem

    pairs = [(i, j) for i in _dummies(first) for j in _dummies(second)]
    i, j = rng.choice(pairs)
    labels = first.GetAtomWithIdx(i).GetIsotope(), second.GetAtomWithIdx(j).GetIsotope()
    if labels not in _brics_bonds():
        return None
    combined = Chem.RWMol(Chem.CombineMols(first, second))
    j += first.GetNumAtoms()
    ends = [combined.GetAtomWithIdx(k).GetNeighbors()[0].GetIdx() for k in (i, j)]
    combined.AddBond(*ends, Chem.BondType.DOUBLE if labels == (7, 7) else Chem.BondType.SINGLE)
    for k in sorted((i, j), reverse=True):
        combined.RemoveAtom(k)
    try:
        Chem.SanitizeMol(combined)
    except Chem.MolSanitizeException:
        return None
    return combined.GetMol()


@functools.cache
def _brics_bonds() -> frozenset[tuple[int, int]]:
    from rdkit.Chem import BRICS

    # Labels look like "4a" and "6": the letter tells apart rules for one label, the fragments carry the number alone.
    pairs = {
        (int(left.rstrip("ab")), int(right.rstrip("ab"))) for rules in BRICS.reactionDefs for left, right, _ in rules
    }
    return frozenset(pairs | {(right, left) for left, right in pairs})


def _dummies(molecule: "Mol") -> list[int]:
    return [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]


def _parse(smiles: str) -> "Mol | None":
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    return Chem.MolFromSmiles(smiles) if smiles else None


def _made(name: str, smiles: str, family: str) -> Molecule:
    from rdkit import Chem

    molecule = _parse(smiles)
    n_atoms = molecule.GetNumAtoms() + sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    return Molecule(name, Chem.MolToSmiles(molecule), family, n_atoms)
