"""Notes SIGINT and SIGTERM during training, so that it can stop between two steps."""

import signal
from types import FrameType


class Interruption:
    """Context that notes the first signal, so that the state can be saved; a second signal ends the program."""

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
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()
