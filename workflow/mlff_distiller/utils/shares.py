"""Many independent tasks in shares, each made by a job of its own, on whatever machine, and gathered by another one.

What is gathered equals, array for array, what one job makes of all tasks: their order is that of the tasks, and no result
depends on the task before it.
"""

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.parallel import read_part, run_in_parts, write_part

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Share:
    """The ``number``-th of ``of`` shares, counted from 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}-of-{self.of}"


def share(text: str) -> Share:
    """The share that ``text``, "2-of-3" say, names; for argparse."""
    found = re.fullmatch(r"(\d+)-of-(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(
            f"expected the number of a share and how many there are, 2-of-3 say, got {text!r}"
        )
    return Share(int(found[1]), int(found[2]))


def number_of_shares(text: str) -> int:
    """A whole number from 1; for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of shares, 1 or more, got {text!r}")
    return int(text)


def share_path(output: Path, which: Share) -> Path:
    """The file of a share of what ``output`` will hold."""
    return output.with_name(f"{output.name}.shares") / f"{which}.npz"


def tasks_of(of: int, weights: Sequence[float]) -> list[np.ndarray]:
    """The tasks of each of ``of`` shares, ascending int64.

    In turn, so that each share has as much of what stands together as any other: molecules of a kind, say, which cost a teacher
    other times than ``weights`` foresee. Of each ``of`` neighbors the heaviest goes to the share that has least so far.
    """
    loads = np.zeros(of)
    owners = np.zeros(len(weights), dtype=np.int64)
    for first in range(0, len(weights), of):
        block = np.asarray(weights[first : first + of], dtype=np.float64)
        heaviest = np.argsort(-block, kind="stable")
        lightest = np.argsort(loads, kind="stable")[: len(block)]
        owners[first + heaviest] = lightest
        loads[lightest] += block[heaviest]
    return [np.flatnonzero(owners == number) for number in range(of)]


def add_share_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments by which a command makes one share of its work, or gathers all."""
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--share", type=share, metavar="I-of-N", help="make this share alone, OUTPUT.shares/I-of-N.npz: "
                       "several machines at once, each another one")  # fmt: skip
    asked.add_argument("--shares", type=number_of_shares, metavar="N", help="gather N shares that are made")


@dataclass(frozen=True)
class Work:
    """Tasks that one job does, or several jobs in shares.

    Attributes:
        function: of a task; returns arrays by the names of ``template``. Importable by name.
        task: makes the task of an index; picklable.
        weights: what each task costs, in any unit.
        key: names the whole work; results of another key belong to something else.
        description: of the progress bar.
        name_of: what a person calls a task.
        template: arrays of the names, dtypes and trailing shapes of the results.
        fallback: of a task at which a worker may have died; see :func:`mlff_distiller.utils.parallel.run_in_parts`.
    """

    function: Callable[[Any], Arrays]
    task: Callable[[int], Any]
    weights: Sequence[float]
    key: str
    description: str
    name_of: Callable[[int], str]
    template: Mapping[str, np.ndarray]
    fallback: Callable[[Any], Arrays] | None = None

    def done(self, args: argparse.Namespace, parts: Path) -> Arrays | None:
        """What a command with :func:`add_share_arguments`, ``--output`` and ``--cores`` asks for; None where that is one share.

        Raises:
            UserError: see :meth:`gather`, and :func:`mlff_distiller.utils.parallel.run_in_parts`.
        """
        if args.shares:
            return self.gather(args.shares, args.output)
        if args.share is None:
            return self.make(parts, args.cores)
        path, tasks = self.make_share(args.share, args.output, args.cores)
        print(f"{path}: {tasks} of {len(self.weights)} parts of the work; gather all by --shares {args.share.of}")
        return None

    def make(self, parts: Path, cores: int) -> Arrays:
        """The results of all tasks, joined; finished ones stay in ``parts``, by which an interrupted run resumes."""
        return self._joined(self._results(range(len(self.weights)), self.key, parts, cores))

    def make_share(self, which: Share, output: Path, cores: int) -> tuple[Path, int]:
        """Write the results of one share; its file, and how many tasks are in it.

        Finished ones stay beside the file until it is written, by which an interrupted run resumes.
        """
        import shutil

        path = share_path(output, which)
        parts = path.with_suffix(".parts")
        chosen = tasks_of(which.of, self.weights)[which.number - 1].tolist()
        results = self._results(chosen, f"{self.key} {which} in turn", parts, cores)
        lengths = [[len(np.atleast_1d(result[name])) for name in self.template] for result in results]
        about = self._label(which) | {"lengths": np.array(lengths, dtype=np.int64).reshape(-1, len(self.template))}
        write_part(path, self._joined(results) | about)
        shutil.rmtree(parts, ignore_errors=True)
        return path, len(chosen)

    def gather(self, of: int, output: Path) -> Arrays:
        """The results of all tasks, joined, from ``of`` shares.

        Raises:
            UserError: by its name, a share that is missing, damaged, another one than its name says, or of other work.
        """
        results: list[Arrays] = [{}] * len(self.weights)
        for number, tasks in enumerate(tasks_of(of, self.weights), start=1):
            found = self._read(Share(number, of), tasks, output)
            ends = np.cumsum(found["lengths"], axis=0)
            starts = ends - found["lengths"]
            for task, start, end in zip(tasks.tolist(), starts.tolist(), ends.tolist(), strict=True):
                results[task] = {name: found[name][a:b] for name, a, b in zip(self.template, start, end, strict=True)}
        return self._joined(results)

    def _results(self, chosen: Sequence[int], key: str, parts: Path, cores: int) -> list[Arrays]:
        """Those of the tasks ``chosen``."""
        return run_in_parts(
            self.function,
            [self.task(index) for index in chosen],
            parts,
            key,
            cores,
            self.description,
            [self.weights[index] for index in chosen],
            lambda index: self.name_of(chosen[index]),
            self.fallback,
        )

    def _joined(self, results: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
        return {
            name: np.concatenate([empty[:0], *(np.atleast_1d(result[name]) for result in results)])
            for name, empty in self.template.items()
        }

    def _label(self, which: Share) -> Arrays:
        """What a share says of itself."""
        return {
            "key": np.array(self.key),
            "share": np.array(str(which)),
            "tasks": np.array(len(self.weights)),
        }

    def _read(self, which: Share, tasks: np.ndarray, output: Path) -> Arrays:
        path = share_path(output, which)
        again = f"the same command with --share {which} instead of --shares {which.of}"
        if not path.is_file():
            raise UserError(f"{path}: no such share; make it by {again}")
        found = read_part(path)
        missing = [name for name in (*self.template, *self._label(which), "lengths") if name not in found]
        if missing:
            raise UserError(f"{path}: not a share ({missing[0]} is not in it); delete it and make it by {again}")
        if str(found["key"]) != self.key:
            raise UserError(
                f"{path}: a share of something else: made from other input, or with other settings; make it by {again}"
            )
        if str(found["share"]) != str(which):
            raise UserError(f"{path}: holds the share {found['share']}; make it by {again}")
        if int(found["tasks"]) != len(self.weights) or len(found["lengths"]) != len(tasks):
            held, expected = f"{len(found['lengths'])} of {found['tasks']}", f"{len(tasks)} of {len(self.weights)}"
            raise UserError(f"{path}: holds {held} tasks instead of {expected}; make it by {again}")
        return found
