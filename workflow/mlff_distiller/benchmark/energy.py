"""Electrical energy of calls: of a GPU's board by NVML, of a CPU's packages by RAPL, where they can be read.

The counters count what the whole board or package takes, idle share and other processes included. They tick, so that an energy
is right to some percent.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import torch

#: Time over which calls are counted, and the longest that a counter may stand still.
SECONDS, STANDS_STILL = 3.0, 5.0
#: Time between two looks at the counter: a look takes milliseconds (3.7 by NVML on an H200), as long as many calls.
BETWEEN_LOOKS = 0.2
#: Where Linux shows the counters of Intel's and AMD's packages: https://docs.kernel.org/power/powercap/powercap.html
POWERCAP = Path("/sys/class/powercap")


class NotReadable(Exception):
    """No counter of energy can be read here; the message says why."""


def per_call(call: Callable[[int], object], device: torch.device, wait: Callable[[], object]) -> tuple[float, str]:
    """Energy of one call in joules, and the name of the counter.

    Args:
        call: function of its number, repeated for :data:`SECONDS`.
        device: whose energy it is.
        wait: waits for the device.

    Raises:
        NotReadable: there is no counter, or it may not be read.
    """
    with meter(device) as (name, joules):
        return _between_looks(call, joules, wait), name


def _between_looks(call: Callable[[int], object], joules: Callable[[], float], wait: Callable[[], object]) -> float:
    """Energy of a call, from the first tick of the counter to a later one; on some GPUs it ticks every 0.1 s."""
    first: tuple[int, float, float] | None = None
    last, looked = joules(), time.perf_counter()
    ticked = looked
    for calls in count(1):
        call(calls)
        wait()
        if (now := time.perf_counter()) - looked < BETWEEN_LOOKS:
            continue
        found, looked = joules(), time.perf_counter()
        if found != last:
            last, ticked = found, now
            first = first or (calls, found, now)
            if now - first[2] >= SECONDS:
                return (found - first[1]) / (calls - first[0])
        elif now - ticked > STANDS_STILL:
            break
    raise NotReadable(f"the counter of energy stands still for {STANDS_STILL:g} s")


@contextmanager
def meter(device: torch.device) -> Iterator[tuple[str, Callable[[], float]]]:
    """Name of the counter of ``device``, and a function that reads it, in joules.

    Raises:
        NotReadable: there is none, or it may not be read.
    """
    with _nvml(device) if device.type == "cuda" else _rapl() as found:
        yield found


@contextmanager
def _nvml(device: torch.device) -> Iterator[tuple[str, Callable[[], float]]]:
    try:
        import pynvml
    except ModuleNotFoundError:
        raise NotReadable("NVML is read by the package nvidia-ml-py, which is missing") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NotReadable(f"NVML: {error}") from None
    try:
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid.encode())
        read = partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        read()
        yield "NVML, the GPU's board", lambda: read() / 1e3
    except pynvml.NVMLError as error:
        raise NotReadable(f"NVML: {error}") from None
    finally:
        pynvml.nvmlShutdown()


@contextmanager
def _rapl() -> Iterator[tuple[str, Callable[[], float]]]:
    packages = sorted(POWERCAP.glob("intel-rapl:*[0-9]/energy_uj"))
    packages = [path for path in packages if path.parent.name.count(":") == 1]
    if not packages:
        raise NotReadable("this machine shows no counter of energy (RAPL)")
    try:
        counters = [Counter(path) for path in packages]
    except PermissionError:
        raise NotReadable(f"{packages[0]} is readable by root alone") from None
    except (OSError, ValueError) as error:
        raise NotReadable(f"RAPL: {error}") from None
    yield "RAPL, the CPU's packages", lambda: sum(counter.joules() for counter in counters)


class Counter:
    """A RAPL counter, which starts again at zero after ``max_energy_range_uj``."""

    def __init__(self, path: Path):
        self.path, self.turns = path, 0
        self.range = int(path.with_name("max_energy_range_uj").read_text(encoding="ascii"))
        self.last = self._read()

    def joules(self) -> float:
        """What was counted, to be asked more often than the counter starts again (some minutes)."""
        now = self._read()
        self.turns += now < self.last
        self.last = now
        return (now + self.turns * self.range) / 1e6

    def _read(self) -> int:
        return int(self.path.read_text(encoding="ascii"))
