"""Reading settings and writing results. Files are written atomically."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mlff_distiller.utils.errors import UserError

#: The checkout that holds this package; of no use where the package is installed by itself.
CHECKOUT = Path(__file__).resolve().parents[3]

#: Errors of file systems without locks.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def checkout(what: str) -> Path:
    """:data:`CHECKOUT`, for a command ``what`` that writes to it.

    Raises:
        UserError: this is the installed package.
    """
    if not (CHECKOUT / "pyproject.toml").is_file():
        raise UserError(f"{what} is for a checkout of the repository, and this is the installed package")
    return CHECKOUT


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path`` atomically: a temporary file beside it, flushed to disk, then renamed over it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; results are for everyone the umask lets in.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    return write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as strict JSON (no NaN, no Infinity) to ``path`` atomically."""
    return write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The JSON value in ``path``; a missing or damaged file is a :class:`UserError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the workflow again") from None


def split_frame(path: str | Path) -> tuple[str, int | None]:
    """The file, and the frame in it, that ``file`` or ``file@index`` names; a name that is a file is taken as it is."""
    file, at, index = str(path).rpartition("@")
    if not at or not index.removeprefix("-").isdecimal() or Path(path).is_file():
        return str(path), None
    return file, int(index)


def sha256_of(path: str | Path) -> str:
    """Hash of a file, or of the names and contents of all files below a folder."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        if path.is_dir():
            digest.update(str(file.relative_to(path)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def load_settings(text_or_path: str | Path) -> dict[str, Any]:
    """Settings from JSON text (begins with ``{``) or from a YAML or JSON file."""
    # Imported here: only the stages read settings, and loading a bundle must not need yaml.
    import yaml

    text = str(text_or_path)
    if not text.lstrip().startswith("{"):
        if not Path(text).is_file():
            raise UserError(f"--settings {text}: no such file, and not JSON text (which begins with '{{')")
        text = Path(text).read_text(encoding="utf-8")
    try:
        value = json.loads(text)
    except ValueError:
        # JSON first: 1e-05, as it writes a small number, is text to YAML.
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--settings: neither valid JSON nor YAML: {error}") from None
    if not isinstance(value, dict):
        raise UserError("--settings: expected a mapping of keys to values")
    return value


@contextlib.contextmanager
def exclusive(folder: Path, waiting: str = "") -> Iterator[bool]:
    """Only one process at a time works on ``folder``; the lock ends with its process.

    Some network file systems have no locks; there only the atomic writes protect the files, and what is yielded is False: what
    looks left over may be the work of another process.

    Args:
        folder: made when it is not there.
        waiting: printed when another process holds the lock.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="utf-8") as handle:
        try:
            _lock(handle, waiting)
            alone = True
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            alone = False
        yield alone


def _lock(handle: IO[str], waiting: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting:
            print(waiting, flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)


def user_cache() -> Path:
    """The user's cache: ``$MLFF_DISTILLER_CACHE``, else ``$XDG_CACHE_HOME/mlff-distiller``, else ``~/.cache/mlff-distiller``.

    A user without a home (in a container, say) gets a private folder among the temporary files.

    Raises:
        UserError: that folder belongs to, or can be written to by, another user.
    """
    if explicit := os.environ.get("MLFF_DISTILLER_CACHE"):
        return Path(explicit)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "mlff-distiller"
    # For a user without an entry and without $HOME, the path stays as it is.
    home = Path(os.path.expanduser("~"))
    if home.is_absolute() and home.is_dir():
        return home / ".cache" / "mlff-distiller"
    cache = Path(tempfile.gettempdir()) / f"mlff-distiller-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        cache.mkdir(mode=0o700)
    # Programs are loaded from there, so no other user may write to it.
    found = cache.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UserError(f"{cache}: not a folder of this user alone; set MLFF_DISTILLER_CACHE to one")
    return cache
