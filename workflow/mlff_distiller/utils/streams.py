"""Output that another program reads."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, TextIO


class GoesOn:
    """A stream to another program, ``tee`` say. Where that program has ended, writes are lost, and the work goes on."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As of any stream."""
        with self._unless_nobody_reads():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As of any stream."""
        with self._unless_nobody_reads():
            self._stream.flush()

    @contextlib.contextmanager
    def _unless_nobody_reads(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())
