"""What a benchmark job times."""

import pytest

from mlff_distiller.benchmark.single import TASKS, own_tasks


@pytest.mark.parametrize(
    ("variant", "options", "searches"),
    [
        ("eager", {"neighbors": "native"}, True),
        ("analytic", {"neighbors": "native"}, False),
        ("vesin", {"neighbors": "vesin"}, True),
        ("cpp", {}, True),
    ],
)
def test_each_neighbor_search_is_timed_once(variant, options, searches):
    found = own_tasks({"variant": variant, "options": options}, list(TASKS))
    assert found == list(TASKS if searches else TASKS[:2])
