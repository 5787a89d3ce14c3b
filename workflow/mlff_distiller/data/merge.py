"""Stage ``merge-data``: labeled datasets of one teacher as one, each molecule in the split that it has."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlff_distiller.data.dataset import SPLITS, Dataset, content_hash, summary, write_dataset
from mlff_distiller.data.read import read_dataset
from mlff_distiller.utils.errors import UserError

#: What a molecule is used for, by the splits that its configurations are in; two files must not disagree on it.
USES = {"train": "trained on", "val": "validated on", "test": "tested on", "larger": "tested on"}
#: Molecules that an error names.
NAMED = 3


def merge(parts: Mapping[str, Dataset]) -> Dataset:
    """``parts``, by the names of their files, one after the other.

    Raises:
        UserError: a part has another teacher than the first, or a molecule that is trained, validated or tested on in one
            part alone and used otherwise in another; names part and molecule.
    """
    names, datasets = list(parts), list(parts.values())
    for name, dataset in parts.items():
        if dataset.teacher != datasets[0].teacher:
            raise UserError(
                f"merge-data: {name} was labeled by {dataset.teacher or 'an unknown teacher'}, but {names[0]} by "
                f"{datasets[0].teacher or 'an unknown teacher'}: energies of two teachers do not belong together. Label all "
                "with one (`python -m mlff_distiller label`), or show that it is the same (`same-teacher`, --same-teacher)"
            )
    _check_splits(parts)
    molecules = tuple(dict.fromkeys(name for dataset in datasets for name in dataset.molecules))
    methods = tuple(dict.fromkeys(name for dataset in datasets for name in dataset.methods))
    if len(methods) > 255:
        raise UserError(f"merge-data: {len(methods)} ways of making geometries; a dataset names 255 at most")
    periodic = any(dataset.cells is not None for dataset in datasets)
    stressed = any(dataset.stresses is not None for dataset in datasets)

    def joined(arrays: Sequence[np.ndarray | None]) -> np.ndarray:
        return np.concatenate([array for array in arrays if array is not None])

    def rows(field: str, old: str, new: Sequence[str], kind: type) -> np.ndarray:
        """The index ``field`` of all parts, by the common table ``new`` instead of each part's own."""
        places = {name: i for i, name in enumerate(new)}
        return joined([
            np.array([places[name] for name in getattr(dataset, old)], dtype=kind)[getattr(dataset, field)]
            for dataset in datasets
        ])  # fmt: skip

    return Dataset(
        numbers=joined([dataset.numbers for dataset in datasets]),
        positions=joined([dataset.positions for dataset in datasets]),
        offsets=np.concatenate([[0], np.cumsum(joined([dataset.n_atoms for dataset in datasets]))]).astype(np.int64),
        molecule=rows("molecule", "molecules", molecules, np.int32),
        split=rows("split", "splits", SPLITS, np.uint8),
        method=rows("method", "methods", methods, np.uint8),
        molecules=molecules,
        energies=joined([dataset.energies for dataset in datasets]),
        forces=joined([dataset.forces for dataset in datasets]),
        cells=joined([_cells(dataset) for dataset in datasets]) if periodic else None,
        pbc=joined([_pbc(dataset) for dataset in datasets]) if periodic else None,
        stresses=joined([_stresses(dataset) for dataset in datasets]) if stressed else None,
        methods=methods,
        teacher=datasets[0].teacher,
    )


def _cells(dataset: Dataset) -> np.ndarray:
    return np.zeros((len(dataset), 3, 3)) if dataset.cells is None else dataset.cells


def _pbc(dataset: Dataset) -> np.ndarray:
    return np.zeros((len(dataset), 3), dtype=bool) if dataset.pbc is None else dataset.pbc


def _stresses(dataset: Dataset) -> np.ndarray:
    return np.full((len(dataset), 3, 3), np.nan) if dataset.stresses is None else dataset.stresses


def _check_splits(parts: Mapping[str, Dataset]) -> None:
    """Raise a :class:`UserError` for molecules on whose use two parts disagree.

    A molecule with several uses in one part (frames of one molecule were split, say) may have any of them in another.
    """
    known: dict[str, dict[str, set[str]]] = {}
    for name, dataset in parts.items():
        pairs = np.unique(np.stack([dataset.molecule, dataset.split.astype(np.int64)]), axis=1).T.tolist()
        for molecule, split in pairs:
            if use := USES.get(dataset.splits[split]):
                known.setdefault(dataset.molecules[molecule], {}).setdefault(name, set()).add(use)
    wrong = []
    for molecule, uses in known.items():
        for name, other in ((a, b) for a in uses for b in uses if a < b):
            if not uses[name] & uses[other]:
                told = (f"{' and '.join(sorted(uses[file]))} in {file}" for file in (name, other))
                wrong.append(f"{molecule} is {', but '.join(told)}")
    if wrong:
        more = f" (and {len(wrong) - NAMED} more)" if len(wrong) > NAMED else ""
        raise UserError(
            f"merge-data: {'; '.join(wrong[:NAMED])}{more}. Errors on it would not be those on unseen molecules: give it the "
            "same split in all files, or leave it out of one"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``merge-data``."""
    parser.description = (
        "Join labeled datasets of one teacher; a molecule keeps its split, and must have one in all files."
    )
    parser.add_argument("--datasets", type=Path, nargs="+", required=True, help="labeled datasets (HDF5 or extxyz)")
    parser.add_argument("--same-teacher", type=Path, help="what the command 'same-teacher' wrote about one of them, whose "
                        "labels then count as that teacher's")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="dataset to write (HDF5)")
    parser.add_argument("--card", type=Path, help="also write counts as JSON")


def run(args: argparse.Namespace) -> int:
    """Read, check, join and write."""
    from mlff_distiller.utils.files import read_json, write_json

    parts = {str(path): read_dataset(path) for path in args.datasets}
    if args.same_teacher:
        shown = read_json(args.same_teacher)
        found = [name for name, dataset in parts.items() if content_hash(dataset) == shown["content_sha256"]]
        if not found:
            raise UserError(f"{args.same_teacher} is about none of these datasets; run 'same-teacher' for one of them")
        parts |= {name: replace(parts[name], teacher=shown["teacher"]) for name in found}
    merged = merge(parts)
    write_dataset(args.output, merged)
    if args.card:
        write_json(args.card, summary(merged) | {"merged": {name: len(dataset) for name, dataset in parts.items()}})
    splits = Counter(merged.splits[row] for row in merged.split.tolist())
    counts = ", ".join(f"{name} {n}" for name, n in splits.items())
    print(f"{args.output}: {len(merged)} configurations of {len(parts)} files ({counts})")
    return 0
