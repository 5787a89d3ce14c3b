"""What is written of a measurement that broke."""

import pytest

from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure


@pytest.mark.parametrize(
    ("text", "reason"),
    [("\n  no memory  \nat line 3", "ValueError: no memory"), ("", "ValueError: no message")],
)
def test_the_reason_is_the_first_line_and_the_log_has_all(capsys, text, reason):
    try:
        raise ValueError(text)
    except ValueError as error:
        found = failure(error)
    assert found == {"status": "failed", "reason": reason}
    assert "raise ValueError(text)" in capsys.readouterr().err
    assert schema.record("compile", variant="cpp", **found)["reason"] == reason
