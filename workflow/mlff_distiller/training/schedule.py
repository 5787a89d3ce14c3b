"""Learning rate and averaging weight as plain functions of how far the training has come."""

import math

from mlff_distiller.training.settings import TrainingSettings


def progress(settings: TrainingSettings, step: int, seconds: float) -> float:
    """How much of the training is done, 0 to 1: by steps or by wall time, whichever is further.

    Args:
        settings: with ``n_steps``, ``max_seconds`` or both.
        step: updates made.
        seconds: wall time spent, all parts of an interrupted run together.
    """
    by_steps = step / settings.n_steps if settings.n_steps else 0.0
    by_time = seconds / settings.max_seconds if settings.max_seconds else 0.0
    return min(1.0, max(by_steps, by_time))


def learning_rate(settings: TrainingSettings, done: float, step: int) -> float:
    """Half a cosine from ``learning_rate`` down to ``final_learning_rate``, reached linearly over the first updates.

    The rise counts updates, not time: compiling would otherwise use it up before the first of them.

    Args:
        settings: see :class:`TrainingSettings`.
        done: see :func:`progress`.
        step: number of the update, from 1.
    """
    span = settings.learning_rate - settings.final_learning_rate
    falling = settings.final_learning_rate + span * 0.5 * (1.0 + math.cos(math.pi * done))
    return falling * min(1.0, step / settings.warmup_steps)


def averaging_weight(settings: TrainingSettings, step: int) -> float:
    """Share of the newest weights in the moving average after update ``step`` (from 1): large while there are few."""
    return max(1.0 - settings.ema_decay, 9.0 / (9.0 + step))
