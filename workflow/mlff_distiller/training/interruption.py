"""Notes SIGINT and SIGTERM during training, so that it can stop between two steps."""

import signal
from types import FrameType


class Interruption:
    """Context that notes signals, so that the state can be saved; a second SIGINT ends the program, a second SIGTERM does not.

    A batch system sends SIGTERM to all processes of a job, and Snakemake hands on the one that it got.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.happened = False
        self.before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in self.SIGNALS:
            try:
                self.before[number] = signal.signal(number, self._note)
            except ValueError:
                break  # only the main thread may set handlers; here the caller handles signals
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(*self.SIGNALS)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self._restore(signal.SIGINT)

    def _restore(self, *numbers: int) -> None:
        for number in numbers:
            if number in self.before:
                signal.signal(number, self.before.pop(number))
