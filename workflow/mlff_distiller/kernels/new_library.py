"""A compiled library enters the user's cache, which several nodes may share."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlff_distiller.utils.errors import UserError


@contextlib.contextmanager
def new_library(library: Path) -> Iterator[Path]:
    """A file beside ``library``, of this process alone, to compile into; it becomes ``library`` unless there is one by then.

    The first one stays: on a network file system a process that has loaded a library loses it when another takes its place.

    Raises:
        UserError: its folder cannot be written to.
    """
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=library.parent, prefix=f".{library.stem}.", suffix=library.suffix)
    except OSError as error:
        raise UserError(
            f"{library.parent}: a compiled kernel cannot be written there ({error.strerror}); set MLFF_DISTILLER_CACHE to a "
            "folder that you can write to"
        ) from error
    os.close(handle)
    made = Path(name)
    try:
        yield made
        made.chmod(0o755)
        try:
            os.link(made, library)
        except FileExistsError:
            pass
        except OSError:
            # No hard links on this file system.
            os.replace(made, library)
    finally:
        made.unlink(missing_ok=True)
