"""The teacher's time on the same machine, with which the student's is compared."""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.teacher import LabelError, label, make_calculator, teacher_name
from mlff_distiller.data.teacher_settings import TeacherInput
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.other_work import OtherWork

if TYPE_CHECKING:
    from ase import Atoms


def time_teacher(
    atoms: "Atoms", teacher: Mapping[str, Any] | None = None, runs: int = 10, warmup: int = 2, seed: int = 0
) -> list[float]:
    """Milliseconds of ``runs`` evaluations of energy and forces, as MD asks for them.

    Every evaluation is of another geometry (Gaussian displacements of 0.01 A), and starts from the calculator's last
    result, as in MD.

    Raises:
        LabelError: the teacher failed.
        UserError: it cannot be made.
    """
    calculator, rng, samples = make_calculator(teacher), np.random.default_rng(seed), []
    for _ in range(warmup + runs):
        moved = atoms.copy()
        moved.positions += rng.normal(0.0, 0.01, moved.positions.shape)
        started = time.perf_counter()
        label(moved, calculator)
        samples.append(1000.0 * (time.perf_counter() - started))
    return samples[warmup:]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``time-teacher``."""
    parser.description = "Time the teacher's energy and forces on molecules, for comparison with the student."
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules")
    parser.add_argument("--output", type=Path, required=True, help="records to write (JSON)")
    parser.add_argument("--settings", help="JSON text or file with a 'teacher' mapping (default: GFN2-xTB)")
    parser.add_argument("--runs", type=int, default=10, help="timed evaluations per molecule (default %(default)s)")
    parser.add_argument("--warmup", type=int, default=2, help="evaluations before those (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="OpenMP threads (default %(default)s)")
    parser.add_argument("--replicate", type=int, default=0, help="number of this repetition (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Time every system and write one record each; a system on which the teacher fails is recorded as failed."""
    from mlff_distiller.records import schema
    from mlff_distiller.systems.read import read_systems
    from mlff_distiller.utils.files import load_settings

    if min(args.runs, args.threads) < 1 or args.warmup < 0:
        raise UserError("--runs and --threads must be at least 1, --warmup at least 0")
    _with_threads(args.threads)
    teacher = TeacherInput.from_mapping(load_settings(args.settings or "{}")).teacher.to_mapping()
    systems = read_systems(args.systems)
    make_calculator(teacher)
    made = []
    for name, atoms in systems.items():
        outcome: dict[str, Any] = {"status": "ok", "samples_ms": []}
        others = OtherWork()
        try:
            outcome["samples_ms"] = time_teacher(atoms, teacher, args.runs, args.warmup, seed=args.replicate)
            outcome["others_cores"] = others.cores()
            print(f"{name}: {len(atoms)} atoms, median {np.median(outcome['samples_ms']):.2f} ms", flush=True)
        except LabelError as error:
            outcome |= {"status": "failed", "reason": f"the teacher failed: {error}"}
            print(f"{name}: {outcome['reason']}", flush=True)
        made.append(
            schema.record(
                "benchmark",
                variant="teacher",
                task="energy_forces",
                system=name,
                n_atoms=len(atoms),
                batch=1,
                device="cpu",
                dtype="float64",
                replicate=args.replicate,
                warmup=args.warmup,
                runs=args.runs,
                threads=args.threads,
                baseline_samples_ms=None,
                teacher=teacher_name(teacher),
                **outcome,
            )
        )
    schema.write(args.output, made)
    return 0


def _with_threads(threads: int) -> None:
    """Start this command again with ``threads`` OpenMP threads, unless it already runs so: OpenMP reads the variables once."""
    wanted = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **wanted})
