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
    own += sum(map(_seconds_of, _started_by(os.getpid())))
    return Counters(time.perf_counter(), busy * _tick(), own)


def _tick() -> float:
    """Seconds of one count."""
    return 1 / os.sysconf("SC_CLK_TCK")


def _started_by(process: int) -> list[int]:
    """The running processes that ``process`` started, and those that they did."""
    found = []
    for file in (PROC / str(process) / "task").glob("*/children"):
        try:
            found += [int(word) for word in file.read_text(encoding="ascii").split()]
        except OSError:  # a thread that has ended
            continue
    return found + [further for child in found for further in _started_by(child)]


def _seconds_of(process: int) -> float:
    """Seconds that a process and those of its children that have ended computed; 0 if it has ended itself."""
    try:
        text = (PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    # The program's name, in parentheses, may hold blanks.
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) * _tick()
