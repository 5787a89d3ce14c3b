"""Stage ``import-data``: a user's own labels, checked and written as a dataset."""

import argparse
from pathlib import Path

from mlff_distiller.data.dataset import Dataset, summary, write_dataset
from mlff_distiller.data.own_data_settings import OwnDataFractions, OwnDataSettings
from mlff_distiller.data.read import is_hdf5, read_dataset
from mlff_distiller.data.split_notes import notes_on_split
from mlff_distiller.data.units import check_units, refuse_units


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``import-data``."""
    parser.description = "Check labels of one's own and write them as a dataset that the other stages read."
    parser.add_argument("--dataset", type=Path, required=True, help="trajectory with energies and forces, or HDF5")
    parser.add_argument("--settings", default="{}", help="keys, split, ... (JSON text or a file)")
    parser.add_argument("--held-out", action="store_true", help="nothing is learned of it: frames without a split of "
                        "their own are all for the test")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="labeled dataset to write (HDF5)")
    parser.add_argument("--card", type=Path, required=True, help="dataset card to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Read, check and write."""
    from mlff_distiller.utils import provenance
    from mlff_distiller.utils.files import load_settings, sha256_of, write_json

    settings = OwnDataSettings.from_mapping(load_settings(args.settings))
    if args.held_out:
        settings = settings.model_copy(update={"fractions": OwnDataFractions(val=0.0, test=1.0)})
    dataset = read_dataset(args.dataset, settings)
    if is_hdf5(args.dataset):
        check_frames(args.dataset, dataset, settings)
    units = check_units(dataset)
    if units.doubts and settings.check_units:
        refuse_units(args.dataset, units.doubts)
    path = write_dataset(args.output, dataset)
    card = summary(dataset) | {"source": args.dataset.name, "own_data": settings.to_mapping()}
    card["file_sha256"] = sha256_of(path)
    card["notes"] = notes_on_split(dataset)
    if units.unknown:
        card["notes"].append(f"units could not be checked by {', nor by '.join(units.unknown)}; are they eV and eV/A?")
    write_json(args.card, card | {"provenance": provenance.collect()})
    counts = ", ".join(f"{name} {split['configurations']}" for name, split in card["by_split"].items())
    print(f"{path}: {len(dataset)} configurations of {len(dataset.molecules)} molecules ({counts})")
    for note in card["notes"]:
        print(f"note: {note}")
    return 0


def check_frames(path: Path, dataset: Dataset, settings: OwnDataSettings) -> None:
    """Refuse in HDF5 what is refused in every other format while it is read.

    Raises:
        UserError: atoms that make no sense, or placeholders for labels; names the configuration.
    """
    import numpy as np

    from mlff_distiller.data.labels import check_there_are_labels
    from mlff_distiller.systems.read import check_atoms

    frames = [check_atoms(dataset.atoms(i), f"{path}: frame {i}", settings.allow) for i in range(len(dataset))]
    forces = np.split(dataset.forces, dataset.offsets[1:-1])
    check_there_are_labels(path, frames, dataset.energies.tolist(), forces, settings.check_units)
