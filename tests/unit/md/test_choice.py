"""Which frames of a student's own trajectories are labeled."""

from collections import Counter

import numpy as np
import pytest

from mlff_distiller.md.choice import DIVERGING, EVEN, WORST, Candidate, choose, of_trajectory
from mlff_distiller.md.explore_settings import ExploreSettings

TIMES = np.arange(101) * 10.0


def settings(**changes):
    return ExploreSettings.from_mapping({"per_trajectory": 4, "apart_fs": 100.0, "before_divergence": 2, **changes})


def of(found, why):
    return [frame for frame, reason in found if reason == why]


def test_of_one_trajectory_the_worst_frames_are_no_neighbors():
    scores = np.sin(TIMES / 50.0)
    worst = of(of_trajectory(TIMES, scores, False, settings()), WORST)
    assert worst[0] == scores.argmax()
    assert len(worst) == 4
    assert min(abs(TIMES[a] - TIMES[b]) for a in worst for b in worst if a != b) >= 100.0


def test_the_last_frames_before_a_divergence_are_candidates_and_only_then():
    assert of(of_trajectory(TIMES, None, True, settings()), DIVERGING) == [99, 100]
    assert of(of_trajectory(TIMES, None, False, settings()), DIVERGING) == []
    assert of(of_trajectory(TIMES, None, True, settings(before_divergence=0)), DIVERGING) == []


def test_without_expectations_frames_lie_evenly_and_the_start_is_none():
    found = of_trajectory(TIMES, None, False, settings())
    assert {why for _, why in found} == {EVEN}
    assert of(found, EVEN) == [25, 50, 75, 100]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_trajectory_that_hardly_began_gives_what_there_is(n):
    found = of_trajectory(TIMES[:n], np.ones(n), True, settings())
    assert of(found, DIVERGING) == list(range(n))
    assert all(frame < n for frame, _ in found)


def candidates(n_trajectories=20, frames=8, diverged=()):
    """Trajectory k is of molecule k, with an error to expect of k + 1 on carbon if k is even, else on oxygen."""
    made = []
    for k in range(n_trajectories):
        for frame in range(frames):
            for why in (EVEN, WORST):
                made.append(Candidate(k, frame * 100.0, why, k + 1.0, 6 if k % 2 == 0 else 8, f"m{k}"))
        if k in diverged:
            made += [Candidate(k, 5000.0 + frame, DIVERGING, 0.0, 6, f"m{k}") for frame in range(2)]
    return made


def chosen(given, n, **changes):
    return [given[k] for k in choose(given, n, settings(**changes), seed=3)]


def test_frames_before_a_divergence_come_first_up_to_half():
    few = chosen(candidates(diverged=(4,)), 10)
    assert [(c.trajectory, c.time_fs) for c in few if c.why == DIVERGING] == [(4, 5000.0), (4, 5001.0)]
    many = chosen(candidates(diverged=range(20)), 10)
    assert len(many) == 10
    last = [c for c in many if c.why == DIVERGING]
    assert len(last) == 5
    assert len({c.trajectory for c in last}) == 5, "each diverged trajectory in turn"
    assert {c.time_fs for c in last} == {5001.0}, "the frame that is closest to the divergence first"


def test_no_trajectory_gives_more_than_its_share_and_no_near_copies():
    found = chosen(candidates(), 1000)
    assert len(found) == 20 * 4
    assert set(Counter(c.trajectory for c in found).values()) == {4}
    assert len({(c.trajectory, c.time_fs) for c in found}) == len(found)
    apart = chosen(candidates(), 1000, apart_fs=250.0)
    for one in range(20):
        times = sorted(c.time_fs for c in apart if c.trajectory == one)
        assert min(np.diff(times)) >= 250.0


def test_the_rest_goes_by_the_expected_error_elements_in_turn():
    found = chosen(candidates(), 16, evenly=0.0)
    assert Counter(c.element for c in found) == {6: 8, 8: 8}
    assert {c.trajectory for c in found} == {16, 17, 18, 19}, "those with the largest errors"
    even = [c for c in chosen(candidates(), 20, evenly=0.5) if c.why == EVEN]
    assert len(even) == 10
    assert len({c.molecule for c in even}) == 10, "each molecule in turn"


def test_where_nothing_is_expected_frames_are_chosen_evenly_all_the_same():
    blind = [c for c in candidates() if c.why == EVEN]
    found = chosen(blind, 40)
    assert len(found) == 40
    assert set(Counter(c.molecule for c in found).values()) == {2}


def test_the_choice_is_the_same_again_and_another_with_another_seed():
    given = candidates()
    assert choose(given, 20, settings(), 1) == choose(given, 20, settings(), 1)
    assert choose(given, 20, settings(), 1) != choose(given, 20, settings(), 2)
