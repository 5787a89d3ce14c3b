"""How many cores others kept busy: right beside a busy process, zero alone, null where the kernel does not count."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlff_distiller.utils import other_work
from mlff_distiller.utils.other_work import Counters, OtherWork

SPIN = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
#: Off by two tenths of a core at most.
CLOSE = 0.2


def seconds_of(process):
    """CPU seconds of a process and of its children that have ended."""
    text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    return sum(map(int, text.rpartition(")")[2].split()[11:15])) / os.sysconf("SC_CLK_TCK")


def seconds_of_all():
    """CPU seconds of all processes: what ended goes to its parent, so a difference misses nothing."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            total += seconds_of(folder.name)
    return total


def sees_the_whole_machine():
    """Whether processes of the whole machine are shown here, as the kernel's counters are, and not a container's alone."""
    with contextlib.suppress(OSError):
        return Path("/proc/2/comm").read_text() == "kthreadd\n"
    return False


def measured(spinning, by=lambda: 0.0):
    """Cores of others over half a second, those that the sum over processes gives, and the cores of ``by``."""
    before, mine, its, start, watch = (
        seconds_of_all(),
        other_work.counters().own,
        by(),
        time.perf_counter(),
        OtherWork(),
    )
    while (elapsed := time.perf_counter() - start) < 0.5:
        if not spinning:
            time.sleep(0.05)
    found = watch.cores()
    expected = seconds_of_all() - before - (other_work.counters().own - mine)
    return found, expected / elapsed, (by() - its) / elapsed


def assert_close_once(measure):
    """Processes of a busy machine come and go between two looks: one of five times must agree."""
    tries = []
    for _ in range(5):
        tries.append(measure())
        if abs(tries[-1][0] - tries[-1][1]) < CLOSE:
            return
    pytest.fail(f"cores by the kernel's counters, by the sum over processes, of the busy one: {tries}")


@pytest.fixture
def busy():
    """A busy process that is nobody's child here."""
    command = f'"{sys.executable}" -c "$0" > /dev/null 2>&1 & echo $!'
    number = int(subprocess.check_output(["sh", "-c", command, SPIN], text=True))
    yield number
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, 9)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc/stat on this system")
class TestOnThisMachine:
    @pytest.mark.parametrize("spinning", [False, True])
    def test_a_busy_process_is_counted(self, busy, spinning):
        found, _, its = measured(spinning, lambda: seconds_of(busy))
        assert its > 0.05
        assert found > its - CLOSE
        if sees_the_whole_machine():
            assert_close_once(lambda: measured(spinning, lambda: seconds_of(busy)))

    def test_work_of_children_is_ones_own_while_they_run_and_after(self):
        def of_children():
            return other_work.counters().own - time.process_time()

        before = of_children()
        with subprocess.Popen([sys.executable, "-c", SPIN]) as child:
            try:
                while (its := seconds_of(child.pid)) < 0.2:
                    time.sleep(0.05)
                assert of_children() - before == pytest.approx(its, abs=0.15)
            finally:
                child.kill()
        assert of_children() - before >= its - 0.02


def scripted(monkeypatch, *seen):
    moments = iter(seen)
    monkeypatch.setattr(other_work, "counters", lambda: next(moments))
    return OtherWork().cores()


def test_what_is_not_ones_own_is_the_others(monkeypatch):
    tick = other_work._tick()
    assert scripted(monkeypatch, Counters(10, 100, 5), Counters(12, 105 + tick, 7)) == pytest.approx(1.5)


def test_alone_is_zero_also_when_a_tick_falls_into_a_short_time(monkeypatch):
    tick = other_work._tick()
    assert scripted(monkeypatch, Counters(0, 0, 0), Counters(1, 1, 1)) == 0
    assert scripted(monkeypatch, Counters(0, 0, 0), Counters(0.02, 0.02 + tick, 0.02)) == 0
    assert scripted(monkeypatch, Counters(0, 0, 0), Counters(1, 0.99, 1)) == 0


def test_null_where_the_kernel_does_not_count(monkeypatch, tmp_path):
    assert scripted(monkeypatch, Counters(0, 7, 0), Counters(1, 7, 1)) is None
    monkeypatch.undo()
    monkeypatch.setattr(other_work, "PROC", tmp_path)
    assert OtherWork().cores() is None


def test_waiting_is_no_work(monkeypatch, tmp_path):
    #                                   user nice system idle iowait irq softirq steal guest guest_nice
    (tmp_path / "stat").write_text("cpu  100 200 300 1000000 500000 4 5 6 70 80\ncpu0 1 2 3 4\n")
    monkeypatch.setattr(other_work, "PROC", tmp_path)
    assert other_work.counters().all == pytest.approx(615 * other_work._tick())
