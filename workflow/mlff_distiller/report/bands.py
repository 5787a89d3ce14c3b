"""Bands of a vibrational spectrum, and how far the student's lie from the teacher's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A band ends where both spectra are below this share of the highest peak.
EDGE = 0.02
#: A band counts if at least this share of the area of each spectrum is in it.
LEAST_AREA = 0.05


@dataclass(frozen=True)
class Shift:
    """Centroid of a band of the teacher, and how much higher that of the student is; both in 1/cm."""

    at: float
    by: float


def largest_shift(distributions: Mapping[str, Any]) -> Shift | None:
    """The band of a spectra record that is shifted most; None where no band is large enough."""
    numbers = distributions["teacher"]["spectrum"]["wavenumbers"]
    teacher, student = (distributions[who]["spectrum"]["density"] for who in ("teacher", "student"))
    shifts = []
    for band in _bands(teacher, student):
        if all(sum(density[band]) >= LEAST_AREA * sum(density) for density in (teacher, student)):
            at, found = (_centroid(numbers[band], density[band]) for density in (teacher, student))
            shifts.append(Shift(at, found - at))
    return max(shifts, key=lambda shift: abs(shift.by), default=None)


def _bands(*spectra: Sequence[float]) -> Iterator[slice]:
    """Runs of wave numbers at which one of the spectra is above the edge."""
    highest = [max(values) for values in zip(*spectra, strict=True)]
    edge, start = EDGE * max(highest), None
    for position, value in enumerate([*highest, 0.0]):
        if value > edge and start is None:
            start = position
        elif value <= edge and start is not None:
            yield slice(start, position)
            start = None


def _centroid(numbers: Sequence[float], density: Sequence[float]) -> float:
    return sum(n * d for n, d in zip(numbers, density, strict=True)) / sum(density)
