"""Molecules and periodic boxes as :class:`ase.Atoms`, checked."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.systems.frames import read_every_frame
from mlff_distiller.systems.limits import Limits
from mlff_distiller.utils.errors import UserError, nearest
from mlff_distiller.utils.files import split_frame

if TYPE_CHECKING:
    from ase import Atoms

#: Two atoms closer than this (A) are a mistake in the file, not chemistry: the shortest bond, H2, has 0.74 A.
MIN_DISTANCE = 0.3
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
        Checked atoms (see :func:`check_atoms`) without a calculator; ``info["name"]`` is the stem of the file.

    Raises:
        UserError: unknown name (with the nearest known one), unreadable file, or atoms that make no sense.
    """
    name = str(name)
    for suffix in SUFFIXES:
        path = Path(directory) / f"{name}{suffix}"
        if path.is_file():
            return read_system(path)
    if "/" in name or Path(name.partition("@")[0]).suffix or Path(split_frame(name)[0]).is_file():
        return read_system(name)
    raise UserError(
        f"unknown molecule {name!r} in {directory}{nearest(name, available_systems(directory))} "
        "(a molecule of your own is named by its path, e.g. ./mine.xyz)"
    )


def read_system(path: str | Path, allow: Iterable[str] = ()) -> "Atoms":
    """The one configuration in ``path`` (any ASE format; ``path@index`` for one of several), checked.

    Args:
        path: of the file.
        allow: as of :func:`check_atoms`.

    Raises:
        UserError: missing or unreadable file, several frames and no index, or atoms that make no sense.
    """
    file, frame = split_frame(path)
    if not Path(file).is_file():
        raise UserError(f"{file}: no such file")
    if Path(file).suffix.lower() in (".sdf", ".sd"):
        _check_single(file)
    frames = read_every_frame(file)
    if frame is None:
        if len(frames) > 1:
            raise UserError(f"{file}: {len(frames)} frames; choose one, e.g. {file}@0 or {file}@-1")
        frame = 0
    if not -len(frames) <= frame < len(frames):
        count = "1 frame" if len(frames) == 1 else f"{len(frames)} frames"
        raise UserError(f"{path}: {file} has {count}: choose {-len(frames)} to {len(frames) - 1}")
    atoms = frames[frame]
    atoms.calc = None
    # Results are filed under the name of the file, whatever name is inside.
    atoms.info["name"] = Path(file).stem
    return check_atoms(atoms, where=str(path), allow=allow)


def _check_single(file: str) -> None:
    """Refuse an SDF file of several molecules, of which ASE reads the first and says nothing of the others."""
    molecules = Path(file).read_text(encoding="utf-8", errors="replace").split("$$$$")
    count = sum(bool(text.strip()) for text in molecules)
    if count > 1:
        raise UserError(f"{file}: {count} molecules in it; write each to a file of its own")


def check_atoms(atoms: "Atoms", where: str = "atoms", allow: Iterable[str] = ()) -> "Atoms":
    """``atoms`` itself, when a force field can compute it.

    Args:
        atoms: positions [N, 3] in A.
        where: names the source in the message.
        allow: ``charge`` or ``spin``, see :class:`~mlff_distiller.systems.limits.Limits`.

    Raises:
        UserError: no atoms, positions or cell not finite, an atomic number outside 1..100, a charge or unpaired electrons,
            a periodic direction without a cell vector, or two atoms (or an atom and a periodic image) closer than 0.3 A.
    """
    from ase.neighborlist import neighbor_list

    check_finite(atoms, where)
    limits = Limits(allow=allow)
    try:
        limits.check_numbers(atoms.numbers)
        limits.check_charge_and_spin(atoms)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
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


def check_finite(atoms: "Atoms", where: str) -> None:
    """Raise a :class:`UserError` where there are no atoms, or a position or the cell is not finite; it begins with ``where``."""
    if len(atoms) == 0:
        raise UserError(f"{where}: no atoms in it")
    bad = np.flatnonzero(~finite_in_fp32(atoms.positions).all(axis=1))
    if len(bad):
        raise UserError(f"{where}: atom {bad[0]} has the position {atoms.positions[bad[0]].tolist()}; expected numbers")
    if not finite_in_fp32(atoms.cell.array).all():
        raise UserError(f"{where}: the cell is not finite: {atoms.cell.array.tolist()}")


def finite_in_fp32(values: np.ndarray) -> np.ndarray:
    """Which of ``values`` are finite, in the float32 in which they are kept and computed, too."""
    with np.errstate(over="ignore"):
        return np.isfinite(np.asarray(values).astype(np.float32))


def fingerprint(atoms: "Atoms") -> str:
    """Identifies a geometry, whatever its name: a hash of elements, positions and cell to 1e-4 A, and periodicity."""
    parts = (atoms.numbers, np.round(atoms.positions, 4) + 0.0, np.round(atoms.cell.array, 4) + 0.0, atoms.pbc)
    return hashlib.sha256(repr([part.tolist() for part in parts]).encode()).hexdigest()[:16]


def _n_atoms(path: Path) -> int:
    with path.open(encoding="utf-8") as stream:
        first = stream.readline().strip()
    return int(first) if first.isdigit() else 0


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
