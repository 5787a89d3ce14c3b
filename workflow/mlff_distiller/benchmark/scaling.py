"""The scaling stage: one variant beyond one molecule at a time, against eager PyTorch.

Batches of molecules, boxes of a liquid, calls through ASE, MD steps, and where the time of a call goes. Each point is
measured by itself: what fails, does not fit into memory or would take too long is a record that says so, and the next
point follows. Eager (the ``auto`` neighbor search, so that large systems are not searched pair by pair) takes turns
with the variant as long as it fits, too; beyond that a point has a time and no speed-up.
"""

import argparse
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlff_distiller.benchmark.settings import ScalingSettings
from mlff_distiller.records import schema
from mlff_distiller.systems.read import read_system, read_systems
from mlff_distiller.utils.errors import first_line
from mlff_distiller.utils.files import load_settings
from mlff_distiller.variants import artifact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--equivalence", type=Path, required=True, help="records of the variant's equivalence check")
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--molecule", required=True, help="file of the molecule that batches are made of")
    parser.add_argument("--liquid", required=True, help="file of the molecule that boxes are made of")
    parser.add_argument("--settings", default="{}", help="tasks, batches, box_atoms, ... (JSON text or a file)")
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """Records of kind ``benchmark`` (tasks ``throughput``, ``periodic``, ``calculator``, ``md_steps``) and ``profile``."""
    settings = ScalingSettings.from_mapping(load_settings(args.settings))
    made = artifact.read_metadata(args.variant)
    common = artifact.shared_fields(made) | {"threads": args.threads, "replicate": 0}
    refusal = _refusal(args.equivalence)
    if refusal:
        status, reason = refusal
        rows = [_record(task, common, status=status, reason=reason) for task in settings.tasks]
    else:
        rows = list(measure(args, settings, common))
    schema.write(args.output, rows)
    return 0


def _refusal(equivalence: Path) -> tuple[str, str] | None:
    """Status and reason of the first system on which the variant may not be timed."""
    for entry in schema.read(equivalence):
        if entry["status"] != "ok":
            return entry["status"], f"{entry['system']}: {entry['reason']}"
    return None


def _record(task: str, common: dict[str, Any], **fields: Any) -> dict[str, Any]:
    if task == "profile":
        return schema.record("profile", **common | {"task": "energy_forces"} | fields)
    return schema.record("benchmark", **common | {"task": task, "batch": 1} | fields)


def measure(args: argparse.Namespace, settings: ScalingSettings, common: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The records of a variant that is equivalent, task by task."""
    import torch

    from mlff_distiller.benchmark.points import Bench
    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.student.checkpoint import load_student

    loaded = artifact.load_variant(args)
    eager = AutogradPotential(load_student(args.checkpoint, common["device"], torch.float32, neighbors="auto"))
    bench = Bench(
        loaded=loaded,
        eager=eager,
        checkpoint=args.checkpoint,
        settings=settings,
        systems=read_systems(args.systems),
        molecule=read_system(args.molecule),
        liquid=read_system(args.liquid),
        another_network=bool(common.get("another_network")),
    )
    for task in settings.tasks:
        points = bench.points(task)
        while True:
            try:
                fields = next(points, None)
            except Exception as error:
                # What comes before the first point: the box cannot be packed, say.
                traceback.print_exc()
                fields = {"status": "failed", "reason": f"{type(error).__name__}: {first_line(error)}"}
                points = iter(())
            if fields is None:
                break
            print(task, {key: value for key, value in fields.items() if key not in ("kernels", "samples_ms")})
            yield _record(task, common, **fields)
