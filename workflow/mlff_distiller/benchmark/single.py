"""The benchmark stage: one variant against eager, interleaved in one process, one replicate."""

import argparse
import gc
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.systems.rattle import rattled
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils.other_work import OtherWork
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.gate import refusal_of_timing
from mlff_distiller.variants.plain_student import fp32_baseline

if TYPE_CHECKING:
    from ase import Atoms

TASKS = ("energy", "energy_forces", "neighbors")
#: The baseline's neighbor search.
NATIVE = "native"
#: Geometries that the timed calls cycle through, so that no call can reuse the previous result.
N_FRAMES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--equivalence", type=Path, required=True, help="records of the variant's equivalence check")
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--warmup", type=int, default=10, help="most rounds before counting (default %(default)s)")
    parser.add_argument("--runs", type=int, default=50, help="timed calls (default %(default)s)")
    parser.add_argument("--replicate", type=int, default=0, help="number of this process among its replicates")
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``benchmark`` per system and task, every sample in it."""
    systems = read_systems(args.systems)
    files = VariantFiles.from_arguments(args)
    how = {name: getattr(args, name) for name in ("tasks", "warmup", "runs", "replicate")}
    schema.write(args.output, measure(files, args.equivalence, systems, **how))
    return 0


def measure(
    files: VariantFiles,
    equivalence: Path,
    systems: "dict[str, Atoms]",
    tasks: Sequence[str] = TASKS,
    warmup: int = 10,
    runs: int = 50,
    replicate: int = 0,
) -> list[dict[str, Any]]:
    """One record for each system and task. What failed its equivalence check is not timed: its records carry the reason.

    Args:
        files: of the variant.
        equivalence: records of its check.
        systems: molecules by name.
        tasks: of :data:`TASKS`.
        warmup: most rounds before counting.
        runs: timed turns.
        replicate: number of this process among its replicates.
    """
    made = artifact.read_metadata(files.variant)
    common = artifact.shared_fields(made) | {"replicate": replicate, "runs": runs, "threads": files.threads}
    tasks = own_tasks(made, tasks)
    rows = []
    loaded = baseline = None
    for name, atoms in systems.items():
        fields = common | {"system": name, "n_atoms": len(atoms)}
        if refused := refusal_of_timing(equivalence, name):
            rows += [schema.record("benchmark", **fields, task=task, **refused) for task in tasks]
            continue
        if loaded is None:
            loaded = artifact.load_variant(files)
            baseline = fp32_baseline(files.checkpoint, made["device"], NATIVE)
            # Garbage is collected before every timing: leave out the half million objects of the imports.
            gc.freeze()
        for task in tasks:
            entry = fields | {"task": task}
            try:
                entry |= time_task(loaded.potential, baseline, atoms, task, runs, warmup, seed=replicate)
            except NotImplementedError as why:
                entry |= {"status": "unavailable", "reason": str(why)}
            except Exception as error:
                entry |= failure(error)
            rows.append(schema.record("benchmark", **entry))
    if replicate == 0 and loaded is not None:
        # The number of operations does not depend on the molecule; how busy they keep a GPU does.
        small = min(systems, key=lambda name: len(systems[name]))
        for row in rows:
            if row["system"] == small or made["device"] != "cpu":
                add_profile(row, loaded.potential, systems)
    return rows


def own_tasks(made: dict[str, Any], tasks: Sequence[str]) -> Sequence[str]:
    """``tasks`` of the variant that was ``made``; without ``neighbors`` where its search is that of the baseline."""
    if made["variant"] == BASELINE or made["options"].get("neighbors") != NATIVE:
        return tasks
    return [task for task in tasks if task != "neighbors"]


def add_profile(row: dict[str, Any], potential, systems: "dict[str, Atoms]") -> None:
    """Add to the record of a timing how many operations one call has; on a GPU also the share of the time it was busy.

    Calls are slower after profiling, so this comes after all timings. A record that cannot be profiled goes without these
    numbers: they explain a time and decide nothing.
    """
    if row["status"] != "ok" or row["task"] not in ("energy", "energy_forces"):
        return
    from mlff_distiller.benchmark.profiling import profile_call
    from mlff_distiller.systems.batch import Batch

    inputs = [Batch.from_atoms([systems[row["system"]]], potential.device, potential.dtype)]
    call = _call(potential, row["task"], inputs)
    try:
        found = profile_call(lambda: call(0), potential.device)
    except RuntimeError:
        traceback.print_exc()
        return
    row["n_operations"] = found["n_operations"]
    if found["unit"] == "kernel":
        row |= {name: found[name] for name in ("n_launches", "n_kernels", "gpu_busy_percent")}


def time_task(potential, baseline, atoms: "Atoms", task: str, runs: int, warmup: int, seed: int) -> dict[str, Any]:
    """Samples (ms) of a task on one system for the variant and, interleaved with it, for the baseline.

    Also the median time of a turn's first call, which finds the other's code and data in the caches. ``seed`` is that of
    the geometries.
    """
    import torch

    from mlff_distiller.benchmark.timing import interleaved
    from mlff_distiller.systems.batch import Batch

    frames = rattled(atoms, N_FRAMES, amplitude=0.01, seed=seed)
    calls = []
    for which in (potential, baseline):
        inputs = [Batch.from_atoms([frame], which.device, which.dtype) for frame in frames]
        # The same molecule at other positions: one set of numbers, batch and cell, as in a simulation.
        inputs = [inputs[0]._replace(positions=one.positions) for one in inputs]
        calls.append(_call(which, task, inputs))
    wait = torch.cuda.synchronize if potential.device.type == "cuda" else None
    others = OtherWork()
    (mine, reference), warmed = interleaved(calls, runs, warmup, wait)
    others_cores = others.cores()
    n_edges = baseline.neighbors(*_search_arguments(Batch.from_atoms([atoms], baseline.device, baseline.dtype)))[
        0
    ].shape[0]
    return {
        "n_edges": n_edges,
        "warmup": warmed,
        "samples_ms": mine.samples,
        "baseline_samples_ms": reference.samples,
        "first_call_ms": median(mine.first),
        "baseline_first_call_ms": median(reference.first),
        "others_cores": others_cores,
    }


def _search_arguments(inputs) -> tuple:
    return inputs.positions, inputs.batch, inputs.cell, inputs.pbc


def _call(potential, task: str, inputs: list):
    if task == "neighbors":
        arguments = [_search_arguments(entry) for entry in inputs]
        return lambda index: potential.neighbors(*arguments[index % len(arguments)])
    function = potential.energy if task == "energy" else potential
    return lambda index: function(*inputs[index % len(inputs)])
