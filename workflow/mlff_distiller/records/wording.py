"""Text for the names and numbers in records, the same in figures, captions, tables and messages."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from mlff_distiller.records.schema import Record
from mlff_distiller.records.statistics import Ratio

TASK_TITLES = {"energy": "Energy", "energy_forces": "Energy + forces", "neighbors": "Neighbor search"}
SYSTEM_TITLES = {"penicillin_g": "penicillin G", "ala9_capped": "capped (Ala)9"}
#: Kinds of work (:data:`~mlff_distiller.records.vocabulary.WORK`), and what is computed in each.
WORK_TITLES = {
    "one_molecule": "one molecule",
    "many_molecules": "many molecules",
    "large_systems": "large systems",
}
WORK_CONTENTS = {
    "one_molecule": "energy + forces of one molecule at a time",
    "many_molecules": "energy + forces of batches of molecules",
    "large_systems": "energy + forces of large periodic systems",
}


def title(system: str | None) -> str:
    """A system's name for people."""
    return SYSTEM_TITLES.get(str(system), str(system).replace("_", " "))


def equivalence_reason(entry: Record) -> str:
    """Why an equivalence record did not pass."""
    found = entry["reason"] or f"force error {_number(entry.get('force_rmse_mev_per_a'))} meV/A"
    return f"not equivalent to the fp64 reference on {entry['system']}: {found}"


def _number(value: Any) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def few_processes(ratio: Ratio) -> str:
    """A remark in place of the interval where there were too few processes for one."""
    if ratio.certain:
        return ""
    return f" ({'one process' if ratio.processes == 1 else f'{ratio.processes} processes'})"


def interval(ratio: Ratio) -> str:
    """A ratio for people: ``1.45× [1.41, 1.49]``, with spaces at which no line breaks; a bound without limit as ∞.

    Of fewer than three processes: ``1.45× (2 processes)``.
    """
    value, low, high = (_ratio(x) for x in (ratio.value, ratio.low, ratio.high))
    if not ratio.certain:
        return f"{value}×{few_processes(ratio)}"
    return f"{value}×\u00a0[{low},\u00a0{high}]"


def _ratio(value: float) -> str:
    """To two decimals, and no more than three digits: a bound of 340.32 would promise what no interval holds."""
    if not math.isfinite(value):
        return "∞"
    return f"{value:.2f}" if value < 10 else number(value, 3)


def times_as_fast(ratio: Ratio) -> str:
    """A ratio for the first page, with as many digits as its interval allows: ``65 times (49 to 84)``."""
    if not all(map(math.isfinite, (ratio.value, ratio.low, ratio.high))) or ratio.low == ratio.high:
        return f"{number(ratio.value, 2)} times"
    if not ratio.certain:
        return f"{number(ratio.value, 2)} times{few_processes(ratio)}"
    # The last digit is the first in which the interval's half width shows.
    width = math.log10((ratio.high - ratio.low) / 2 / ratio.value)
    value, low, high = (
        number(bound, min(3, max(1, 1 - math.floor(width)))) for bound in (ratio.value, ratio.low, ratio.high)
    )
    return f"{value} times ({low} to {high})"


def spread(values: Iterable[float], digits: int = 2) -> str:
    """The least and the most of some numbers: ``0.21 to 0.29``; one number where they do not differ."""
    given = sorted(values)
    texts = [number(bound, digits) for bound in (given[0], given[-1])]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def drift(entry: Mapping[str, Any]) -> str:
    """The drift of an MD record, with its standard error where the trajectory was long enough to have one."""
    error = entry.get("drift_stderr_mev_per_atom_ps")
    return f"{entry['drift_mev_per_atom_ps']:.2g}" + (f" ± {error:.1g}" if error else "") + " meV/atom/ps"


def number(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, trailing zeros kept (17.0, not 17); whole numbers stay whole."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    # Rounded before its size is asked: 9.999 is 10.0 in three digits, not 10.00.
    rounded = abs(float(f"{value:.{digits - 1}e}"))
    if rounded >= 1000:
        return f"{value:,.0f}"
    if rounded < 1e-3:
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(rounded)))}f}"


def about(value: float, digits: int = 3) -> str:
    """A large number with so many significant digits: 13,700, 7.14 million."""
    if value >= 1e6:
        return f"{number(value / 1e6, digits)} million"
    step = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) + 1 - digits)
    return f"{round(value / step) * step:,}"


def machine_name(machine: Mapping[str, Any]) -> str:
    """One machine in a few words, its GPUs first."""
    gpus = machine.get("gpus") or []
    counted = [f"{gpus.count(gpu)} × {gpu}" if gpus.count(gpu) > 1 else gpu for gpu in dict.fromkeys(gpus)]
    memory = f", {machine['memory_gib']:.0f} GiB" if machine.get("memory_gib") else ""
    return ", ".join([*counted, f"{machine.get('cpu')} ({machine.get('cores')} cores{memory})"])


def md_failure(entry: Record) -> str:
    """Which gates an MD record failed, in words."""
    failed = [
        f"{name} {gate['value']:.3g} against a limit of {gate['limit']:.3g}"
        if isinstance(gate.get("value"), int | float) and isinstance(gate.get("limit"), int | float)
        else f"{name} could not be judged"
        for name, gate in (entry.get("gates") or {}).items()
        if not gate.get("passed")
    ]
    return entry["reason"] or "; ".join(failed) or "did not pass"
