"""Being asked to stop, heeded between two steps."""

import signal
from types import FrameType


class Interruption:
    """Notes SIGINT and SIGTERM as a context, so that the state can be saved first; a second one ends the program."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.happened = False
        self.before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        for number in self.SIGNALS:
            try:
                self.before[number] = signal.signal(number, self._note)
            except ValueError:
                break  # not the main thread: whoever runs it there handles signals
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
