"""Many independent tasks in parallel, each result saved on disk, so that an interrupted run resumes."""

import contextlib
import io
import itertools
import multiprocessing
import os
import signal
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mlff_distiller.utils.errors import UserError, first_line
from mlff_distiller.utils.files import exclusive, write_bytes, write_text

T = TypeVar("T")
#: One thread per worker: the work is already parallel, and small matrices gain nothing from more.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run_in_parts(
    function: Callable[[Any], dict[str, np.ndarray]],
    tasks: Sequence[Any],
    directory: str | Path,
    key: str,
    cores: int,
    description: str,
    weights: Sequence[float] | None = None,
    name_of: Callable[[int], str] = "part {}".format,
    fallback: Callable[[Any], dict[str, np.ndarray]] | None = None,
) -> list[dict[str, np.ndarray]]:
    """``[function(task) for task in tasks]``, in parallel processes, each result saved in ``directory``.

    Args:
        function: importable by name (workers are fresh processes); returns arrays, none of dtype object.
        tasks: picklable.
        directory: for the parts ``000000.npz`` ...; parts that are there already are read instead of computed.
        key: names the whole job; parts of a job with another key are dropped.
        cores: how many processes.
        description: of the progress bar.
        weights: of the tasks, for the progress bar; 1 each when None.
        name_of: what a person calls the task of an index, for the message about a worker that died.
        fallback: makes the result of a task at which a worker may have died, here and not in a worker; see :func:`apart`.

    Raises:
        UserError: interrupted, or a worker died and there is no ``fallback``; the parts done so far stay.
    """
    directory = Path(directory)
    with exclusive(directory, f"{description}: another process is at work in {directory}; waiting for it"):
        return _run(function, tasks, directory, key, cores, description, weights, name_of, fallback)


def apart(function: Callable[[Any], T], tasks: Iterable[Any]) -> Iterator[T | None]:
    """``function`` of each of ``tasks``, one after the other in a process beside this one; None where the process died.

    Raises:
        UserError: interrupted.
    """
    pool = None
    try:
        for task in tasks:
            pool = pool or _pool(1)
            try:
                yield pool.submit(function, task).result()
            except BrokenProcessPool:
                pool.shutdown()
                pool = None
                yield None
    except KeyboardInterrupt:
        raise UserError("interrupted; run the same command again to go on") from None
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


class _WorkerDied(Exception):
    """A worker died at one of the tasks ``at``."""

    def __init__(self, at: Sequence[int]) -> None:
        super().__init__()
        self.at = at


def _run(
    function: Callable[[Any], dict[str, np.ndarray]],
    tasks: Sequence[Any],
    directory: Path,
    key: str,
    cores: int,
    description: str,
    weights: Sequence[float] | None,
    name_of: Callable[[int], str],
    fallback: Callable[[Any], dict[str, np.ndarray]] | None,
) -> list[dict[str, np.ndarray]]:
    written = directory / "key"
    if not written.is_file() or written.read_text(encoding="utf-8") != key:
        for path in directory.glob("*.npz"):
            path.unlink()
        write_text(written, key)
    paths = [directory / f"{index:06d}.npz" for index in range(len(tasks))]
    weights = [1.0] * len(tasks) if weights is None else list(weights)
    missing = [index for index, path in enumerate(paths) if not path.is_file()]
    done = sum(weights) - sum(weights[index] for index in missing)
    if missing and len(missing) < len(tasks):
        print(f"{description}: {len(tasks) - len(missing)} of {len(tasks)} parts are done already", flush=True)
    if missing:
        with _progress(description, sum(weights), done) as advance, _environment(ONE_THREAD):
            while missing:
                try:
                    _compute(function, tasks, paths, missing, weights, cores, advance)
                except _WorkerDied as death:
                    names = " or ".join(map(name_of, death.at))
                    if fallback is None or not death.at:
                        raise UserError(
                            f"a worker process died (out of memory, or ended from outside?){f' at {names}' if names else ''}; "
                            f"what is done stays in {directory}: run the same command again to go on, with fewer --cores if "
                            "memory is short"
                        ) from None
                    print(
                        f"{description}: a worker process died at {names}: once more, apart from the others", flush=True
                    )
                    for index in death.at:
                        write_part(paths[index], fallback(tasks[index]))
                        advance(weights[index])
                missing = [index for index in missing if not paths[index].is_file()]
    return [read_part(path) for path in paths]


def read_part(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one part.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: not a readable part ({first_line(error)}); delete it and run the same command again"
        ) from None


def _compute(
    function: Callable[[Any], dict[str, np.ndarray]],
    tasks: Sequence[Any],
    paths: Sequence[Path],
    missing: Sequence[int],
    weights: Sequence[float],
    cores: int,
    advance: Callable[[float], None],
) -> None:
    queue = iter(missing)
    workers = max(1, min(cores, len(missing)))
    with _pool(workers) as pool:
        running: dict[Any, int] = {}
        try:
            while True:
                for index in itertools.islice(queue, max(0, 2 * cores - len(running))):
                    running[pool.submit(_one, function, tasks[index], paths[index])] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    advance(weights[running.pop(future)])
        except KeyboardInterrupt:
            raise UserError(
                f"interrupted; what is done stays in {paths[0].parent}: run the same command again to go on"
            ) from None
        except BrokenProcessPool:
            # Tasks are begun in order: among those that are not done, a worker was at one of the first.
            at = sorted(index for index in running.values() if not paths[index].is_file())[:workers]
            raise _WorkerDied(at) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    # spawn, not fork: a forked worker would inherit an OpenMP runtime that was started with other settings.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    """In a worker: let it finish its part when the user presses Ctrl-C, for the parent stops the pool; end it with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker waits for tasks for ever: the queue's other end is open in the workers, too.
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _one(function: Callable[[Any], dict[str, np.ndarray]], task: Any, path: Path) -> None:
    write_part(path, function(task))


def write_part(path: Path, result: dict[str, np.ndarray]) -> None:
    """Write the arrays of one part, none of dtype object, to ``path`` (npz), atomically."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **result)
    write_bytes(path, stream.getvalue())


@contextlib.contextmanager
def _progress(description: str, total: float, done: float) -> Iterator[Callable[[float], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total)
        progress.advance(task, done)
        yield lambda weight: progress.advance(task, weight)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
