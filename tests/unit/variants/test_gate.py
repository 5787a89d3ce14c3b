"""Who may be timed and simulated."""

import pytest

from mlff_distiller.records import schema
from mlff_distiller.variants.gate import refusal


@pytest.fixture
def checked(tmp_path):
    """A file of equivalence records, from the outcome of each system."""

    def write(**outcomes):
        rows = [schema.record("equivalence", variant="cpp", system=name, **found) for name, found in outcomes.items()]
        return schema.write(tmp_path / "equivalence.json", rows)

    return write


FAILED = {"status": "failed", "reason": "force RMSE against fp64 too large"}
UNAVAILABLE = {"status": "unavailable", "reason": "no compiler"}


def test_what_passed_everywhere_may_be_used(checked):
    file = checked(water={}, benzene={})
    assert refusal(file) is None
    assert refusal(file, "benzene") is None


def test_one_failure_is_named_and_keeps_the_other_systems(checked):
    file = checked(water={}, benzene=FAILED)
    assert refusal(file) == FAILED | {"reason": "benzene: force RMSE against fp64 too large"}
    assert refusal(file, "benzene") == FAILED
    assert refusal(file, "water") is None


def test_a_variant_that_is_not_there_says_why_and_no_more(checked):
    assert refusal(checked(water=UNAVAILABLE)) == UNAVAILABLE


def test_a_system_that_was_not_checked_is_refused(checked):
    file = checked(water={})
    assert refusal(file, "benzene") == {"status": "failed", "reason": "no equivalence record for this molecule"}
    assert refusal(checked()) is not None
