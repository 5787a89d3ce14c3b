"""Finds torch-cluster in the cache and imports it."""

import dataclasses
import functools
import importlib
import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType

from mlff_distiller.records import schema
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import user_cache


@dataclasses.dataclass(frozen=True)
class Key:
    """Everything that a compiled torch-cluster depends on."""

    python: str  # "cp311"
    torch: str  # "2.5.1", without the build's label
    abi: str  # "abi0" or "abi1": the C++ string layout, in which builds of one torch version differ
    flavor: str  # "cpu", or "cu124"
    processor: str  # "x86_64"; with a GPU also its architecture: "x86_64-sm90"

    def __str__(self) -> str:
        return f"{self.python}-torch{self.torch}-{self.abi}-{self.flavor}-{self.processor}"

    @property
    def label(self) -> str:
        """The label of torch and CUDA in the names of PyG's wheels: ``pt25cu124``."""
        major, minor = self.torch.split(".")[:2]
        return f"pt{major}{minor}{self.flavor}"


@functools.cache
def current_key() -> Key:
    """The key of this process's Python and torch.

    A CUDA build of torch without a usable GPU counts as ``cpu``: only the CPU version is needed, and can be built, there.
    """
    import torch

    flavor, processor = "cpu", platform.machine()
    if torch.version.cuda and torch.cuda.is_available():
        flavor = "cu" + torch.version.cuda.replace(".", "")
        processor += "-sm{}{}".format(*torch.cuda.get_device_capability(0))
    return Key(
        f"cp{sys.version_info.major}{sys.version_info.minor}",
        torch.__version__.split("+")[0],
        f"abi{int(torch.compiled_with_cxx11_abi())}",
        flavor,
        processor,
    )


def activate(record_path: str | Path) -> ModuleType:
    """Import the ``torch_cluster`` that the record of the torch-cluster stage names.

    Args:
        record_path: the stage's output.

    Returns:
        The module ``torch_cluster``.

    Raises:
        UserError: the record says unavailable (the message is its reason), it is of another Python or torch, or the cache
            no longer has the files that it names.
    """
    found = next((entry for entry in schema.read(record_path) if entry["kind"] == "torch_cluster"), None)
    if found is None:
        raise UserError(f"{record_path}: has no torch-cluster record; delete it and run the workflow again")
    if found["status"] != "ok":
        raise UserError(f"torch-cluster is unavailable: {found['reason']}")
    if found["key"] != str(current_key()):
        raise UserError(
            f"{record_path}: torch-cluster was found for {found['key']}, this is {current_key()}; "
            "delete the file and run the workflow again"
        )
    if found["origin"] != "installed":
        site = cache_folder(found["key"]) / found["origin"] / "site"
        if not site.is_dir():
            raise UserError(
                f"torch-cluster is no longer in the cache ({site}); delete {record_path} and run the workflow again"
            )
        if str(site) not in sys.path:
            sys.path.insert(0, str(site))
    import torch  # noqa: F401  # loads the libraries that the extension needs

    try:
        return importlib.import_module("torch_cluster")
    except Exception as error:
        raise UserError(
            f"torch-cluster does not load ({error}); delete {record_path} and run the workflow again"
        ) from None


def cache_folder(key: str) -> Path:
    """Folder of torch-cluster for ``key`` in the cache."""
    return user_cache() / "torch-cluster" / key
