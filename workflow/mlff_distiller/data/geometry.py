"""Cheap new geometries of one molecule: vibrations, stretched bonds, turned torsions, and molecules put together.

The teacher is not needed. Vibrations follow the harmonic modes of a classical force field (MMFF94, else UFF), so
that stiff bonds move little and soft modes far, as in a thermal ensemble; the teacher only labels the result.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.molecules import conformers, molecule_from_smiles
from mlff_distiller.systems.units import BOLTZMANN
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol

KCAL = 0.0433641153  # eV per kcal/mol
#: eV/(A^2 amu) of a mode of 150 cm^-1. Softer modes are anharmonic: treated as this stiff, torsions do the rest.
SOFTEST = 150.0**2 * (2 * np.pi * 2.99792458e10) ** 2 * 1.66053907e-27 / 16.02176634
#: van der Waals radii in A (Bondi 1964).
RADII = {1: 1.10, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 15: 1.80, 16: 1.80, 17: 1.75, 35: 1.85}


@dataclass
class Shape:
    """One molecule with its bonds and one or more conformers to start from.

    Attributes:
        smiles: isomeric SMILES.
        numbers: [N] atomic numbers.
        masses: [N] amu.
        starts: [c, N, 3] A, conformers, best first.
        mol: the RDKit molecule with hydrogens.
        bonds: [b, 2] atom indices of every bond.
        open_bonds: bonds whose breaking parts the molecule in two, as (i, j, atoms on j's side [N] bool).
        torsions: the open bonds that are single, with neighbors on both sides.
    """

    smiles: str
    numbers: np.ndarray
    masses: np.ndarray
    starts: np.ndarray
    mol: "Mol"
    bonds: np.ndarray
    open_bonds: list[tuple[int, int, np.ndarray]]
    torsions: list[tuple[int, int, np.ndarray]]


def make_shape(smiles: str, n_conformers: int, seed: int) -> Shape:
    """Embed ``smiles`` in ``n_conformers`` MMFF94-relaxed conformers and find its bonds and torsions.

    Raises:
        UserError: no conformer could be embedded.
    """
    mol = molecule_from_smiles(smiles)
    return _shape(smiles, mol, conformers(mol, n_conformers, seed))


def shape_of(atoms: "Atoms", n_geometries: int, seed: int) -> Shape:
    """The molecule ``atoms`` with the bonds that its distances show: its own geometry, then conformers of it.

    Bonds are those of ``rdkit.Chem.rdDetermineBonds`` (Kim and Kim, Bull. Korean Chem. Soc. 36, 1769, 2015); conformers keep the
    configuration of stereocenters and double bonds.

    Args:
        atoms: a neutral molecule, [N] atoms.
        n_geometries: how many starts, its own included; fewer may come back.
        seed: of the embedding.

    Raises:
        UserError: no bonds that fit its elements, more than one molecule, or no conformer could be embedded.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    name = atoms.info.get("name", "the molecule")
    rows = (f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions, strict=True))
    mol = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *rows]))
    try:
        rdDetermineBonds.DetermineBonds(mol, charge=0)
        Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{name}: its distances show no bonds that make a neutral molecule ({str(error).strip().splitlines()[0]})"
        ) from None
    if (parts := len(Chem.GetMolFrags(mol))) > 1:
        raise UserError(f"{name}: {parts} molecules; bonds and conformers are those of one")
    starts = atoms.positions[None].copy()
    if n_geometries > 1:
        starts = np.concatenate([starts, conformers(Chem.Mol(mol), n_geometries - 1, seed)])
    return _shape(Chem.MolToSmiles(Chem.RemoveHs(mol)), mol, starts)


def _shape(smiles: str, mol: "Mol", starts: np.ndarray) -> Shape:
    from rdkit import Chem

    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    masses = np.array([atom.GetMass() for atom in mol.GetAtoms()])
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
    open_bonds, torsions = [], []
    for bond in mol.GetBonds():
        if bond.IsInRing():
            continue
        i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        side = _side(mol, i, j)
        open_bonds.append((i, j, side))
        single = bond.GetBondType() == Chem.BondType.SINGLE
        if single and bond.GetBeginAtom().GetDegree() > 1 and bond.GetEndAtom().GetDegree() > 1:
            torsions.append((i, j, side))
    return Shape(smiles, numbers, masses, starts, mol, np.array(bonds, dtype=int).reshape(-1, 2), open_bonds, torsions)


def thermal_modes(shape: Shape, positions: np.ndarray) -> np.ndarray:
    """Displacement per unit normal deviate and root kelvin for every vibration, [modes, N, 3] in A/K^0.5.

    ``sum_i sqrt(T) * z_i * modes[i]`` with normal z is a classical harmonic sample at T (positions [N, 3] in A).
    """
    hessian = _hessian(shape.mol, positions)
    root = np.sqrt(np.repeat(shape.masses, 3))
    values, vectors = np.linalg.eigh(_without_rigid_motion(hessian / np.outer(root, root), positions, shape.masses))
    # The projected-out rigid motions (6, or 5 if linear) have eigenvalue zero exactly.
    vibrations = np.argsort(np.abs(values), kind="stable")[_n_rigid(positions) :]
    stiffness = np.maximum(np.abs(values[vibrations]), SOFTEST)
    modes = (vectors[:, vibrations] / root[:, None]) * np.sqrt(BOLTZMANN / stiffness)
    return modes.T.reshape(len(vibrations), -1, 3)


def vibrate(positions: np.ndarray, modes: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """``positions`` [N, 3] displaced by a harmonic sample at ``temperature`` (K); deviates are cut at 3 sigma."""
    deviates = np.clip(rng.standard_normal(len(modes)), -3.0, 3.0)
    return positions + np.sqrt(temperature) * np.tensordot(deviates, modes, axes=1)


def stretch(shape: Shape, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One bond outside rings at 0.78 to 1.5 times its length, and the same fragment tilted by up to 25 degrees."""
    if not shape.open_bonds:
        return positions
    i, j, side = shape.open_bonds[rng.integers(len(shape.open_bonds))]
    bond = positions[j] - positions[i]
    moved = positions.copy()
    factor = rng.uniform(0.78, 1.0) if rng.random() < 0.4 else rng.uniform(1.0, 1.5)
    moved[side] += (factor - 1.0) * bond
    axis = np.cross(bond, rng.standard_normal(3))
    return rotated(moved, side, moved[i], axis, np.radians(np.clip(rng.normal(0.0, 10.0), -25, 25)))


def twist(shape: Shape, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to three torsions turned by any angle; tries again when that makes atoms clash, at most ten times."""
    if not shape.torsions:
        return positions
    for _ in range(10):
        moved = positions
        for which in rng.permutation(len(shape.torsions))[: rng.integers(1, 4)]:
            i, j, side = shape.torsions[which]
            moved = rotated(moved, side, moved[i], moved[j] - moved[i], rng.uniform(-np.pi, np.pi))
        if not _clash(shape, moved):
            return moved
    return positions


def put_together(
    bodies: list[tuple[np.ndarray, np.ndarray]], closeness: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Molecules touching each other in random orientations.

    Args:
        bodies: (numbers [N], positions [N, 3] in A) of each molecule.
        closeness: the closest pair of atoms of a new molecule and those before it, as a fraction of the sum of their
            van der Waals radii: 1 touches, 0.6 is a close contact.
        rng: source of orientations and directions.

    Returns:
        Numbers [M] and positions [M, 3] of the whole.
    """
    from scipy.spatial.transform import Rotation

    numbers, placed = bodies[0][0], bodies[0][1] - bodies[0][1].mean(axis=0)
    for other_numbers, other in bodies[1:]:
        other = Rotation.random(rng=rng).apply(other - other.mean(axis=0))
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        limit = closeness * (radii(numbers)[:, None] + radii(other_numbers)[None, :])
        # The farthest shift along the direction at which some pair sits exactly at its limit: |d + s u| = limit.
        gap = other[None, :, :] - placed[:, None, :]
        along = gap @ direction
        discriminant = along**2 - (gap**2).sum(axis=-1) + limit**2
        shifts = np.where(discriminant >= 0, -along + np.sqrt(np.maximum(discriminant, 0.0)), -np.inf)
        shift = shifts.max()
        placed = np.concatenate([placed, other + direction * (shift if np.isfinite(shift) else 0.0)])
        numbers = np.concatenate([numbers, other_numbers])
    return numbers, placed


def radii(numbers: np.ndarray) -> np.ndarray:
    """van der Waals radii in A for atomic numbers."""
    return np.array([RADII.get(int(z), 1.8) for z in numbers])


def closest(positions: np.ndarray) -> float:
    """Smallest distance between two atoms of positions [N, 3] in A; infinite for one atom."""
    if len(positions) < 2:
        return np.inf
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    return float(distance[np.triu_indices(len(positions), 1)].min())


def _side(mol: "Mol", i: int, j: int) -> np.ndarray:
    """Atoms on j's side of the open bond i-j."""
    side, stack = np.zeros(mol.GetNumAtoms(), dtype=bool), [j]
    while stack:
        atom = stack.pop()
        side[atom] = True
        stack += [
            n.GetIdx() for n in mol.GetAtomWithIdx(atom).GetNeighbors() if not side[n.GetIdx()] and n.GetIdx() != i
        ]
    return side


def rotated(positions: np.ndarray, side: np.ndarray, origin: np.ndarray, axis: np.ndarray, angle: float) -> np.ndarray:
    """``positions`` [N, 3] A with the atoms ``side`` [N] bool turned by ``angle`` (radians) about ``axis`` through ``origin``.

    As they are, where the axis [3] has no length.
    """
    from scipy.spatial.transform import Rotation

    length = np.linalg.norm(axis)
    if length < 1e-8:
        return positions
    moved = positions.copy()
    moved[side] = Rotation.from_rotvec(axis * (angle / length)).apply(positions[side] - origin) + origin
    return moved


def _clash(shape: Shape, positions: np.ndarray) -> bool:
    """Two atoms more than three bonds apart closer than 0.62 of their van der Waals distance."""
    from rdkit import Chem

    limit = 0.62 * (radii(shape.numbers)[:, None] + radii(shape.numbers)[None, :])
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    return bool(((distance < limit) & (Chem.GetDistanceMatrix(shape.mol) > 3)).any())


def _hessian(mol: "Mol", positions: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Hessian [3N, 3N] in eV/A^2 by central differences of the classical force field's gradient."""
    from rdkit.Chem import AllChem

    conformer = mol.GetConformer(mol.GetConformers()[0].GetId())
    flat = np.array(positions, dtype=float).ravel()
    conformer.SetPositions(flat.reshape(-1, 3))
    if AllChem.MMFFHasAllMoleculeParams(mol):
        properties = AllChem.MMFFGetMoleculeProperties(mol)
        field = AllChem.MMFFGetMoleculeForceField(mol, properties, confId=conformer.GetId())
    else:
        field = AllChem.UFFGetMoleculeForceField(mol, confId=conformer.GetId())

    def gradient(k: int, shift: float) -> np.ndarray:
        # CalcGrad(positions) would reuse the distances of its first call (RDKit 2026.09); moving the conformer and
        # initializing again does not.
        moved = flat.copy()
        moved[k] += shift
        conformer.SetPositions(moved.reshape(-1, 3))
        field.Initialize()
        return np.array(field.CalcGrad())

    hessian = np.array([(gradient(k, step) - gradient(k, -step)) / (2 * step) for k in range(len(flat))])
    conformer.SetPositions(flat.reshape(-1, 3))
    return 0.5 * (hessian + hessian.T) * KCAL


def _rigid(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted translations and rotations, [3N, 5 or 6] (3 for one atom)."""
    root = np.sqrt(masses)[:, None]
    centered = positions - (masses[:, None] * positions).sum(axis=0) / masses.sum()
    motions = [(root * axis).ravel() for axis in np.eye(3)]
    motions += [(root * np.cross(axis, centered)).ravel() for axis in np.eye(3)]
    left, size, _ = np.linalg.svd(np.array(motions).T, full_matrices=False)
    return left[:, size > 1e-3 * size[0]]


def _n_rigid(positions: np.ndarray) -> int:
    return _rigid(positions, np.ones(len(positions))).shape[1]


def _without_rigid_motion(hessian: np.ndarray, positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    rigid = _rigid(positions, masses)
    keep = np.eye(len(hessian)) - rigid @ rigid.T
    return keep @ hessian @ keep
