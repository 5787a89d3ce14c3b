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


def span(which: Share, weights: Sequence[float]) -> tuple[int, int]:
    """The first task of a share, and the first one after it: neighbors, of about the same cost in each share."""
    ends = np.cumsum(np.asarray(weights, dtype=np.float64))
    middles = ends - np.asarray(weights) / 2
    total = float(ends[-1]) if len(ends) else 0.0

    def before(number: int) -> int:
        return len(ends) if number == which.of else int(np.searchsorted(middles, number * total / which.of))

    return before(which.number - 1), before(which.number)


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
        return self._make(0, len(self.weights), self.key, parts, cores)

    def make_share(self, which: Share, output: Path, cores: int) -> tuple[Path, int]:
        """Write the results of one share; its file, and how many tasks are in it.

        Finished ones stay beside the file until it is written, by which an interrupted run resumes.
        """
        import shutil

        path = share_path(output, which)
        parts = path.with_suffix(".parts")
        first, after = span(which, self.weights)
        found = self._make(first, after, f"{self.key} {which}", parts, cores)
        write_part(path, found | self._label(which))
        shutil.rmtree(parts, ignore_errors=True)
        return path, after - first

    def gather(self, of: int, output: Path) -> Arrays:
        """The results of all tasks, joined, from ``of`` shares.

        Raises:
            UserError: by its name, a share that is missing, damaged, another one than its name says, or of other work.
        """
        return self._joined([self._read(Share(number, of), output) for number in range(1, of + 1)])

    def _make(self, first: int, after: int, key: str, parts: Path, cores: int) -> Arrays:
        tasks = [self.task(index) for index in range(first, after)]
        weights = self.weights[first:after]

        def name_of(index: int) -> str:
            return self.name_of(first + index)

        return self._joined(
            run_in_parts(self.function, tasks, parts, key, cores, self.description, weights, name_of, self.fallback)
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
            "span": np.array(span(which, self.weights), dtype=np.int64),
        }

    def _read(self, which: Share, output: Path) -> Arrays:
        path = share_path(output, which)
        again = f"the same command with --share {which} instead of --shares {which.of}"
        if not path.is_file():
            raise UserError(f"{path}: no such share; make it by {again}")
        found = read_part(path)
        missing = [name for name in (*self.template, *self._label(which)) if name not in found]
        if missing:
            raise UserError(f"{path}: not a share ({missing[0]} is not in it); delete it and make it by {again}")
        if str(found["key"]) != self.key:
            raise UserError(
                f"{path}: a share of something else: made from other input, or with other settings; make it by {again}"
            )
        if str(found["share"]) != str(which):
            raise UserError(f"{path}: holds the share {found['share']}; make it by {again}")
        if not np.array_equal(found["span"], span(which, self.weights)):
            held, expected = found["span"].tolist(), list(span(which, self.weights))
            raise UserError(f"{path}: holds the tasks {held} instead of {expected}; make it by {again}")
        return {name: found[name] for name in self.template}
