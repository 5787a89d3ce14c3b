"""Labeled configurations from a file, whatever its form."""

from pathlib import Path

from mlff_distiller.data.dataset import Dataset, read_configurations
from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.utils.errors import UserError


def read_dataset(path: str | Path, own: OwnDataSettings = OwnDataSettings()) -> Dataset:  # noqa: B008 (frozen)
    """Labeled configurations: this project's HDF5, or a user's own (ext)xyz with energies and forces.

    Args:
        path: ``.xyz`` or ``.extxyz`` is read by :func:`mlff_distiller.data.extxyz.read_extxyz`; all else is HDF5 (see the
            module's text).
        own: how a user's own are read.

    Raises:
        UserError: unreadable, without labels, or with labels in what look like other units.
    """
    if Path(path).suffix.lower() in (".xyz", ".extxyz"):
        from mlff_distiller.data.extxyz import read_extxyz

        return read_extxyz(path, own)
    dataset = read_configurations(path)
    if dataset.energies is None or dataset.forces is None:
        raise UserError(f"{path}: configurations without labels; make them with: python -m mlff_distiller label")
    return dataset
