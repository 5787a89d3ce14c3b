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
    /stresses     [n, 3, 3]  float64  eV/A^3, ASE's sign: dE/dstrain over the volume; NaN where there is no label
                                                                    (only where any label has one; version 2)
    /molecules    [m]        UTF-8    SMILES ("A.B" for a cluster), or the name of a structure's file
    attributes: format, version, splits, methods, units, "teacher" where labeled, and content_sha256, by which damage shows

Reading 200,000 configurations takes about a second, and needs neither torch nor ASE.
"""

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.systems.units import GPA
from mlff_distiller.utils.errors import UserError, first_line, nearest
from mlff_distiller.utils.files import write_bytes

if TYPE_CHECKING:
    import h5py
    from ase import Atoms

FORMAT = "mlff-distiller dataset"
VERSION = 2
#: Of files without stresses, which programs from before there were any read.
WITHOUT_STRESS = 1
#: larger: beyond the size of any trained molecule. benchmark: the seven molecules; those that are trained on, too, stand in
#: the card. visited: frames of MD that the student itself ran. coverage: other configurations of molecules, clusters and
#: liquids that are always trained on.
SPLITS = ("train", "val", "test", "larger", "benchmark", "visited", "coverage")
METHODS = (
    *("conformer", "normal_modes", "random", "stretch", "torsion", "md", "cluster", "contact", "given"),
    *("small_molecule_cluster", "solvation", "droplet", "box"),
    *("rattled", "vacancy"),
)


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
    stresses: np.ndarray | None = None
    splits: tuple[str, ...] = SPLITS
    methods: tuple[str, ...] = METHODS
    teacher: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> np.ndarray:
        """[n] int64: atoms per configuration."""
        return np.diff(self.offsets)

    @property
    def has_stress(self) -> np.ndarray:
        """[n] bool: whether the label has a stress."""
        if self.stresses is None:
            return np.zeros(len(self), dtype=bool)
        return np.isfinite(self.stresses).all(axis=(1, 2))

    def atoms(self, i: int) -> "Atoms":
        """Configuration ``i`` as :class:`ase.Atoms`, with its labels in ``info["energy"]`` and ``arrays["forces"]``.

        Where it has a stress, that is in ``info["stress"]``, [3, 3] eV/A^3.
        """
        from ase import Atoms

        part = slice(self.offsets[i], self.offsets[i + 1])
        made = Atoms(numbers=self.numbers[part], positions=self.positions[part].astype(np.float64))
        if self.cells is not None:
            made.cell, made.pbc = self.cells[i], self.pbc[i]
        if self.energies is not None:
            made.info["energy"] = float(self.energies[i])
            made.arrays["forces"] = self.forces[part].astype(np.float64)
        if self.stresses is not None and np.isfinite(self.stresses[i]).all():
            made.info["stress"] = self.stresses[i].copy()
        made.info |= {"molecule": self.molecules[self.molecule[i]], "split": self.splits[self.split[i]]}
        return made

    def select(self, chosen: np.ndarray) -> "Dataset":
        """The configurations that ``chosen`` ([n] bool, or indices in any order) picks."""
        index = np.flatnonzero(chosen) if np.asarray(chosen).dtype == bool else np.asarray(chosen, dtype=np.int64)
        counts = self.n_atoms[index]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[index] - offsets[:-1], counts)
        per_atom = {name: getattr(self, name) for name in ("numbers", "positions", "forces")}
        per_item = {
            name: getattr(self, name)
            for name in ("molecule", "split", "method", "energies", "cells", "pbc", "stresses")
        }
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
    methods: tuple[str, ...] = METHODS,
    **labels: Any,
) -> Dataset:
    """A dataset from one entry per configuration.

    ``methods`` are all ways in which geometries of the dataset may be made; ``labels`` are further fields, already flat.
    """
    names = tuple(dict.fromkeys(molecule))
    row = {name: i for i, name in enumerate(names)}
    return Dataset(
        numbers=np.concatenate([np.zeros(0, np.uint8), *(np.asarray(z, dtype=np.uint8) for z in numbers)]),
        positions=np.concatenate([np.zeros((0, 3), np.float32), *(np.asarray(r, dtype=np.float32) for r in positions)]),
        offsets=np.concatenate([[0], np.cumsum([len(z) for z in numbers])]).astype(np.int64),
        molecule=np.array([row[name] for name in molecule], dtype=np.int32),
        split=np.array([SPLITS.index(name) for name in split], dtype=np.uint8),
        method=np.array([methods.index(name) for name in method], dtype=np.uint8),
        molecules=names,
        methods=methods,
        **labels,
    )


def write_dataset(path: str | Path, dataset: Dataset) -> Path:
    """Write ``dataset`` to ``path`` (HDF5), atomically; the same dataset gives the same bytes."""
    import h5py

    # Of the documented types, as they are read again.
    given = {name: getattr(dataset, name) for name in _FORMS}
    arrays = {name: v.astype(_FORMS[name][0], copy=False) for name, v in given.items() if v is not None}
    dataset = replace(dataset, **arrays)
    stream = io.BytesIO()
    # HDF5 1.10's form, and text of fixed length: all that is read again then has a checksum. Without one the library may
    # crash, or wait for ever, on a damaged file.
    with h5py.File(stream, "w", libver=("v110", "v110")) as file:
        file.attrs["format"], file.attrs["version"] = np.bytes_(FORMAT), _version(dataset)
        file.attrs["splits"], file.attrs["methods"] = _fixed(dataset.splits), _fixed(dataset.methods)
        file.attrs["units"] = "positions A, energies eV (total), forces eV/A" + (
            "" if dataset.stresses is None else ", stresses eV/A^3"
        )
        file.attrs["content_sha256"] = np.bytes_(content_hash(dataset))
        if dataset.teacher:
            file.attrs["teacher"] = np.bytes_(dataset.teacher.encode())
        for name, value in arrays.items():
            _create(file, name, value)
        _create(file, "molecules", _fixed(dataset.molecules))
    return write_bytes(path, stream.getvalue())


def _version(dataset: Dataset) -> int:
    return WITHOUT_STRESS if dataset.stresses is None else VERSION


def _create(file: "h5py.File", name: str, value: np.ndarray) -> None:
    file.create_dataset(name, data=value, chunks=value.shape[0] > 0 or None, compression=1, shuffle=True)


def _fixed(names: Sequence[str]) -> np.ndarray:
    return np.array([name.encode() for name in names], dtype=np.bytes_ if names else "S1")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def read_configurations(path: str | Path) -> Dataset:
    """The dataset in ``path`` (HDF5 in this module's layout), labeled or not.

    Raises:
        UserError: missing, damaged or foreign file, one of a later version, or arrays that do not fit together.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such dataset")
    try:
        with h5py.File(path, "r") as file:
            if _text(file.attrs.get("format", "")) != FORMAT:
                raise UserError(f"{path}: HDF5, but not a dataset of this project (attribute format = {FORMAT!r})")
            if file.attrs["version"] not in (WITHOUT_STRESS, VERSION):
                raise UserError(
                    f"{path}: layout version {file.attrs['version']}, this program reads {WITHOUT_STRESS} and {VERSION}"
                )
            size = path.stat().st_size
            dataset = Dataset(
                **{name: _array(file, name, size) if name in file else None for name in _FORMS},
                molecules=_names(_array(file, "molecules", size)),
                splits=_names(file.attrs["splits"]),
                methods=_names(file.attrs["methods"]),
                teacher=_text(file.attrs.get("teacher", "")),
            )
            written = _text(file.attrs.get("content_sha256", ""))
    except UserError:
        raise
    except Exception as error:
        # What HDF5 meets in a damaged file has many names.
        raise _damaged(path, first_line(error)) from None
    if objection := _objection(dataset):
        raise _damaged(path, objection)
    if written and written != content_hash(dataset):
        raise _damaged(path, "its arrays are not those that were written")
    return dataset


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: not a readable dataset ({why}); copy it anew, or have it made again by what made it")


def _array(file: "h5py.File", name: str, file_size: int) -> np.ndarray:
    """One array of the file, of the documented type."""
    node = file[name]
    # A thousandfold is more than deflate can do: a damaged shape, for which there may not be memory.
    if node.size * node.dtype.itemsize > 1100 * file_size:
        raise ValueError(f"{name} is larger than the file can hold: {node.shape}")
    value = node[()]
    if name not in _FORMS:
        return value
    dtype, _ = _FORMS[name]
    kinds = {"u": "ui", "i": "ui", "f": "f", "b": "b"}[np.dtype(dtype).kind]
    if value.dtype.kind not in kinds:
        raise ValueError(f"{name} is of type {value.dtype}, expected {dtype}")
    cast = value.astype(dtype, copy=False)
    if kinds == "ui" and not np.array_equal(cast, value):
        raise ValueError(f"{name} holds numbers beyond {dtype}")
    return cast


def _names(found: Iterable[str | bytes]) -> tuple[str, ...]:
    names = tuple(map(_text, found))
    "".join(names).encode()  # an error for bytes that are no text
    return names


def _objection(dataset: Dataset) -> str:
    """Why the arrays are no dataset; empty when they are one."""
    for name in ("numbers", "positions", "offsets", "molecule", "split", "method"):
        if getattr(dataset, name) is None:
            return f"no {name} in it"
    offsets = dataset.offsets
    if offsets.ndim != 1 or len(offsets) < 1 or offsets[0] != 0 or (np.diff(offsets) < 1).any():
        return "offsets do not begin with 0 and ascend"
    sizes = {"n": len(dataset), "A": int(offsets[-1])}
    for name, (_, form) in _FORMS.items():
        value, shape = getattr(dataset, name), tuple(sizes.get(k, k) for k in form)
        if name != "offsets" and value is not None and value.shape != shape:
            return f"{name} has the shape {value.shape}, by its offsets it is {shape}"
        if name == "stresses" or value is None:
            continue
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return f"{name} holds numbers that are not finite"
    if (dataset.numbers < 1).any():
        return "an atomic number is 0"
    for name, names in (("molecule", dataset.molecules), ("split", dataset.splits), ("method", dataset.methods)):
        rows = getattr(dataset, name)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(names):
            return f"{name} {rows.max()} has no name: there are {len(names)}"
    if unknown := set(dataset.splits) - set(SPLITS):
        return f"unknown split {min(unknown)!r}{nearest(min(unknown), SPLITS)}"
    if (dataset.cells is None) != (dataset.pbc is None):
        return "cells and pbc belong together"
    if (dataset.energies is None) != (dataset.forces is None):
        return "energies and forces belong together"
    return "" if dataset.stresses is None else _objection_to_stresses(dataset)


def _objection_to_stresses(dataset: Dataset) -> str:
    if dataset.pbc is None or dataset.energies is None:
        return "stresses without energies, or without cells"
    known = dataset.has_stress
    if not np.isnan(dataset.stresses[~known]).all():
        return "stresses holds numbers that are not finite"
    if not dataset.pbc[known].all():
        return "a stress of a configuration that is not periodic along all three vectors"
    found = dataset.stresses[known]
    if not np.allclose(found, found.transpose(0, 2, 1), rtol=1e-6, atol=1e-9):
        return "a stress is not symmetric"
    return ""


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
    for name in _FORMS:
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
        if name == "benchmark" and (dataset.split == dataset.splits.index("train")).any():
            result["by_split"][name]["also_trained_on"] = also_trained_on(dataset, name)
    if dataset.pbc is not None and (periodic := dataset.pbc.any(axis=1)).any():
        lengths = np.linalg.norm(dataset.cells[periodic], axis=2)
        result["periodic"] = {
            "configurations": int(periodic.sum()),
            "shortest_edge_a": round(float(lengths.min()), 3),
            "longest_edge_a": round(float(lengths.max()), 3),
        }
    if (known := dataset.has_stress).any():
        result["stress_gpa"] = {
            "configurations": int(known.sum()),
            "rms": float(np.sqrt(np.mean(dataset.stresses[known] ** 2)) / GPA),
            "max": float(np.abs(dataset.stresses[known]).max() / GPA),
        }
    if dataset.forces is not None and len(dataset):
        norm = np.linalg.norm(dataset.forces, axis=1)
        result["force_norm_ev_per_a"] = {
            "rms": float(np.sqrt(np.mean(norm.astype(np.float64) ** 2))),
            "median": float(np.median(norm)),
            "p99": float(np.percentile(norm, 99)),
            "max": float(norm.max()),
        }
    return result


def also_trained_on(dataset: Dataset, split: str) -> list[str]:
    """The molecules of ``split`` that are in ``train``, too, by themselves or in a cluster, by their names."""

    def of(name: str) -> list[str]:
        return [
            dataset.molecules[row] for row in np.unique(dataset.molecule[dataset.split == dataset.splits.index(name)])
        ]

    trained = {part for name in of("train") for part in name.split(".")}
    return [name for name in of(split) if name in trained]


#: Types and shapes as in the module's text: n configurations, A atoms.
_FORMS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "numbers": ("uint8", ("A",)),
    "positions": ("float32", ("A", 3)),
    "offsets": ("int64", ("n + 1",)),
    "molecule": ("int32", ("n",)),
    "split": ("uint8", ("n",)),
    "method": ("uint8", ("n",)),
    "energies": ("float64", ("n",)),
    "forces": ("float32", ("A", 3)),
    "cells": ("float64", ("n", 3, 3)),
    "pbc": ("bool", ("n", 3)),
    "stresses": ("float64", ("n", 3, 3)),
}
