"""Ratios of running times with confidence intervals.

Timings vary on two levels: from run to run inside one process, and from process to process (memory layout, clock
speed, what else the machine does). Repeating the inner level alone measures one process very precisely and says
little about the next one. So an experiment is several fresh processes with several samples each, and the interval is
a bootstrap that resamples processes first and samples within them second (Kalibera & Jones 2013, "Rigorous
Benchmarking in Reasonable Time", ISMM).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 1000
#: A series whose interquartile range exceeds this share of its median is called noisy.
NOISE_LIMIT = 0.10

#: Simulated, a 95 % interval of two processes covers 84 to 90 %, of three 91 to 97 %.
ENOUGH_PROCESSES = 3

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Summary:
    """One series of times, all in the unit of the samples; ``std`` is that of a sample (n - 1), 0 for one sample."""

    mean: float
    std: float
    median: float
    p95: float
    p99: float
    noisy: bool


@dataclass(frozen=True)
class Ratio:
    """A positive ratio, or another measured number, with its confidence interval."""

    value: float
    low: float
    high: float
    #: From how many processes: fewer than :data:`ENOUGH_PROCESSES` say too little of the next one for an interval in print.
    processes: int = field(default=ENOUGH_PROCESSES, compare=False)

    @classmethod
    def of(cls, entry: Mapping[str, Any], name: str) -> "Ratio":
        """The field ``name`` of a merged benchmark record, with the interval beside it."""
        low, high = entry[f"{name.removesuffix('_ms')}_ci95{'_ms' if name.endswith('_ms') else ''}"]
        return cls(entry[name], low, high, entry.get("replicates") or 1)

    @property
    def certain(self) -> bool:
        """Whether there were processes enough to print the interval."""
        return self.processes >= ENOUGH_PROCESSES

    @property
    def verdict(self) -> str:
        """``faster`` or ``slower`` when the interval lies on one side of 1, else ``no difference shown``."""
        return verdict(self.low, self.high)

    @property
    def log_error(self) -> float:
        """Half the width of the interval on the log scale."""
        return math.log(self.high / self.low) / 2

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` finds: the speed-up, and each side's median with its interval (unit of the samples)."""

    speedup: Ratio
    median: Ratio
    baseline_median: Ratio


def verdict(low: float, high: float) -> str:
    """The word for a speed-up with the interval ``[low, high]``."""
    if low > 1:
        return "faster"
    if high < 1:
        return "slower"
    return "no difference shown"


def summarize(samples: Sequence[float] | Samples) -> Summary:
    """Mean, spread and tail of one series of times.

    Raises:
        ValueError: no sample, or one that is not a positive finite number.
    """
    values = _checked(samples)
    quartile_1, median, quartile_3, p95, p99 = np.percentile(values, [25, 50, 75, 95, 99])
    return Summary(
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        median=float(median),
        p95=float(p95),
        p99=float(p99),
        noisy=bool((quartile_3 - quartile_1) / median > NOISE_LIMIT),
    )


def is_noisy(samples: Sequence[float] | Samples) -> bool:
    """Whether the interquartile range of the samples exceeds 10 % of their median."""
    return summarize(samples).noisy


def compare(
    variant: Sequence[Sequence[float]],
    baseline: Sequence[Sequence[float]],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Comparison:
    """Speed-up of a variant: median baseline time over median variant time, with a hierarchical bootstrap interval.

    ``variant[p]`` and ``baseline[p]`` are the times of process ``p``. Where both have the same length they were
    interleaved (A B A B), so samples are resampled in pairs and whatever slowed both down cancels.

    Resampling few processes, such as three, gives intervals that are too narrow.
    The interval is therefore widened by Student's t, with degrees of freedom from the shares of the two levels
    (Satterthwaite): hardly at all when processes agree within the noise of their samples, fully when they do not. With
    a single process the interval cannot know about other processes; it covers the noise inside that one only.

    Raises:
        ValueError: no process, different numbers of processes, or a time that is not a positive finite number.
    """
    if len(variant) != len(baseline) or not variant:
        raise ValueError(f"{len(variant)} processes of the variant against {len(baseline)} of the baseline")
    sides = [[_checked(samples) for samples in side] for side in (variant, baseline)]
    random = np.random.default_rng(seed)
    count = len(variant)
    within = _bootstrap_log_medians(sides, np.tile(np.arange(count), (resamples, 1)), random)
    both = (
        _bootstrap_log_medians(sides, random.integers(count, size=(resamples, count)), random) if count > 1 else within
    )
    estimate = np.log([np.median(np.concatenate(side)) for side in sides])
    per_process = np.log([[np.median(samples) for samples in side] for side in sides]).T

    def interval(direction: NDArray[np.float64]) -> Ratio:
        center = float(estimate @ direction)
        processes = per_process @ direction
        factor = _small_sample_factor(processes, float(np.var(within @ direction)), confidence)
        tail = (1 - confidence) / 2
        low, high = np.quantile(both @ direction, [tail, 1 - tail]) - center
        # A bootstrap quantile can land on the wrong side of the estimate; an interval always contains its estimate.
        return Ratio(
            math.exp(center), math.exp(center + min(low * factor, 0.0)), math.exp(center + max(high * factor, 0.0))
        )

    return Comparison(
        speedup=interval(np.array([-1.0, 1.0])),
        median=interval(np.array([1.0, 0.0])),
        baseline_median=interval(np.array([0.0, 1.0])),
    )


def geometric_mean(ratios: Sequence[Ratio]) -> Ratio:
    """Geometric mean of ratios with its interval, the fair average of speed-ups over systems.

    Systems timed in the same processes share their errors, so the half-widths are averaged (errors fully correlated)
    rather than added in quadrature, which would give a narrower interval.

    Raises:
        ValueError: no ratio.
    """
    if not ratios:
        raise ValueError("the geometric mean of no ratios")
    value, low, high = (
        float(np.exp(np.mean(np.log([getattr(ratio, bound) for ratio in ratios]))))
        for bound in ("value", "low", "high")
    )
    return Ratio(value, low, high, min(ratio.processes for ratio in ratios))


def mean_of(repeated: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """Geometric mean of independent measurements of one ratio, with the interval by Student's t on the log scale.

    Raises:
        ValueError: fewer than two measurements.
    """
    from scipy.stats import t

    if len(repeated) < 2:
        raise ValueError("an interval needs at least two measurements")
    logarithms = np.log(repeated)
    center = float(logarithms.mean())
    half = float(t.ppf(0.5 + confidence / 2, len(repeated) - 1) * logarithms.std(ddof=1)) / math.sqrt(len(repeated))
    return Ratio(math.exp(center), math.exp(center - half), math.exp(center + half))


def ratio_of(numerator: Ratio, denominator: Ratio) -> Ratio:
    """Ratio of two quantities measured apart: independent errors, added in quadrature on the log scale."""
    value = numerator.value / denominator.value
    below = math.hypot(math.log(numerator.value / numerator.low), math.log(denominator.high / denominator.value))
    above = math.hypot(math.log(numerator.high / numerator.value), math.log(denominator.value / denominator.low))
    processes = min(numerator.processes, denominator.processes)
    return Ratio(value, value * math.exp(-below), value * math.exp(above), processes)


def _checked(samples: Sequence[float] | Samples) -> Samples:
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("a series of times needs at least one sample")
    if not np.isfinite(values).all() or (values <= 0).any():
        raise ValueError(f"a time must be a positive finite number, not {values[~(values > 0)][:1]}")
    return values


def _bootstrap_log_medians(
    sides: list[list[Samples]], processes: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float64]:
    """Logarithms [R, 2] of the medians of resampled variant and baseline.

    Row r draws samples with replacement from each of the processes ``processes[r]`` [P].
    """
    paired = all(len(v) == len(b) for v, b in zip(*sides, strict=True))
    medians, uniform = [], None
    for side in sides:
        counts = np.array([len(samples) for samples in side])
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        if uniform is None or not paired:
            uniform = random.random((*processes.shape, round(counts.mean())))
        chosen = starts[processes][..., None] + (uniform * counts[processes][..., None]).astype(np.int64)
        medians.append(np.median(np.concatenate(side)[chosen.reshape(len(processes), -1)], axis=1))
    logarithms: NDArray[np.float64] = np.log(np.stack(medians, axis=1))
    return logarithms


def _small_sample_factor(processes: NDArray[np.float64], variance_within: float, confidence: float) -> float:
    """By how much to widen a bootstrap interval made from few processes.

    ``processes`` [P] are the estimates of each process, ``variance_within`` is the variance of the pooled estimate
    that samples inside the processes explain. The bootstrap over P processes understates their variance by
    (P - 1) / P and uses the normal quantile where Student's t belongs; both count only for the share of the variance
    that processes cause.
    """
    from scipy.stats import norm, t

    count = len(processes)
    if count < 2:
        return 1.0
    between = max(float(np.var(processes, ddof=1)) / count - variance_within, 0.0)
    total = between + variance_within
    if total == 0 or between == 0:
        return 1.0
    share = between / total
    freedom = (count - 1) / share**2
    quantile = 0.5 + confidence / 2
    return float(t.ppf(quantile, freedom) / norm.ppf(quantile)) * math.sqrt(1 + share / (count - 1))
