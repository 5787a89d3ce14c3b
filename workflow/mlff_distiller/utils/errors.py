"""Errors whose text says what to do."""

import difflib
from collections.abc import Iterable

#: Text that only people read. Rewording what a function with this return type returns runs no stage again.
Words = str


class UserError(Exception):
    """Something the user can mend; the message says what and how. The command line prints it without a traceback."""


def nearest(word: str, choices: Iterable[str]) -> Words:
    """``"; did you mean 'x'?"`` for the closest of ``choices``, else ``"; known: a, b, c"``."""
    choices = sorted(map(str, choices))
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(choices) or 'none'}"


def one_line_each(complaints: Iterable[str], before: str = "") -> Words:
    """``complaints``, sorted, each on a line that starts with ``before``: control characters in names are escaped."""
    return "\n".join(before + "".join(map(_escaped, complaint)) for complaint in sorted(complaints))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def first_line(error: BaseException, limit: int = 300) -> str:
    """The first line of an error's text that says something, cut to ``limit`` characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "no message")[:limit]
