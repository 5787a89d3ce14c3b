"""The benchmark molecules, and how a SMILES string becomes a geometry.

The geometries ship in ``resources/molecules``; ``python -m mlff_distiller molecules`` makes them again: conformers by
RDKit (ETKDGv3: Riniker and Landrum 2015, Wang et al. 2020) with a fixed seed, MMFF94 to rank them, and the teacher to
relax the best of them.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.teacher_settings import TeacherInput
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.files import write_text

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol


@dataclass(frozen=True)
class BenchmarkMolecule:
    """A molecule of the benchmark: its file name, its SMILES, its number of atoms (hydrogens included)."""

    name: str
    smiles: str
    n_atoms: int


#: In order of size. None is in the molecule list; which of them a student was trained on, its dataset's card says.
BENCHMARK_MOLECULES = (
    BenchmarkMolecule("water", "O", 3),
    BenchmarkMolecule("methane", "C", 5),
    BenchmarkMolecule("benzene", "c1ccccc1", 12),
    BenchmarkMolecule("caffeine", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", 24),
    BenchmarkMolecule("penicillin_g", "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O", 41),
    BenchmarkMolecule(
        "cholesterol",
        "C[C@H](CCCC(C)C)[C@H]1CC[C@@H]2[C@@]1(CC[C@H]3[C@H]2CC=C4[C@@]3(CC[C@@H](C4)O)C)C",
        74,
    ),
    BenchmarkMolecule("ala9_capped", "CC(=O)" + "N[C@@H](C)C(=O)" * 9 + "NC", 102),
)


def molecule_from_smiles(smiles: str) -> "Mol":
    """The RDKit molecule of ``smiles``, hydrogens explicit.

    Raises:
        UserError: RDKit cannot read it.
    """
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(smiles) if isinstance(smiles, str) and smiles.strip() else None
    if molecule is None:
        raise UserError(f"SMILES {smiles!r}: RDKit cannot read it; check brackets, ring numbers and valences")
    return Chem.AddHs(molecule)


def conformers(molecule: "Mol", n_conformers: int, seed: int, relax: bool = True) -> np.ndarray:
    """Conformers of ``molecule`` by ETKDGv3, by MMFF94 energy, lowest first.

    Args:
        molecule: with explicit hydrogens; its own conformers are replaced.
        n_conformers: how many to ask for; fewer may come back.
        seed: of the embedding; the same seed gives the same conformers with the same RDKit.
        relax: minimise with MMFF94 (UFF where MMFF94 lacks a parameter); otherwise only embed.

    Returns:
        Positions [n, N, 3] in A, n >= 1.

    Raises:
        UserError: no conformer could be embedded.
    """
    from rdkit.Chem import AllChem

    parameters = AllChem.ETKDGv3()
    parameters.randomSeed = seed
    parameters.numThreads = 1
    ids = list(AllChem.EmbedMultipleConfs(molecule, n_conformers, parameters))
    if not ids:
        # Cages and crowded rings: random start coordinates find what the distance-geometry eigenvectors miss.
        parameters.useRandomCoords = True
        parameters.maxIterations = 200
        ids = list(AllChem.EmbedMultipleConfs(molecule, n_conformers, parameters))
    if not ids:
        raise UserError(f"no 3D geometry found for {_smiles_of(molecule)}; give a geometry file instead")
    if relax:
        if AllChem.MMFFHasAllMoleculeParams(molecule):
            outcome = AllChem.MMFFOptimizeMoleculeConfs(molecule, numThreads=1, maxIters=500)
        else:
            outcome = AllChem.UFFOptimizeMoleculeConfs(molecule, numThreads=1, maxIters=500)
        ids = [ids[i] for i in np.argsort([energy for _, energy in outcome], kind="stable")]
    return np.stack([molecule.GetConformer(i).GetPositions() for i in ids])


def atoms_from_smiles(smiles: str, seed: int = 0, n_conformers: int = 1) -> "Atoms":
    """The lowest of ``n_conformers`` MMFF94-relaxed conformers of ``smiles`` as :class:`ase.Atoms` (positions in A)."""
    from ase import Atoms

    molecule = molecule_from_smiles(smiles)
    positions = conformers(molecule, n_conformers, seed)[0]
    return Atoms(numbers=[atom.GetAtomicNum() for atom in molecule.GetAtoms()], positions=positions)


def make_benchmark_molecule(
    molecule: BenchmarkMolecule, teacher: dict[str, Any] | None, fmax: float, seed: int, n_conformers: int
) -> "Atoms":
    """Embed, rank by MMFF94 and relax one benchmark molecule with the teacher.

    Args:
        molecule: which.
        teacher: mapping as in :func:`mlff_distiller.data.teacher.make_calculator`; None for GFN2-xTB.
        fmax: largest force component norm at the end, eV/A.
        seed: of the embedding.
        n_conformers: MMFF94-relaxed conformers to choose from.

    Returns:
        Atoms centred on the origin, with ``info`` saying name, SMILES, teacher, energy (eV) and what fmax was reached.

    Raises:
        UserError: the relaxation did not converge, or did not keep the number of atoms expected.
    """
    from ase.optimize import BFGS

    from mlff_distiller.data.teacher import make_calculator, teacher_name

    atoms = atoms_from_smiles(molecule.smiles, seed=seed, n_conformers=n_conformers)
    if len(atoms) != molecule.n_atoms:
        raise UserError(f"{molecule.name}: {len(atoms)} atoms from its SMILES, expected {molecule.n_atoms}")
    atoms.calc = make_calculator(teacher)
    if not BFGS(atoms, logfile=None).run(fmax=fmax, steps=3000):
        raise UserError(f"{molecule.name}: not relaxed to {fmax} eV/A in 3000 steps; give a larger --fmax")
    energy, reached = atoms.get_potential_energy(), float(np.linalg.norm(atoms.get_forces(), axis=1).max())
    atoms.calc = None
    atoms.positions -= atoms.get_center_of_mass()
    atoms.info = {
        "name": molecule.name,
        "smiles": molecule.smiles,
        "teacher": teacher_name(teacher),
        "teacher_energy_ev": float(energy),
        "fmax_ev_per_a": round(reached, 5),
        "conformer": f"lowest MMFF94 of {n_conformers} ETKDGv3, seed {seed}",
    }
    return atoms


def write_extxyz(path: str | Path, atoms: "Atoms") -> Path:
    """Write ``atoms`` (species, positions, info) to ``path`` as extended XYZ, atomically."""
    import io

    from ase.io import write

    stream = io.StringIO()
    write(stream, atoms, format="extxyz")
    return write_text(path, stream.getvalue())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``molecules``."""
    parser.description = "Make the benchmark geometries again: SMILES, RDKit conformers, MMFF94, teacher relaxation."
    parser.add_argument("--output", type=Path, required=True, help="directory for NAME.extxyz")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these molecules only")
    parser.add_argument("--fmax", type=float, default=0.005, help="largest force left, eV/A (default %(default)s)")
    parser.add_argument("--seed", type=int, default=2025, help="of the conformers (default %(default)s)")
    parser.add_argument("--conformers", type=int, default=20, help="to choose from (default %(default)s)")
    parser.add_argument("--settings", help="JSON text or file with a 'teacher' mapping (default: GFN2-xTB)")


def run(args: argparse.Namespace) -> int:
    """Make the geometries; 0 when all are written."""
    from mlff_distiller.utils.files import load_settings

    teacher = TeacherInput.from_mapping(load_settings(args.settings or "{}")).teacher.to_mapping()
    known = {molecule.name: molecule for molecule in BENCHMARK_MOLECULES}
    for name in args.only or known:
        if name not in known:
            raise UserError(f"--only {name}: not a benchmark molecule{nearest(name, known)}")
        atoms = make_benchmark_molecule(known[name], teacher, args.fmax, args.seed, args.conformers)
        path = write_extxyz(args.output / f"{name}.extxyz", atoms)
        print(f"{path}: {len(atoms)} atoms, {atoms.info['teacher_energy_ev']:.4f} eV", flush=True)
    return 0


def _smiles_of(molecule: "Mol") -> str:
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.RemoveHs(molecule))
