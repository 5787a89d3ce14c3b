"""A batch system ends a job by one SIGTERM or several; a user who presses Ctrl-C twice means it."""

import os
import signal

import pytest

from mlff_distiller.training.interruption import Interruption


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.fixture
def mark():
    """Signals that are not noted end up here; the handlers of before come back."""
    seen = []
    before = {number: signal.signal(number, lambda n, _: seen.append(n)) for number in Interruption.SIGNALS}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


def test_all_of_the_batch_systems_signals_are_noted(mark):
    with Interruption() as interruption:
        assert not interruption.happened
        send(signal.SIGTERM, signal.SIGTERM, signal.SIGTERM)
        assert interruption.happened
    assert mark == []
    send(signal.SIGTERM)
    assert mark == [signal.SIGTERM]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_further_interrupt_of_the_user_ends_the_program(mark, first):
    with Interruption() as interruption:
        send(first)
        assert interruption.happened
        assert mark == []
        send(signal.SIGINT, signal.SIGTERM)
        assert mark == [signal.SIGINT]
    send(signal.SIGINT)
    assert mark == [signal.SIGINT] * 2
