"""Whether a timing had the machine to itself: how many cores others kept busy meanwhile, as the kernel counts them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

#: Where the kernel shows its counters.
PROC = Path("/proc")
#: In the first line of ``/proc/stat``: user, nice, system, idle, waiting for disks, two kinds of interrupts, and what a
#: virtual machine was kept waiting for. What follows is counted in ``user`` already.
N_COUNTERS, IDLE = 8, (3, 4)


@dataclass(frozen=True)
class Counters:
    """Seconds on the clock, of all cores' work, and of the work of this process and of those that it started."""

    clock: float
    all: float
    own: float


class OtherWork:
    """Counts the work of other processes from when this is made.

    Whatever the kernel shows counts: in a container all of the host, on a node of a cluster all jobs there, in a virtual
    machine also what it was kept waiting for. Other work counts on whatever core: it shares memory and clock speed.
    """

    def __init__(self) -> None:
        self.start = counters()

    def cores(self) -> float | None:
        """Cores that others kept busy on average until now; None where the kernel does not count that.

        The counters go by ticks of 10 ms. One tick is taken off, so that over a short time none seems to be another's work.
        """
        end = counters()
        if self.start is None or end is None:
            return None
        elapsed, own = end.clock - self.start.clock, end.own - self.start.own
        others = end.all - self.start.all - own
        # Some sandboxes show counters that stand still.
        if elapsed <= 0 or others < -max(0.2 * elapsed, 5 * _tick()):
            return None
        return round(max(0.0, others - _tick()) / elapsed, 3)


def counters() -> Counters | None:
    """The counters now; None where there is no ``/proc/stat``."""
    try:
        line = (PROC / "stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    ticks = [int(word) for word in line.split()[1 : N_COUNTERS + 1]]
    busy = sum(count for place, count in enumerate(ticks) if place not in IDLE)
    ended = os.times()
    own = time.process_time() + ended.children_user + ended.children_system
    own += _seconds_of_those_started_by(os.getpid())
    return Counters(time.perf_counter(), busy * _tick(), own)


def _tick() -> float:
    """Seconds of one count."""
    return 1 / os.sysconf("SC_CLK_TCK")


def _seconds_of_those_started_by(process: int) -> float:
    """Seconds that the running processes that ``process`` started computed, and those that they did, with their ended ones.

    By the parent that each process names: not every kernel lists children.
    """
    seconds: dict[int, float] = {}
    parents: dict[int, int] = {}
    for file in PROC.glob("[0-9]*/stat"):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has ended
            continue
        # The program's name, in parentheses, may hold blanks.
        words = text.rpartition(")")[2].split()
        number = int(file.parent.name)
        parents[number] = int(words[1])
        seconds[number] = sum(map(int, words[11:15])) * _tick()
    family, grown = {process}, True
    while grown:
        more = {number for number, parent in parents.items() if parent in family} - family
        family |= more
        grown = bool(more)
    return sum(seconds[number] for number in family - {process})
