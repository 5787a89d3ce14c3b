"""Molecules as parts of a cluster or a liquid: the teacher's geometry, its vibrations, and a classical pair potential.

The potential only has to place molecules as they lie in a liquid, for the teacher labels the result: Lennard-Jones with the
parameters of OPLS by element (Jorgensen, Maxwell, Tirado-Rives, JACS 118, 11225 (1996)) and the charges of MMFF94.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.geometry import KCAL, Shape, make_shape, thermal_modes, vibrate

if TYPE_CHECKING:
    from rdkit.Chem import Mol

#: sigma in A and epsilon in kcal/mol by atomic number.
LENNARD_JONES = {
    1: (2.42, 0.030),
    6: (3.50, 0.070),
    7: (3.25, 0.170),
    8: (3.12, 0.170),
    9: (2.90, 0.060),
    15: (3.74, 0.200),
    16: (3.55, 0.250),
    17: (3.40, 0.300),
    35: (3.47, 0.450),
}
#: Of hydrogen on N, O and F: it lies inside its neighbor, so that hydrogen bonds can form.
POLAR_HYDROGEN = (0.40, 0.046)


@dataclass(frozen=True)
class Species:
    """One molecule of N atoms.

    Attributes:
        smiles: isomeric SMILES.
        numbers: [N] atomic numbers.
        masses: [N] amu.
        body: [N, 3] A, relaxed, the center of mass at the origin.
        modes: [modes, N, 3] as :func:`mlff_distiller.data.geometry.thermal_modes` returns them.
        charges: [N] e, their sum 0.
        sigma: [N] A.
        epsilon: [N] eV.
    """

    smiles: str
    numbers: np.ndarray
    masses: np.ndarray
    body: np.ndarray
    modes: np.ndarray
    charges: np.ndarray
    sigma: np.ndarray
    epsilon: np.ndarray

    def vibrated(self, temperature: float, rng: np.random.Generator) -> np.ndarray:
        """``body`` [N, 3] displaced by a harmonic sample at ``temperature`` (K)."""
        return vibrate(self.body, self.modes, temperature, rng)


@functools.lru_cache(maxsize=512)
def make_species(smiles: str, seed: int, relax_steps: int, teacher: str) -> Species:
    """The molecule ``smiles``, relaxed by ``relax_steps`` steps of the teacher.

    Args:
        smiles: of a molecule that RDKit can embed.
        seed: of the embedding.
        relax_steps: 0 leaves the geometry of the classical force field.
        teacher: JSON text of the mapping in the settings.

    Raises:
        UserError: no conformer could be embedded.
    """
    shape = make_shape(smiles, 1, seed)
    start = _relaxed(shape, relax_steps, teacher)
    start = start - shape.masses @ start / shape.masses.sum()
    sigma, epsilon = lennard_jones(shape.mol)
    modes = thermal_modes(shape, start)
    return Species(smiles, shape.numbers, shape.masses, start, modes, charges(shape.mol), sigma, epsilon)


def lennard_jones(mol: "Mol") -> tuple[np.ndarray, np.ndarray]:
    """sigma [N] in A and epsilon [N] in eV."""
    rows = []
    for atom in mol.GetAtoms():
        around = {other.GetAtomicNum() for other in atom.GetNeighbors()}
        polar = atom.GetAtomicNum() == 1 and around & {7, 8, 9}
        rows.append(POLAR_HYDROGEN if polar else LENNARD_JONES[atom.GetAtomicNum()])
    sigma, epsilon = np.array(rows).T
    return sigma, epsilon * KCAL


def charges(mol: "Mol") -> np.ndarray:
    """Partial charges [N] in e: those of MMFF94, and where it has none, one and a half times Gasteiger's."""
    from rdkit.Chem import AllChem

    if AllChem.MMFFHasAllMoleculeParams(mol):
        properties = AllChem.MMFFGetMoleculeProperties(mol)
        found = np.array([properties.GetMMFFPartialCharge(i) for i in range(mol.GetNumAtoms())])
    else:
        AllChem.ComputeGasteigerCharges(mol)
        found = 1.5 * np.array([atom.GetDoubleProp("_GasteigerCharge") for atom in mol.GetAtoms()])
    # Gasteiger's are not finite where an element lacks parameters.
    return found - found.mean() if np.isfinite(found).all() else np.zeros(len(found))


def _relaxed(shape: Shape, steps: int, teacher: str) -> np.ndarray:
    import json

    from mlff_distiller.data.teacher import make_calculator
    from mlff_distiller.data.teacher_moves import relax

    spec: Mapping[str, Any] | None = json.loads(teacher)
    return relax(shape.numbers, shape.starts[0], make_calculator(spec), steps).end
