"""Learning rate and averaging weight as functions of the progress of the training."""

import math

from mlff_distiller.training.settings import TrainingSettings


def progress(settings: TrainingSettings, step: int, seconds: float) -> float:
    """Fraction of the training that is done, 0 to 1: by steps or by wall time, whichever is larger.

    Args:
        settings: with ``n_steps``, ``max_seconds`` or both.
        step: updates made.
        seconds: wall time, summed over the runs of an interrupted training.
    """
    by_steps = step / settings.n_steps if settings.n_steps else 0.0
    by_time = seconds / settings.max_seconds if settings.max_seconds else 0.0
    return min(1.0, max(by_steps, by_time))


def learning_rate(settings: TrainingSettings, done: float, step: int) -> float:
    """Linear warm-up, then half a cosine from ``learning_rate`` down to ``final_learning_rate``.

    The warm-up counts updates, not time: otherwise it could end while the step is being compiled.

    Args:
        settings: see :class:`TrainingSettings`.
        done: see :func:`progress`.
        step: number of the update, from 1.
    """
    span = settings.learning_rate - settings.final_learning_rate
    falling = settings.final_learning_rate + span * 0.5 * (1.0 + math.cos(math.pi * done))
    return falling * min(1.0, step / settings.warmup_steps)


def averaging_weight(settings: TrainingSettings, step: int) -> float:
    """Weight of the newest parameters in the moving average after update ``step`` (from 1): larger in the first steps."""
    return max(1.0 - settings.ema_decay, 9.0 / (9.0 + step))


def in_last_share(settings: TrainingSettings, done: float) -> bool:
    """Whether the training, of which the fraction ``done`` is done, is in its ``last_share``."""
    return done >= 1.0 - settings.last_share


def energy_weight(settings: TrainingSettings, done: float) -> float:
    """Of the energy term in the loss."""
    last = settings.last_energy_weight
    return last if last is not None and in_last_share(settings, done) else settings.energy_weight
