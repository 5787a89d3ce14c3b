"""Which frames of a student's own trajectories the teacher labels.

Of each trajectory there are candidates: the last frames before it diverged, those with the largest expected errors, and some
evenly over it. Of all candidates together those before a divergence are chosen first, up to half; then some evenly, molecules
in turn; then those with the largest expected errors, elements in turn.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mlff_distiller.md.explore_settings import ExploreSettings

#: Why a frame may be chosen.
REASONS = DIVERGING, WORST, EVEN = "before a divergence", "expected error", "evenly"
#: Of all labels, at most so many are of frames before a divergence.
MOST_DIVERGING = 0.5


@dataclass(frozen=True)
class Candidate:
    """A frame that may be labeled.

    Attributes:
        trajectory: which one it is of.
        time_fs: when; no two chosen frames of a trajectory are closer than ``apart_fs``, those before a divergence aside.
        why: one of :data:`REASONS`.
        score: eV/A, the largest error that the student expects of a force component; 0 where it expects nothing.
        element: atomic number of the atom that it is expected of.
        molecule: name of what moves.
    """

    trajectory: int
    time_fs: float
    why: str
    score: float
    element: int
    molecule: str


def of_trajectory(
    times: np.ndarray, scores: np.ndarray | None, diverged: bool, settings: ExploreSettings
) -> list[tuple[int, str]]:
    """Candidates of one trajectory: which frames, and why each; a frame may stand there for several reasons.

    Args:
        times: [T] fs, ascending, of the frames before a divergence.
        scores: [T], see :class:`Candidate`; None where the student expects nothing.
        diverged: whether the trajectory ended so.
        settings: how many, and how far apart.
    """
    n, most = len(times), settings.per_trajectory
    found = [(k, DIVERGING) for k in range(max(0, n - settings.before_divergence), n) if diverged]
    # Neither the start, which has a label, nor more than there are.
    evenly = np.unique(np.linspace(0, n - 1, min(most, n - 1) + 1).round().astype(int))[1:] if n > 1 else []
    found += [(int(k), EVEN) for k in evenly]
    worst: list[int] = []
    for k in [] if scores is None else np.argsort(-scores, kind="stable").tolist():
        if len(worst) < most and all(abs(times[k] - times[other]) >= settings.apart_fs for other in worst):
            worst.append(k)
    return found + [(k, WORST) for k in worst]


def choose(candidates: Sequence[Candidate], n: int, settings: ExploreSettings, seed: int) -> list[int]:
    """Indices of at most ``n`` of ``candidates``, ascending."""
    shuffled = np.random.default_rng(seed).permutation(len(candidates)).tolist()

    def queue(why: str, by: str, first: str | None = None) -> list[int]:
        order = [k for k in shuffled if candidates[k].why == why]
        if first is not None:
            order.sort(key=lambda k: -getattr(candidates[k], first))
        return _in_turn(order, candidates, by)

    # The closer to a divergence, the more there is to learn.
    queues = {
        DIVERGING: queue(DIVERGING, "trajectory", "time_fs"),
        EVEN: queue(EVEN, "molecule"),
        WORST: queue(WORST, "element", "score"),
    }
    chosen: list[int] = []
    times: dict[int, list[float]] = {}
    counted: dict[int, int] = {}

    def take(why: str, most: int) -> None:
        for k in queues[why]:
            if len(chosen) >= min(most, n):
                return
            one, time = candidates[k].trajectory, candidates[k].time_fs
            there = times.setdefault(one, [])
            full = why != DIVERGING and counted.get(one, 0) >= settings.per_trajectory
            apart = 0.0 if why == DIVERGING else settings.apart_fs
            if full or any(time == other or abs(time - other) < apart for other in there):
                continue
            counted[one] = counted.get(one, 0) + (why != DIVERGING)
            there.append(time)
            chosen.append(k)

    take(DIVERGING, round(MOST_DIVERGING * n))
    take(EVEN, len(chosen) + round(settings.evenly * n))
    # Where there are too few of one sort, others take their place.
    for why in (WORST, EVEN, DIVERGING):
        take(why, n)
    return sorted(chosen)


def _in_turn(order: Iterable[int], candidates: Sequence[Candidate], by: str) -> list[int]:
    """``order``, one of each group at a time; the candidates with the same ``by`` are a group."""
    groups: dict[Hashable, list[int]] = {}
    for k in order:
        groups.setdefault(getattr(candidates[k], by), []).append(k)
    places = [(place, rank, k) for rank, group in enumerate(groups.values()) for place, k in enumerate(group)]
    return [k for _, _, k in sorted(places)]
