"""Labeled configurations: one HDF5 file of flat arrays, which h5py or any HDF5 tool reads.

Layout (n configurations, A atoms in all, configuration i owns atoms offsets[i] to offsets[i + 1])::

    /numbers      [A]        uint8    atomic numbers
    /positions    [A, 3]     float32  A; labels belong to these rounded positions
    /offsets      [n + 1]    int64
    /molecule     [n]        int32    row in /molecules
    /split        [n]        uint8    row in the attribute "splits"
    /method       [n]        uint8    row in the attribute "methods": how the geometry was made
    /energies     [n]        float64  eV, total                     (labeled files only)
    /forces       [A, 3]     float32  eV/A                          (labeled files only)
    /cells        [n, 3, 3]  float64  A, rows are vectors           (periodic files only)
    /pbc          [n, 3]     bool                                   (periodic files only)
    /molecules    [m]        string   SMILES ("A.B" for a cluster), or the name given in an extxyz file
    attributes: format, version, splits, methods, units, and "teacher" where labeled

Reading 200,000 configurations takes about a second, and needs neither torch nor ASE.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.errors import UserError, nearest
from mlff_distiller.files import write_bytes

if TYPE_CHECKING:
    from ase import Atoms

FORMAT = "mlff-distiller dataset"
VERSION = 1
#: larger: beyond the size of any trained molecule. benchmark: the seven molecules, never trained on.
SPLITS = ("train", "val", "test", "larger", "benchmark")
METHODS = ("conformer", "normal_modes", "random", "stretch", "torsion", "md", "cluster", "contact", "given")


@dataclass(frozen=True)
class Dataset:
    """n configurations as flat arrays; see the module's text for shapes and units. Unlabeled: energies, forces None."""

    numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    molecule: np.ndarray
    split: np.ndarray
    method: np.ndarray
    molecules: tuple[str, ...]
    energies: np.ndarray | None = None
    forces: np.ndarray | None = None
    cells: np.ndarray | None = None
    pbc: np.ndarray | None = None
    splits: tuple[str, ...] = SPLITS
    methods: tuple[str, ...] = METHODS
    teacher: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> np.ndarray:
        """[n] int64: atoms per configuration."""
        return np.diff(self.offsets)

    def atoms(self, i: int) -> "Atoms":
        """Configuration ``i`` as :class:`ase.Atoms`, with its labels in ``info["energy"]`` and ``arrays["forces"]``."""
        from ase import Atoms

        part = slice(self.offsets[i], self.offsets[i + 1])
        made = Atoms(numbers=self.numbers[part], positions=self.positions[part].astype(np.float64))
        if self.cells is not None:
            made.cell, made.pbc = self.cells[i], self.pbc[i]
        if self.energies is not None:
            made.info["energy"] = float(self.energies[i])
            made.arrays["forces"] = self.forces[part].astype(np.float64)
        made.info |= {"molecule": self.molecules[self.molecule[i]], "split": self.splits[self.split[i]]}
        return made

    def select(self, chosen: np.ndarray) -> "Dataset":
        """The configurations that ``chosen`` ([n] bool, or indices in any order) picks."""
        index = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen, dtype=np.int64)
        counts = self.n_atoms[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        per_atom = {name: getattr(self, name) for name in ("numbers", "positions", "forces")}
        per_item = {name: getattr(self, name) for name in ("molecule", "split", "method", "energies", "cells", "pbc")}
        return replace(
            self,
            offsets=offsets,
            **{name: None if value is None else value[rows] for name, value in per_atom.items()},
            **{name: None if value is None else value[index] for name, value in per_item.items()},
        )

    def of_split(self, *names: str) -> "Dataset":
        """The configurations of the named splits.

        Raises:
            UserError: no such split.
        """
        for name in names:
            if name not in self.splits:
                raise UserError(f"unknown split {name!r}{nearest(name, self.splits)}")
        return self.select(np.isin(self.split, [self.splits.index(name) for name in names]))


def from_lists(
    numbers: Sequence[np.ndarray],
    positions: Sequence[np.ndarray],
    molecule: Sequence[str],
    split: Sequence[str],
    method: Sequence[str],
    **labels: Any,
) -> Dataset:
    """A dataset from one entry per configuration; ``labels`` are further fields, already flat."""
    names = tuple(dict.fromkeys(molecule))
    row = {name: i for i, name in enumerate(names)}
    return Dataset(
        numbers=np.concatenate([np.asarray(z, dtype=np.uint8) for z in numbers]),
        positions=np.concatenate([np.asarray(r, dtype=np.float32) for r in positions]),
        offsets=np.concatenate([[0], np.cumsum([len(z) for z in numbers])]).astype(np.int64),
        molecule=np.array([row[name] for name in molecule], dtype=np.int32),
        split=np.array([SPLITS.index(name) for name in split], dtype=np.uint8),
        method=np.array([METHODS.index(name) for name in method], dtype=np.uint8),
        molecules=names,
        **labels,
    )


def write_dataset(path: str | Path, dataset: Dataset) -> Path:
    """Write ``dataset`` to ``path`` (HDF5), atomically; the same dataset gives the same bytes."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs["splits"], file.attrs["methods"] = list(dataset.splits), list(dataset.methods)
        file.attrs["units"] = "positions A, energies eV (total), forces eV/A"
        if dataset.teacher:
            file.attrs["teacher"] = dataset.teacher
        for name in _ARRAYS:
            value = getattr(dataset, name)
            if value is not None:
                file.create_dataset(name, data=value, chunks=value.shape[0] > 0 or None, compression=1, shuffle=True)
        file.create_dataset("molecules", data=list(dataset.molecules), dtype=h5py.string_dtype())
    return write_bytes(path, stream.getvalue())


def read_configurations(path: str | Path) -> Dataset:
    """The dataset in ``path`` (HDF5 in this module's layout), labeled or not.

    Raises:
        UserError: missing, damaged or foreign file, or one of a later version.
    """
    import h5py

    if not Path(path).is_file():
        raise UserError(f"{path}: no such dataset")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise UserError(f"{path}: HDF5, but not a dataset of this project (attribute format = {FORMAT!r})")
            if file.attrs["version"] != VERSION:
                raise UserError(f"{path}: layout version {file.attrs['version']}, this program reads {VERSION}")
            return Dataset(
                **{name: file[name][()] if name in file else None for name in _ARRAYS},
                molecules=tuple(text.decode() for text in file["molecules"][()]),
                splits=tuple(file.attrs["splits"]),
                methods=tuple(file.attrs["methods"]),
                teacher=str(file.attrs.get("teacher", "")),
            )
    except (OSError, KeyError) as error:
        raise UserError(f"{path}: not a readable dataset ({error}); delete it and run the workflow again") from None


def read_dataset(path: str | Path, energy_key: str = "energy", forces_key: str = "forces") -> Dataset:
    """Labeled configurations: this project's HDF5, or a user's own (ext)xyz with energies and forces.

    Args:
        path: ``.xyz`` or ``.extxyz`` is read by :func:`read_extxyz`; all else is HDF5 (see the module's text).
        energy_key: of extxyz files.
        forces_key: of extxyz files.

    Raises:
        UserError: unreadable, without labels, or with labels in what look like other units.
    """
    if Path(path).suffix.lower() in (".xyz", ".extxyz"):
        return read_extxyz(path, energy_key, forces_key)
    dataset = read_configurations(path)
    if dataset.energies is None or dataset.forces is None:
        raise UserError(f"{path}: configurations without labels; make them with: python -m mlff_distiller label")
    return dataset


def read_extxyz(
    path: str | Path,
    energy_key: str = "energy",
    forces_key: str = "forces",
    fractions: Mapping[str, float] | None = None,
    seed: int = 0,
    check: bool = True,
) -> Dataset:
    """A user's own labeled configurations.

    Args:
        path: any trajectory that ASE reads, with total energies (eV) and forces (eV/A) in every frame.
        energy_key: name of the energy in a frame's info line.
        forces_key: name of the forces' column.
        fractions: of ``val`` and ``test`` where frames carry no ``split``; default 0.05 each. Frames of the same
            molecule (``smiles``, ``molecule`` or ``name`` in the info line, else the chemical formula) stay together.
        seed: of that split.
        check: refuse labels that look like other units.

    Raises:
        UserError: unreadable, a frame without energy or forces, values not finite, or suspicious units.
    """
    from ase.io import iread

    frames = []
    try:
        for frame in iread(str(path), index=":"):
            frames.append(frame)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:
        raise UserError(
            f"{path}: ASE cannot read it, after {len(frames)} frames ({type(error).__name__}: {error})"
        ) from error
    if not frames:
        raise UserError(f"{path}: no frames in it")
    energies, forces, molecule, split = [], [], [], []
    for i, frame in enumerate(frames):
        results = frame.calc.results if frame.calc is not None else {}
        energy = results.get(energy_key, frame.info.get(energy_key))
        force = results.get(forces_key, frame.arrays.get(forces_key))
        for what, value, known in (("energy", energy, frame.info), ("forces", force, frame.arrays)):
            if value is None:
                key = energy_key if what == "energy" else forces_key
                present = ", ".join(sorted({*known, *results})) or "nothing"
                raise UserError(
                    f"{path}: frame {i} has no {what} {key!r}; it has {present}. Every frame needs a total energy "
                    f"in eV and forces in eV/A; name other keys with {what}_key"
                )
        force = np.asarray(force, dtype=np.float64)
        if not np.isfinite(energy) or not np.isfinite(force).all() or not np.isfinite(frame.positions).all():
            raise UserError(f"{path}: frame {i} holds numbers that are not finite; drop it")
        energies.append(float(energy))
        forces.append(force.astype(np.float32))
        name = next((str(frame.info[k]) for k in ("smiles", "molecule", "name") if k in frame.info), None)
        molecule.append(name or frame.get_chemical_formula())
        given = frame.info.get("split")
        if given is not None and given not in SPLITS:
            raise UserError(f"{path}: frame {i} has split={given!r}{nearest(given, SPLITS)}")
        split.append(given or _split_of_name(molecule[-1], fractions or {"val": 0.05, "test": 0.05}, seed))
    periodic = any(frame.pbc.any() for frame in frames)
    dataset = from_lists(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        molecule,
        split,
        ["given"] * len(frames),
        energies=np.array(energies),
        forces=np.concatenate(forces),
        cells=np.array([frame.cell.array for frame in frames]) if periodic else None,
        pbc=np.array([frame.pbc for frame in frames]) if periodic else None,
        teacher=f"labels of {Path(path).name}",
    )
    if check and (doubts := doubtful_units(dataset)):
        raise UserError(
            f"{path}: " + "; ".join(doubts) + ". Energies must be total energies in eV, forces in eV/A "
            "(1 Hartree = 27.2114 eV, 1 kcal/mol = 0.0433641 eV, 1 Hartree/Bohr = 51.4221 eV/A)"
        )
    return dataset


#: All-electron energies of free atoms in Hartree (near exact; density functionals agree to a few per mille).
_ATOMS_HARTREE = {
    1: -0.5,
    6: -37.845,
    7: -54.589,
    8: -75.067,
    9: -99.734,
    15: -341.26,
    16: -398.11,
    17: -460.15,
    35: -2574.1,
}
#: What dE / (-F dx) is when energies or forces carry another unit.
_RATIOS = {
    "energies in Hartree, forces in eV/A": 1 / 27.2114,
    "energies in kcal/mol, forces in eV/A": 23.0605,
    "energies in kJ/mol, forces in eV/A": 96.4853,
    "energies in eV, forces in Hartree/A": 27.2114,
    "energies in eV, forces in Hartree/Bohr": 51.4221,
    "energies in Hartree, forces in Hartree/Bohr": 1.889726,
    "energies in eV, forces in kcal/mol/A": 1 / 23.0605,
    "energies in eV, forces with the sign of the gradient": -1.0,
}


def doubtful_units(dataset: Dataset) -> list[str]:
    """What makes the labels look as if they were not in eV and eV/A; empty when nothing does.

    Three signs: energies that match the sum of all-electron atoms in Hartree, kcal/mol or kJ/mol; changes of energy
    between similar frames that are not minus force times displacement; forces far beyond any thermal geometry's.
    """
    doubts = []
    ratio = _energy_force_ratio(dataset)
    if ratio is not None and not 0.8 < ratio < 1.25:
        alike = [f for f in _RATIOS if _RATIOS[f] * ratio > 0]
        closest = min(alike, key=lambda f: abs(np.log(_RATIOS[f] / ratio)))
        hint = f", as with {closest}" if abs(np.log(_RATIOS[closest] / ratio)) < 0.2 else ""
        doubts.append(f"energy changes are {ratio:.3g} times what the forces say{hint}")
    known = np.isin(dataset.numbers, list(_ATOMS_HARTREE))
    whole = np.logical_and.reduceat(known, dataset.offsets[:-1])
    expected = np.add.reduceat([_ATOMS_HARTREE.get(z, 0.0) for z in dataset.numbers.tolist()], dataset.offsets[:-1])
    ratios = dataset.energies[whole] / expected[whole]
    for unit, factor in (("Hartree", 1.0), ("kcal/mol", 627.509), ("kJ/mol", 2625.5)):
        # Within 3 %: bonding changes an all-electron energy by less, and valence-only energies in eV are far off.
        if len(ratios) and np.all(np.abs(ratios / factor - 1) < 0.03):
            doubts.append(f"energies look like all-electron energies in {unit}")
    rms = float(np.sqrt(np.mean(dataset.forces.astype(np.float64) ** 2)))
    if rms > 15.0:
        doubts.append(f"the forces' RMS is {rms:.3g}, far above thermal geometries (1 to 3 eV/A): kcal/mol/A?")
    return doubts


def element_energies(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Energy per element by least squares over all configurations: atomic numbers [e] and energies [e] in eV.

    Where the compositions leave an element's share open (one molecule only), it is the solution of least norm.
    """
    elements, inverse = np.unique(dataset.numbers, return_inverse=True)
    counts = np.zeros((len(dataset), len(elements)))
    np.add.at(counts, (np.repeat(np.arange(len(dataset)), dataset.n_atoms), inverse), 1.0)
    return elements, np.linalg.lstsq(counts, dataset.energies, rcond=1e-10)[0]


def content_hash(dataset: Dataset) -> str:
    """SHA-256 of the arrays and names, whatever the compression or version of the file that holds them."""
    digest = hashlib.sha256()
    for name in _ARRAYS:
        value = getattr(dataset, name)
        if value is not None:
            digest.update(f"{name}{value.dtype.str}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    for names in (dataset.molecules, dataset.splits, dataset.methods):
        digest.update("\n".join(names).encode() + b"\0")
    return digest.hexdigest()


def summary(dataset: Dataset) -> dict[str, Any]:
    """Counts for a dataset card: configurations, atoms and molecules per split, by method, by element, by size."""
    from collections import Counter

    def counted(names: Sequence[str], rows: np.ndarray) -> dict[str, int]:
        found = np.bincount(rows, minlength=len(names))
        return {name: int(found[i]) for i, name in enumerate(names) if found[i]}

    elements = Counter(dict(zip(*(x.tolist() for x in np.unique(dataset.numbers, return_counts=True)), strict=True)))
    sizes = dataset.n_atoms
    result: dict[str, Any] = {
        "configurations": len(dataset),
        "atoms": int(dataset.offsets[-1]),
        "content_sha256": content_hash(dataset),
        "by_split": {},
        "by_method": counted(dataset.methods, dataset.method),
        "atoms_by_atomic_number": {str(z): n for z, n in sorted(elements.items())},
        "teacher": dataset.teacher or None,
    }
    for name in counted(dataset.splits, dataset.split):
        here = dataset.split == dataset.splits.index(name)
        result["by_split"][name] = {
            "configurations": int(here.sum()),
            "molecules": len(np.unique(dataset.molecule[here])),
            "n_atoms": {
                "min": int(sizes[here].min()),
                "mean": float(sizes[here].mean()),
                "max": int(sizes[here].max()),
            },
        }
    if dataset.forces is not None:
        norm = np.linalg.norm(dataset.forces, axis=1)
        result["force_norm_ev_per_a"] = {
            "rms": float(np.sqrt(np.mean(norm.astype(np.float64) ** 2))),
            "median": float(np.median(norm)),
            "p99": float(np.percentile(norm, 99)),
            "max": float(norm.max()),
        }
    return result


def _energy_force_ratio(dataset: Dataset) -> float | None:
    """Slope of dE against -F dx between successive similar frames; None when too few tell."""
    expected, found = [], []
    for i in range(len(dataset) - 1):
        a, b, c = dataset.offsets[i : i + 3]
        if b - a != c - b or (dataset.numbers[a:b] != dataset.numbers[b:c]).any():
            continue
        step = dataset.positions[b:c].astype(np.float64) - dataset.positions[a:b]
        if not 1e-4 < np.abs(step).max() < 0.3:
            continue
        expected.append(-(0.5 * (dataset.forces[a:b] + dataset.forces[b:c]) * step).sum())
        found.append(dataset.energies[i + 1] - dataset.energies[i])
        if len(found) == 2000:
            break
    if len(found) < 8 or not np.any(expected) or not np.any(found):
        return None
    expected, found = np.array(expected), np.array(found)
    if abs(np.dot(expected, found)) < 0.8 * np.linalg.norm(expected) * np.linalg.norm(found):
        return None
    return float(np.dot(expected, found) / np.dot(expected, expected))


def _split_of_name(name: str, fractions: Mapping[str, float], seed: int) -> str:
    draw = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64
    test, val = fractions.get("test", 0.0), fractions.get("val", 0.0)
    return "test" if draw < test else "val" if draw < test + val else "train"


_ARRAYS = ("numbers", "positions", "offsets", "molecule", "split", "method", "energies", "forces", "cells", "pbc")
