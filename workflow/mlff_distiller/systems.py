"""Molecules and periodic boxes as :class:`ase.Atoms`, refused early when they make no sense."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.errors import UserError, nearest

if TYPE_CHECKING:
    from ase import Atoms

#: The student's embedding knows these atomic numbers.
MAX_ATOMIC_NUMBER = 100
#: Two atoms closer than this (A) are a mistake in the file, not chemistry: the shortest bond, H2, has 0.74 A.
MIN_DISTANCE = 0.3
#: Real liquids at their density take 2 to 20.
_PACKING_STEPS = 100
SUFFIXES = (".extxyz", ".xyz")


def available_systems(directory: str | Path) -> list[str]:
    """Names of the systems in ``directory`` (``NAME.extxyz`` or ``NAME.xyz``), smallest first, then by name.

    Raises:
        UserError: no such directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of molecules")
    found = {path.stem: path for path in sorted(directory.iterdir()) if path.suffix in SUFFIXES}
    return sorted(found, key=lambda name: (_n_atoms(found[name]), name))


def load_system(name: str | Path, directory: str | Path) -> "Atoms":
    """One system, by its name in ``directory`` or by the path of any file that ASE reads.

    Args:
        name: ``water`` for ``directory/water.extxyz``; or a path (``my/molecule.pdb``, relative to the working
            directory), with ``@index`` to choose one frame of several (``trajectory.xyz@-1``).
        directory: where named systems live.

    Returns:
        Checked atoms (see :func:`check_atoms`) without a calculator; ``info["name"]`` is the name, for a path its stem.

    Raises:
        UserError: unknown name (with the nearest known one), unreadable file, or atoms that make no sense.
    """
    name = str(name)
    for suffix in SUFFIXES:
        path = Path(directory) / f"{name}{suffix}"
        if path.is_file():
            return read_system(path)
    if "/" in name or Path(name.partition("@")[0]).suffix:
        return read_system(name)
    raise UserError(
        f"unknown molecule {name!r} in {directory}{nearest(name, available_systems(directory))} "
        "(a molecule of your own is named by its path, e.g. ./mine.xyz)"
    )


def read_system(path: str | Path) -> "Atoms":
    """The one configuration in ``path`` (any ASE format; ``path@index`` for one of several), checked.

    Raises:
        UserError: missing or unreadable file, several frames and no index, or atoms that make no sense.
    """
    from ase.io import read

    file, at, index = str(path).rpartition("@")
    if not at or not _is_index(index):
        file, index = str(path), ":"
    if not Path(file).is_file():
        raise UserError(f"{file}: no such file")
    try:
        frames = read(file, index=index)
    except Exception as error:
        raise UserError(f"{path}: ASE cannot read it ({type(error).__name__}: {error})") from error
    frames = frames if isinstance(frames, list) else [frames]
    if not frames:
        raise UserError(f"{file}: no atoms in it")
    if len(frames) > 1:
        raise UserError(f"{file}: {len(frames)} frames; choose one, e.g. {file}@0 or {file}@-1")
    atoms = frames[0]
    atoms.calc = None
    atoms.info.setdefault("name", Path(file).stem)
    return check_atoms(atoms, where=str(path))


def check_atoms(atoms: "Atoms", where: str = "atoms") -> "Atoms":
    """``atoms`` itself when a force field can be asked about it.

    Args:
        atoms: positions [N, 3] in A.
        where: names the source in the message.

    Raises:
        UserError: no atoms, positions or cell not finite, an atomic number outside 1..100, a periodic direction without
            a cell vector, or two atoms (or an atom and a periodic image) closer than 0.3 A.
    """
    from ase.neighborlist import neighbor_list

    if len(atoms) == 0:
        raise UserError(f"{where}: no atoms in it")
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(bad):
        raise UserError(f"{where}: atom {bad[0]} has the position {atoms.positions[bad[0]].tolist()}; expected numbers")
    if not np.isfinite(atoms.cell.array).all():
        raise UserError(f"{where}: the cell is not finite: {atoms.cell.array.tolist()}")
    bad = np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > MAX_ATOMIC_NUMBER))
    if len(bad):
        raise UserError(
            f"{where}: atom {bad[0]} has the atomic number {atoms.numbers[bad[0]]}; known elements are 1 (H) to "
            f"{MAX_ATOMIC_NUMBER} (Fm)"
        )
    flat = np.linalg.norm(atoms.cell.array, axis=1) < 1.0
    if (flat & atoms.pbc).any() or (atoms.pbc.all() and abs(np.linalg.det(atoms.cell.array)) < 1.0):
        raise UserError(f"{where}: periodic, but its cell spans no volume: {atoms.cell.array.tolist()} A")
    i, j, distance = neighbor_list("ijd", atoms, MIN_DISTANCE)
    if len(i):
        worst = int(np.argmin(distance))
        symbols = atoms.get_chemical_symbols()
        raise UserError(
            f"{where}: atoms {i[worst]} ({symbols[i[worst]]}) and {j[worst]} ({symbols[j[worst]]}) are "
            f"{distance[worst]:.3f} A apart, on top of each other (limit {MIN_DISTANCE} A); are the positions in A, "
            "and is the cell right?"
        )
    return atoms


def fingerprint(atoms: "Atoms") -> str:
    """Tells geometries apart, whatever they are called: a hash of elements, positions and cell to 1e-4 A, and periodicity."""
    parts = (atoms.numbers, np.round(atoms.positions, 4) + 0.0, np.round(atoms.cell.array, 4) + 0.0, atoms.pbc)
    return hashlib.sha256(repr([part.tolist() for part in parts]).encode()).hexdigest()[:16]


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


def _n_atoms(path: Path) -> int:
    with path.open() as stream:
        first = stream.readline().strip()
    return int(first) if first.isdigit() else 0


def _is_index(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def read_systems(paths: Iterable[str | Path]) -> "dict[str, Atoms]":
    """:func:`read_system` of each path, by name.

    Raises:
        UserError: as :func:`read_system`; or two systems have the same name.
    """
    systems: dict[str, Atoms] = {}
    for path in paths:
        atoms = read_system(path)
        name = atoms.info["name"]
        if name in systems:
            raise UserError(f"{path}: there is another system called {name!r}; rename one of them")
        systems[name] = atoms
    return systems
