"""The scaling stage: one variant beyond one molecule at a time, against eager PyTorch.

Batches of molecules, boxes of a liquid, calls through ASE, MD steps, and where the time of a call goes. Each point is
measured by itself: one that fails, does not fit into memory or would take too long gives a record with the reason, and
the next point follows. Eager (with the ``auto`` neighbor search, which does not search all pairs of large systems) takes
turns with the variant as long as it fits; beyond that a point has a time and no speed-up.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.benchmark.settings import ScalingSettings
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.read import read_system, read_systems
from mlff_distiller.utils.files import load_settings
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.gate import refusal
from mlff_distiller.variants.plain_student import fp32_baseline

if TYPE_CHECKING:
    from ase import Atoms


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
    if refused := refusal(args.equivalence):
        rows = [_record(task, common, **refused) for task in settings.tasks]
    else:
        molecules = read_systems(args.systems), read_system(args.molecule), read_system(args.liquid)
        rows = list(measure(VariantFiles.from_arguments(args), settings, common, *molecules))
    schema.write(args.output, rows)
    return 0


def _record(task: str, common: dict[str, Any], **fields: Any) -> dict[str, Any]:
    if task == "profile":
        return schema.record("profile", **common | {"task": "energy_forces"} | fields)
    return schema.record("benchmark", **common | {"task": task, "batch": 1} | fields)


def measure(
    files: VariantFiles,
    settings: ScalingSettings,
    common: dict[str, Any],
    systems: "dict[str, Atoms]",
    molecule: "Atoms",
    liquid: "Atoms",
) -> Iterator[dict[str, Any]]:
    """The records of a variant that is equivalent, task by task.

    Args:
        files: of the variant.
        settings: tasks and sizes.
        common: fields of all records.
        systems: molecules by name, for calls through ASE and for mixed batches.
        molecule: what batches are made of.
        liquid: what boxes are made of.
    """
    from mlff_distiller.benchmark.points import Bench

    bench = Bench(
        loaded=artifact.load_variant(files),
        eager=fp32_baseline(files.checkpoint, common["device"], neighbors="auto"),
        checkpoint=files.checkpoint,
        settings=settings,
        systems=systems,
        molecule=molecule,
        liquid=liquid,
        another_network=bool(common.get("another_network")),
    )
    for task in settings.tasks:
        points = bench.points(task)
        while True:
            try:
                fields = next(points, None)
            except Exception as error:
                # An error before the first point: the box cannot be packed, for example.
                fields = failure(error)
                points = iter(())
            if fields is None:
                break
            print(task, {key: value for key, value in fields.items() if key not in ("kernels", "samples_ms")})
            yield _record(task, common, **fields)
