"""Stage ``rounds-enough``: whether a round of labels on the student's own frames is the last, by the limits of the settings.

Looks at records alone: a limit that is changed decides anew, and measures nothing again.
"""

import argparse
from datetime import datetime
from pathlib import Path

from mlff_distiller.records import schema
from mlff_distiller.training.round_limits import RoundLimits
from mlff_distiller.utils.files import load_settings, read_json


def why_enough(
    limits: RoundLimits, error: float | None, labels: int, labels_of_next: int, minutes: float, minutes_of_next: float
) -> str:
    """The first limit by which no further round is begun, in words; empty where another follows.

    Args:
        limits: what to hold to.
        error: force MAE on held-out frames of the last round's moves, after it, meV/A; None where there were none.
        labels: made so far.
        labels_of_next: that a further round makes at most.
        minutes: since the run's first check.
        minutes_of_next: what a further round is expected to take.
    """
    enough, most, longest = limits.enough_mev_per_a, limits.max_labels, limits.max_minutes
    if enough is not None and error is not None and error <= enough:
        return f"the force MAE on frames of its own moves, {error:.3g} meV/A, is not above enough_mev_per_a, {enough:g}"
    if most is not None and labels + labels_of_next > most:
        return f"{labels} labels and up to {labels_of_next} of a further round would be more than max_labels, {most}"
    if longest is not None and minutes + minutes_of_next > longest:
        return (
            f"{minutes:.0f} minutes and {minutes_of_next:.0f} of a further round, as long as the last, would be more than "
            f"max_minutes, {longest:g}"
        )
    return ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``rounds-enough``."""
    parser.description = "Decide by the limits of the settings whether a round was the last."
    parser.add_argument("--gain", type=Path, required=True, help="what 'round-gain' wrote of the round")
    parser.add_argument(
        "--labels", type=Path, nargs="+", required=True, help="cards of all labels so far, also from before the rounds"
    )
    parser.add_argument("--begun", type=Path, required=True, help="records of the run's first check")
    parser.add_argument(
        "--before", type=Path, nargs="+", required=True, help="files with the times at which the round could begin"
    )
    parser.add_argument("--next-labels", type=int, required=True, help="labels that a further round makes at most")
    parser.add_argument(
        "--settings", required=True, help="JSON text or file: enough_mev_per_a, max_labels, max_minutes"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="record to write (JSON): round, and why it is the last or null"
    )


def run(args: argparse.Namespace) -> int:
    """Decide, print and write."""
    explored = next(entry for entry in schema.read(args.gain) if entry["frames"] == "explored")
    ended = _time(args.gain)
    labels = sum(int(read_json(card)["configurations"]) for card in args.labels)
    minutes = _minutes(_time(args.begun), ended)
    reason = why_enough(
        RoundLimits.from_mapping(load_settings(args.settings)),
        explored.get("force_mae_mev_per_a"),
        labels,
        args.next_labels,
        minutes,
        _minutes(max(map(_time, args.before)), ended),
    )
    decided = {"round": explored["round"], "enough": reason or None, "n_labels": labels, "seconds": 60 * minutes}
    schema.write(args.output, [schema.record("accuracy", variant="student", task="round_limit", **decided)])
    print(f"round {explored['round']}: " + (f"the last one: {reason}" if reason else "another one follows"))
    return 0


def _time(path: Path) -> datetime:
    """When the file of records, or card of a dataset, was written."""
    return datetime.fromisoformat(read_json(path)["provenance"]["time_utc"])


def _minutes(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds() / 60
