"""Checks measured errors against those on a student's card, if student and sample are the same."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlff_distiller.records import schema

#: Largest relative difference of an error from the card's value. Relaxations and dynamics of the sampling round differently
#: on another processor, so the same sample has other frames of the same molecules there; a single frame with forces near the
#: limit of the labels changes the RMSE most. The energy errors of the seven benchmark molecules, four frames of each,
#: differed by 11 % between a processor with AVX2 and one with AVX-512.
TOLERANCES = {"force_mae_mev_per_a": 0.03, "force_rmse_mev_per_a": 0.1, "energy_mae_mev_per_atom": 0.15}


def sample_identity(card: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides which configurations a dataset holds; equal on every machine for the same sample.

    Args:
        card: of the dataset. Sampled datasets are identified by teacher, settings and molecule list, others by content.
    """
    sampling = card.get("sampling") or {}
    if sampling.get("settings"):
        described = {key: card.get(key) for key in ("teacher", "limits")}
        described |= {key: sampling.get(key) for key in ("settings", "molecule_list_sha256")}
        described |= {key: sampling[key] for key in ("always_trained_sha256", "structures_sha256") if key in sampling}
    else:
        described = {"content_sha256": card.get("content_sha256")}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def compare(found: Sequence[dict[str, Any]], expected: Path) -> list[dict[str, Any]]:
    """``found`` with a verdict on each record, from the accuracy records shipped with a student.

    Args:
        found: records of the accuracy stage with ``student_sha256`` and ``sample_sha256``.
        expected: file of such records.

    Returns:
        The records, each with ``card``: None if the card is about another student or sample, else
        ``{"agrees", "expected": {...}, "tolerances": {...}}``. A record that disagrees has the status ``failed``.

    Raises:
        UserError: ``expected`` cannot be read.
    """
    known = {_key(record): record for record in schema.read(expected)}
    return [_judged(record, known.get(_key(record))) for record in found]


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(key) for key in ("student_sha256", "sample_sha256", "split"))


def _judged(record: dict[str, Any], shipped: Mapping[str, Any] | None) -> dict[str, Any]:
    if shipped is None or shipped["status"] != "ok":
        return record | {"card": None}
    expected = {key: shipped[key] for key in TOLERANCES}
    wrong = [
        f"{key} {record[key]:.4g}, {expected[key]:.4g} on the card (tolerance {share:.0%})"
        for key, share in TOLERANCES.items()
        if record["status"] == "ok" and abs(record[key] - expected[key]) > share * expected[key]
    ]
    if record["status"] != "ok":
        wrong = [record["reason"]]
    judged = record | {"card": {"agrees": not wrong, "expected": expected, "tolerances": TOLERANCES}}
    return judged | {"status": "failed", "reason": "not as the card says: " + "; ".join(wrong)} if wrong else judged
