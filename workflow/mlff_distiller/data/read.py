"""Labeled configurations from a file, whatever its form."""

from pathlib import Path

from mlff_distiller.data.dataset import Dataset, read_configurations
from mlff_distiller.data.own_data_settings import OwnDataSettings
from mlff_distiller.utils.errors import UserError

#: The first bytes of every HDF5 file.
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def read_dataset(path: str | Path, own: OwnDataSettings = OwnDataSettings()) -> Dataset:  # noqa: B008 (frozen)
    """Labeled configurations: this project's HDF5, or a user's own in any format of ASE, with energies and forces.

    Args:
        path: a file that begins as HDF5 does, or is called so (``.h5``, ``.hdf5``), is read by
            :func:`mlff_distiller.data.dataset.read_configurations`, all else by
            :func:`mlff_distiller.data.extxyz.read_extxyz`.
        own: how a user's own are read.

    Raises:
        UserError: unreadable, without labels, or with labels that seem to be in other units.
    """
    path = Path(path)
    if not is_hdf5(path):
        from mlff_distiller.data.extxyz import read_extxyz

        return read_extxyz(path, own)
    dataset = read_configurations(path)
    if dataset.energies is None or dataset.forces is None:
        raise UserError(f"{path}: configurations without labels; make them with: python -m mlff_distiller label")
    return dataset


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does, or is called so."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
