"""Periodic boxes of a liquid, packed molecule by molecule."""

from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.systems.read import check_atoms
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms

#: Real liquids at their density take 2 to 20.
_PACKING_STEPS = 100


def liquid_box(
    molecule: "Atoms", n_molecules: int, density: float = 1.0, seed: int = 0, min_distance: float = 1.7
) -> "Atoms":
    """A periodic cubic box of ``n_molecules`` rigid copies of ``molecule``, the same for the same seed.

    The copies start on a lattice with random orientations; then a soft repulsion between atoms of different copies
    (all periodic images) turns and shifts them as rigid bodies until none is closer than ``min_distance``. That is
    packing, not equilibrium: relax or equilibrate it with a potential before measuring anything.

    Args:
        molecule: one molecule, positions in A.
        n_molecules: how many.
        density: in g/cm3.
        seed: of orientations and lattice sites.
        min_distance: between atoms of different molecules, A; two hydrogens may come 0.2 A closer.

    Returns:
        Periodic atoms; array ``molecule_index`` [N] says which molecule an atom is of.

    Raises:
        UserError: not even one molecule, a density that is not positive, or molecules that cannot be packed so densely.
    """
    from ase import Atoms, units
    from scipy.spatial.transform import Rotation

    check_atoms(molecule, "liquid_box")
    if n_molecules < 1 or not density > 0:
        raise UserError(f"liquid_box: n_molecules {n_molecules} and density {density} g/cm3 must be positive")
    gram = units.kg / 1000
    length = (n_molecules * molecule.get_masses().sum() / (density * gram / (0.01 * units.m) ** 3)) ** (1 / 3)
    body = molecule.positions - molecule.get_center_of_mass()
    rng = np.random.default_rng(seed)
    per_side = int(np.ceil(n_molecules ** (1 / 3) - 1e-9))
    grid = np.stack(np.meshgrid(*[np.arange(per_side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    centers = (grid[rng.permutation(len(grid))[:n_molecules]] + 0.5) * length / per_side
    rotations = Rotation.random(n_molecules, rng=rng)
    index = np.repeat(np.arange(n_molecules), len(body))
    numbers = np.tile(molecule.numbers, n_molecules)
    hydrogen = numbers == 1
    box = Atoms(numbers=numbers, cell=[length] * 3, pbc=True)
    for _ in range(_PACKING_STEPS):
        arms = np.concatenate([rotation.apply(body) for rotation in rotations])
        box.positions = centers[index] + arms
        push, turn = _overlap(box, index, arms, hydrogen, min_distance, n_molecules)
        if push is None:
            break
        centers += push
        rotations = Rotation.from_rotvec(turn) * rotations
    else:
        raise UserError(
            f"liquid_box: {n_molecules} molecules of {molecule.get_chemical_formula()} do not fit into a box of "
            f"{length:.2f} A at {density} g/cm3 with {min_distance} A between them; lower the density or min_distance"
        )
    box.arrays["molecule_index"] = index
    box.info["name"] = f"{molecule.info.get('name', molecule.get_chemical_formula())}_box_{n_molecules}"
    return check_atoms(box, "liquid_box")


def _overlap(
    box: "Atoms", index: np.ndarray, arms: np.ndarray, hydrogen: np.ndarray, min_distance: float, n_molecules: int
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Shift [M, 3] and rotation vector [M, 3] that part overlapping rigid bodies; None, None when none overlap."""
    from ase.neighborlist import neighbor_list

    i, j, distance, shift = neighbor_list("ijdD", box, min_distance + 0.05)
    own = index[i] == index[j]
    limit = np.where(hydrogen[i] & hydrogen[j], min_distance - 0.2, min_distance)
    if not (~own & (distance < limit)).any():
        return None, None
    # Aim a little beyond the limit, so that the last contacts part in finitely many steps.
    depth = np.where(own, 0.0, np.clip(limit + 0.05 - distance, 0.0, None))
    force = -shift / distance[:, None] * depth[:, None]
    push, torque, inertia = np.zeros((n_molecules, 3)), np.zeros((n_molecules, 3)), np.zeros(n_molecules)
    np.add.at(push, index[i], force)
    np.add.at(torque, index[i], np.cross(arms[i], force))
    np.add.at(inertia, index, (arms**2).sum(axis=1))
    return 0.3 * push, 0.6 * torque / np.maximum(inertia, 1.0)[:, None]
