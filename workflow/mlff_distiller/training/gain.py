"""Stage ``round-gain``: what a round of labels on the student's own frames gained: its errors before and after.

On frames of that round that were not trained on, which the student before the round chose as those it knows least, and on the
older held-out configurations, which must not become worse.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_distiller.data.dataset import Dataset
from mlff_distiller.data.read import read_dataset
from mlff_distiller.records import schema
from mlff_distiller.student.checkpoint import load_student
from mlff_distiller.training.accuracy import measure
from mlff_distiller.training.initial import choose_device, thinned
from mlff_distiller.utils.files import read_json, sha256_of

#: Most configurations that are looked at.
MOST = 20_000
#: What is compared.
FIGURES = ("force_mae_mev_per_a", "force_rmse_mev_per_a", "energy_mae_mev_per_atom")
#: On what: the frames of this round, and the configurations from before the rounds.
EXPLORED, SAMPLED = "explored", "sampled"


def gain(before: Path, after: Path, labels: Dataset, device: str = "auto") -> dict[str, Any]:
    """Fields of a record of the kind ``accuracy``, task ``round``: the errors of both students on the split ``val``.

    ``unavailable``, with the reason, where there is nothing in it.
    """
    part = thinned(labels.of_split("val"), MOST, 0)
    where = choose_device(device)
    common = {"device": where.type, "dtype": "float32", "student_sha256": sha256_of(after)}
    if len(part) == 0:
        return common | {"status": "unavailable", "reason": "no frame of a held-out molecule was labeled"}
    found = [measure(load_student(path, device=where), part, n_points=0) for path in (before, after)]
    errors = [{name: each[name] for name in FIGURES} for each in found]
    counts = {name: found[1][name] for name in ("n_configurations", "n_molecules")}
    return common | counts | errors[1] | {"before": errors[0]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``round-gain``."""
    parser.description = "Errors of a student before and after a round, on held-out frames of that round and of before."
    parser.add_argument("--before", type=Path, required=True, help="student before the round (safetensors)")
    parser.add_argument("--after", type=Path, required=True, help="student after it (safetensors)")
    parser.add_argument("--dataset", type=Path, required=True, help="labels of the round")
    parser.add_argument("--older", type=Path, required=True, help="labels from before the rounds")
    parser.add_argument("--exploring", type=Path, required=True, help="card of the round's exploring")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")
    parser.add_argument(
        "--output", type=Path, required=True, help="JSON of records (kind accuracy, task round) to write"
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    card = read_json(args.exploring)
    made = []
    for frames, path in ((EXPLORED, args.dataset), (SAMPLED, args.older)):
        fields = gain(args.before, args.after, read_dataset(path), args.device)
        about = {"round": card["round"], "frames": frames, "split": "val"}
        if frames == EXPLORED:
            went = card["trajectories"]
            about |= {"trajectories": went["number"], "diverged": went["diverged_by_rule"]}
            about["labels_asked"] = card["configurations"]
        made.append(schema.record("accuracy", variant="student", task="round", **about, **fields))
        print(sentence(made[-1]))
    schema.write(args.output, made)
    return 0


def sentence(record: Mapping[str, Any]) -> str:
    """A record in words."""
    kind = "of its own dynamics" if record["frames"] == EXPLORED else "sampled before"
    start = f"round {record['round']}, held-out frames {kind}: "
    if record["status"] != "ok":
        return start + str(record["reason"])
    before = record["before"]
    return (
        f"{start}force MAE {before['force_mae_mev_per_a']:.1f} -> {record['force_mae_mev_per_a']:.1f} meV/A, energy MAE "
        f"{before['energy_mae_mev_per_atom']:.2f} -> {record['energy_mae_mev_per_atom']:.2f} meV/atom "
        f"({record['n_configurations']} frames of {record['n_molecules']} molecules)"
    )
