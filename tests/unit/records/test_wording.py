"""Numbers as people read them."""

import pytest

from mlff_distiller.records.wording import about, number


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (17.0, 3, "17.0"),
        (17, 3, "17"),
        (9.999999999999998, 2, "10"),
        (9.96, 2, "10"),
        (0.9996, 3, "1.00"),
        (99.96, 3, "100"),
        (-99.96, 3, "-100"),
        (999.6, 3, "1,000"),
        (12345.6, 3, "12,346"),
        (0.00099996, 3, "0.00100"),
        (0.000123456, 3, "0.000123"),
        (0.0, 3, "0"),
        (None, 3, "-"),
    ],
)
def test_a_number_has_so_many_digits_after_rounding_too(value, digits, text):
    assert number(value, digits) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (7_135_715.2, 2, "7.1 million"),
        (13_686, 3, "13,700"),
        (86_957.3, 2, "87,000"),
        (999.6, 3, "1,000"),
        (42.4, 3, "42"),
    ],
)
def test_large_numbers_are_rounded(value, digits, text):
    assert about(value, digits) == text
