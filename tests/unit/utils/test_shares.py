"""Work in shares: what is gathered is what one job makes, and shares that do not belong together are refused by name."""

import argparse
import shutil

import numpy as np
import pytest

from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.shares import Share, Work, number_of_shares, share, share_path, tasks_of

RANDOM = np.random.default_rng(3)


def several(task):
    """As many numbers as the task says, of which the first names it."""
    return {"found": np.arange(task, dtype=np.float64) + 100 * task, "words": np.array(["a" * task])}


def work(tasks, key="key"):
    return Work(
        function=several,
        task=tasks.__getitem__,
        weights=[float(task) for task in tasks],
        key=key,
        description="counting",
        name_of=str,
        template={"found": np.zeros(0), "words": np.zeros(0, dtype=str)},
    )


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("of", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    "weights", [[1.0] * 50, [1.0, 90.0, 1.0], [0.0] * 4, [], RANDOM.uniform(0.1, 9.0, 1000).tolist()]
)
def test_shares_leave_nothing_out(of, weights):
    tasks = tasks_of(of, weights)
    assert len(tasks) == of
    assert sorted(index for share in tasks for index in share.tolist()) == list(range(len(weights)))
    assert max(map(len, tasks)) - min(map(len, tasks)) <= 1


def test_shares_cost_about_the_same():
    weights = RANDOM.uniform(0.1, 9.0, 1000).tolist()
    costs = [sum(weights[index] for index in share) for share in tasks_of(10, weights)]
    assert max(costs) - min(costs) <= max(weights)


@pytest.mark.parametrize("of", [1, 3, 9])
def test_what_is_gathered_is_what_one_job_makes(tmp_path, of):
    given = work([3, 1, 4, 1, 5, 2])
    whole = given.make(tmp_path / "parts", 2)
    assert whole["words"].tolist() == ["aaa", "a", "aaaa", "a", "aaaaa", "aa"]
    output = tmp_path / "out.h5"
    for number in range(of, 0, -1):
        path, _ = given.make_share(Share(number, of), output, 1)
        assert path == share_path(output, Share(number, of))
    assert same(given.gather(of, output), whole)
    assert not list(tmp_path.glob("out.h5.shares/*.parts"))


def test_shares_that_do_not_belong_together_are_refused_by_name(tmp_path):
    given, output = work([3, 1, 4, 1, 5, 2]), tmp_path / "out.h5"

    def path(number):
        return share_path(output, Share(number, 3))

    for number in (1, 2, 3):
        given.make_share(Share(number, 3), output, 1)
    kept = path(2).read_bytes()
    assert given.gather(3, output)

    def refused(match):
        with pytest.raises(UserError, match=match):
            given.gather(3, output)
        path(2).write_bytes(kept)

    path(2).unlink()
    refused(r"2-of-3\.npz: no such share; make it by the same command with --share 2-of-3 instead of --shares 3")
    shutil.copy(path(1), path(2))
    refused(r"2-of-3\.npz: holds the share 1-of-3")
    work([3, 1, 4, 1, 5, 2], "other").make_share(Share(2, 3), output, 1)
    refused(r"2-of-3\.npz: a share of something else: made from other input, or with other settings")
    path(2).write_bytes(kept[:-40])
    refused(r"2-of-3\.npz: not a readable part")
    path(2).write_bytes(kept[:200] + bytes([kept[200] ^ 1]) + kept[201:])
    refused(r"2-of-3\.npz: not a readable part")
    np.savez(path(2), found=np.zeros(3))
    refused(r"2-of-3\.npz: not a share \(words is not in it\)")
    work([9, 1, 4, 1, 5, 2, 1]).make_share(Share(2, 3), output, 1)
    refused(r"2-of-3\.npz: holds 3 of 7 tasks instead of 2 of 6")
    assert given.gather(3, output)


@pytest.mark.parametrize("text", ["3", "0-of-3", "4-of-3", "1-of-0", "one-of-two", "1/3", "-1-of-3"])
def test_a_share_that_cannot_be_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"2-of-3 say, got"):
        share(text)


def test_numbers_of_shares():
    assert str(share("2-of-30")) == "2-of-30"
    assert number_of_shares("12") == 12
    for text in ("0", "-1", "two", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="1 or more"):
            number_of_shares(text)
