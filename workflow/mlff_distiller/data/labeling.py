"""The teacher's labels for configurations: parallel, resumable, with what failed recorded and left out."""

import argparse
import hashlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlff_distiller.data.dataset import Dataset, content_hash, read_configurations, summary, write_dataset
from mlff_distiller.data.labeling_settings import LabelInput, LabelLimits
from mlff_distiller.data.stress import gathered
from mlff_distiller.data.teacher_settings import DEFAULT_CALCULATOR, TeacherSettings
from mlff_distiller.data.trajectories import read_frames
from mlff_distiller.utils import gpus
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.shares import Work, add_share_arguments

#: Of frames that the student visited: where it went astray is what they are there to show.
NO_LIMITS = LabelLimits(max_force_ev_per_a=None, max_energy_ev_per_atom=None)
#: Squared atom numbers per part, of which an interrupted job makes those under way again: about two seconds of GFN2-xTB.
PART_WEIGHT = 40_000
#: The same for any other teacher, which may take a minute for twenty atoms: then ten minutes.
DEAR_PART_WEIGHT = 4_000
#: So many configurations in a row at which the teacher's process dies are not their fault.
MOST_DEATHS = 10
#: Why their labels are left out.
DIED = "the teacher's process died"
#: What a configuration of n atoms costs: ``FLOOR + n^2 + n^3 / CUBIC``, in squared atom numbers. GFN2-xTB takes 2 ms of a core
#: for 4 atoms, 4 for 12, 12 for 24, 30 for 40, 350 for 120 and 1,070 for 180 (measured); other teachers start from more.
FLOOR, CUBIC = 120, 150
#: What a periodic box costs, in units of as many atoms without images.
PERIODIC_COST = 30


@dataclass(frozen=True)
class _Task:
    numbers: np.ndarray
    positions: np.ndarray
    counts: np.ndarray
    cells: np.ndarray | None
    pbc: np.ndarray | None
    teacher: str


def label_dataset(
    dataset: Dataset,
    teacher: Mapping[str, Any] | None,
    parts: Path,
    cores: int,
    limits: LabelLimits = LabelLimits(),  # noqa: B008 (frozen)
    may_be_none: bool = False,
) -> tuple[Dataset, dict[str, Any]]:
    """``dataset`` with the teacher's energies (eV) and forces (eV/A), less what failed or lies beyond the limits.

    Cells that are periodic along all three vectors also have its stress (eV/A^3), where the teacher gives one and is asked to.

    Energies are judged per molecule or cluster: ``max_energy_ev_per_atom`` above the lowest label of the same name.

    Args:
        dataset: configurations.
        teacher: mapping as in :func:`mlff_distiller.data.teacher.make_calculator`; None for GFN2-xTB.
        parts: directory for finished parts, by which an interrupted run resumes.
        cores: worker processes, one thread each.
        limits: beyond which a label is left out.
        may_be_none: no label at all is a result, too: of frames of an MD that went wrong.

    Returns:
        The labeled dataset, and for its card ``{"labels_tried", "left_out": {reason: n}, "examples", "limits",
        "teacher_seconds", "labels_per_core_second"}``, and with periodic cells ``"stress"``: how many labels have one, or why
        none has.

    Raises:
        UserError: the teacher cannot be made, or labels nothing at all.
    """
    return judged(dataset, teacher, label_work(dataset, teacher).make(parts, cores), limits, may_be_none)


def label_work(dataset: Dataset, teacher: Mapping[str, Any] | None) -> Work:
    """All labels of ``dataset`` as tasks of about equal cost, which may be shared out; ``teacher`` as in :func:`label_dataset`.

    Their results: ``energies`` [n] float64 eV, ``forces`` [A, 3] float32 eV/A, ``reasons`` [n] text, why there is no label, and
    ``seconds``, those of each task.
    """
    spec = json.dumps(teacher, sort_keys=True)
    # Parts from before labels had a stress have none.
    form = " with stress" if _cells(dataset).any() else ""
    costs = _costs(dataset)
    default = TeacherSettings.from_mapping(teacher or {}).calculator == DEFAULT_CALCULATOR
    part_weight = PART_WEIGHT if default else DEAR_PART_WEIGHT
    bounds = _bounds(costs, part_weight)

    def name_of(index: int) -> str:
        here = range(bounds[index], bounds[index + 1])
        molecules = dict.fromkeys(dataset.molecules[dataset.molecule[i]] for i in here)
        return f"configurations {here[0]} to {here[-1]} ({', '.join(list(molecules)[:3])})"

    return Work(
        function=_label_task,
        task=lambda index: _task(dataset, bounds[index], bounds[index + 1], spec),
        weights=[float(costs[a:b].sum()) for a, b in itertools.pairwise(bounds)],
        key=hashlib.sha256(f"{content_hash(dataset)} {spec} {part_weight} {FLOOR} {CUBIC}{form}".encode()).hexdigest(),
        description="labeling",
        name_of=name_of,
        template=_without_labels(_task(dataset, 0, 0, spec), ""),
        fallback=_Apart(),
    )


def judged(
    dataset: Dataset,
    teacher: Mapping[str, Any] | None,
    found: Mapping[str, np.ndarray],
    limits: LabelLimits,
    may_be_none: bool = False,
) -> tuple[Dataset, dict[str, Any]]:
    """As :func:`label_dataset`, from the results ``found`` of all of :func:`label_work`."""
    from mlff_distiller.data.teacher import teacher_name

    reasons = found["reasons"].astype(object)
    seconds = float(found["seconds"].sum())
    labeled = replace(dataset, energies=found["energies"], forces=found["forces"], teacher=teacher_name(teacher))
    cells = _cells(dataset)
    if cells.any():
        stresses = found["stresses"]
        labeled = replace(labeled, stresses=None if np.isnan(stresses).all() else stresses)
    _judge(labeled, reasons, limits)
    good = reasons == ""
    if not good.any() and not may_be_none:
        raise UserError(
            f"the teacher labeled none of {len(dataset)} configurations; the first failed with: {reasons[0]}"
        )
    bad = np.flatnonzero(~good)
    kept = labeled.select(good)
    names = [dataset.molecules[dataset.molecule[i]] for i in bad[:50]]
    return kept, {
        "labels_tried": len(dataset),
        "left_out": dict(Counter(_sort_of(reason) for reason in reasons[bad]).most_common()),
        "left_out_by_method": {
            name: int((dataset.method[bad] == k).sum())
            for k, name in enumerate(dataset.methods)
            if (dataset.method[bad] == k).any()
        },
        "examples": [
            {"index": int(i), "molecule": name, "reason": str(reasons[i])} for i, name in zip(bad, names, strict=False)
        ],
        "limits": limits.to_mapping(),
        "teacher_seconds": round(seconds, 2),
        "labels_per_core_second": round(len(dataset) / max(seconds, 1e-9), 2),
    } | ({"stress": _about_stress(kept, teacher)} if cells.any() else {})


def _cells(dataset: Dataset) -> np.ndarray:
    """[n] bool: which configurations are periodic in three directions, and may have a stress."""
    return np.zeros(len(dataset), dtype=bool) if dataset.pbc is None else dataset.pbc.all(axis=1)


def _about_stress(labeled: Dataset, teacher: Mapping[str, Any] | None) -> str:
    n = int(labeled.has_stress.sum())
    if n:
        return f"{n} of {len(labeled)} labels have a stress"
    if not TeacherSettings.from_mapping(teacher or {}).stress:
        return "not asked for: teacher.stress is false"
    return "the teacher gives none; the student learns from energies and forces alone"


def _judge(labeled: Dataset, reasons: np.ndarray, limits: LabelLimits) -> None:
    """Write why into ``reasons`` for labels beyond the limits."""
    if len(labeled) == 0:
        return
    max_force = np.inf if limits.max_force_ev_per_a is None else limits.max_force_ev_per_a
    max_energy = np.inf if limits.max_energy_ev_per_atom is None else limits.max_energy_ev_per_atom
    largest = np.maximum.reduceat(np.abs(labeled.forces).max(axis=1), labeled.offsets[:-1])
    per_atom = labeled.energies / labeled.n_atoms
    lowest = np.full(len(labeled.molecules), np.inf)
    fine = reasons == ""
    np.minimum.at(lowest, labeled.molecule[fine], per_atom[fine])
    with np.errstate(invalid="ignore"):
        above = per_atom - lowest[labeled.molecule]
        reasons[fine & (largest > max_force)] = "force beyond the limit"
        reasons[fine & (reasons == "") & (above > max_energy)] = "energy beyond the limit"


def _bounds(costs: np.ndarray, part_weight: int) -> list[int]:
    """Where to cut the configurations into parts that cost ``part_weight`` or little more."""
    bounds, weight = [0], 0
    for i, cost in enumerate(costs.tolist()):
        weight += cost
        if weight >= part_weight:
            bounds.append(i + 1)
            weight = 0
    return bounds if bounds[-1] == len(costs) else [*bounds, len(costs)]


def _costs(dataset: Dataset) -> np.ndarray:
    """[n] int64: of each configuration, see :data:`FLOOR`."""
    n = dataset.n_atoms.astype(np.int64)
    costs = n**2 + n**3 // CUBIC
    return FLOOR + (costs if dataset.pbc is None else costs * np.where(dataset.pbc.any(axis=1), PERIODIC_COST, 1))


def _task(dataset: Dataset, start: int, stop: int, teacher: str) -> _Task:
    atoms = slice(dataset.offsets[start], dataset.offsets[stop])
    periodic = dataset.cells is not None
    return _Task(
        dataset.numbers[atoms],
        dataset.positions[atoms],
        # Not a view of those of all configurations, which would stay in memory with every part.
        np.diff(dataset.offsets[start : stop + 1]),
        dataset.cells[start:stop] if periodic else None,
        dataset.pbc[start:stop] if periodic else None,
        teacher,
    )


def _label_task(task: _Task) -> dict[str, np.ndarray]:
    """Labels of one part (runs in a worker)."""
    from ase import Atoms

    from mlff_distiller.data.teacher import LabelError, kept_calculator, label, label_stress

    if TeacherSettings.from_mapping(json.loads(task.teacher) or {}).calculator != DEFAULT_CALCULATOR:
        # Workers share the machine's GPUs evenly.
        gpus.take_one(f"teacher {os.getpid()}")
    calculator = kept_calculator(task.teacher)
    wants_stress = TeacherSettings.from_mapping(json.loads(task.teacher) or {}).stress
    stresses: list[np.ndarray | None] = [None] * len(task.counts)
    bounds = np.concatenate([[0], np.cumsum(task.counts)])
    energies = np.full(len(task.counts), np.nan)
    forces = np.full((len(task.numbers), 3), np.nan, dtype=np.float32)
    reasons = [""] * len(task.counts)
    started = time.perf_counter()
    for i, (a, b) in enumerate(itertools.pairwise(bounds)):
        atoms = Atoms(task.numbers[a:b], task.positions[a:b].astype(np.float64))
        if task.cells is not None:
            atoms.cell, atoms.pbc = task.cells[i], task.pbc[i]
        # From scratch each time: a label must not depend on the configuration before it, or on where a run resumed.
        calculator.reset()
        try:
            energy, found = label(atoms, calculator)
            stresses[i] = label_stress(atoms, calculator) if wants_stress else None
            energies[i], forces[a:b] = energy, found
        except LabelError as error:
            reasons[i] = str(error) or "failed"
    return {
        "energies": energies,
        "forces": forces,
        "reasons": np.array(reasons, dtype=str),
        "seconds": np.array([time.perf_counter() - started]),
    } | _stresses(task, stresses)


def _stresses(task: _Task, stresses: list[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Labels of stress [n, 3, 3] as a part holds them, NaN where there are none; nothing of a part without cells."""
    if task.cells is None:
        return {}
    found = gathered(stresses)
    return {"stresses": np.full((len(task.counts), 3, 3), np.nan) if found is None else found}


class _Apart:
    """Labels of a part at which a worker died, a configuration at a time: only one at which it dies again is left out."""

    def __init__(self) -> None:
        self.deaths = 0

    def __call__(self, task: _Task) -> dict[str, np.ndarray]:
        from mlff_distiller.utils.parallel import apart

        singles = [_one_of(task, i) for i in range(len(task.counts))]
        found = []
        for single, result in zip(singles, apart(_label_task, singles), strict=True):
            self.deaths = self.deaths + 1 if result is None else 0
            if self.deaths == MOST_DEATHS:
                raise UserError(
                    f"the teacher's process died at {MOST_DEATHS} configurations in a row, each alone in it; is there memory "
                    "enough, and does the teacher run at all? Then run the same command again to go on"
                )
            found.append(_without_labels(single, DIED) if result is None else result)
        return {
            "energies": np.concatenate([result["energies"] for result in found]),
            "forces": np.concatenate([result["forces"] for result in found]),
            "reasons": np.concatenate([result["reasons"] for result in found]),
            "seconds": np.concatenate([result["seconds"] for result in found]),
        } | ({} if task.cells is None else {"stresses": np.concatenate([result["stresses"] for result in found])})


def _one_of(task: _Task, i: int) -> _Task:
    """The ``i``-th configuration of ``task`` alone."""
    bounds = np.concatenate([[0], np.cumsum(task.counts)])
    atoms = slice(bounds[i], bounds[i + 1])
    return _Task(
        task.numbers[atoms],
        task.positions[atoms],
        task.counts[i : i + 1],
        None if task.cells is None else task.cells[i : i + 1],
        None if task.pbc is None else task.pbc[i : i + 1],
        task.teacher,
    )


def _without_labels(task: _Task, reason: str) -> dict[str, np.ndarray]:
    return {
        "energies": np.full(len(task.counts), np.nan),
        "forces": np.full((len(task.numbers), 3), np.nan, dtype=np.float32),
        "reasons": np.full(len(task.counts), reason),
        "seconds": np.array([0.0]),
    } | _stresses(task, [None] * len(task.counts))


def _sort_of(reason: str) -> str:
    return str(reason).partition(":")[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``label``."""
    parser.description = "Label configurations with the teacher: total energies in eV, forces in eV/A."
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--configurations", type=Path, help="what the command 'sample' wrote")
    given.add_argument("--trajectories", type=Path, nargs="+", help="MD that a student ran, in any format of ASE; "
                       "no label of these is left out for its size")  # fmt: skip
    parser.add_argument("--frames", type=int, default=10, help="taken from each trajectory (default %(default)s)")
    parser.add_argument("--settings", help="JSON text or file: 'teacher' and 'limits' mappings")
    parser.add_argument("--output", type=Path, required=True, help="labeled dataset to write (HDF5)")
    parser.add_argument("--card", type=Path, help="also write the dataset card (JSON)")
    parser.add_argument("--sample-card", type=Path, help="card of the sampling, taken into the dataset card")
    parser.add_argument("--cores", type=int, default=1, help="worker processes (default %(default)s)")
    add_share_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Label and write; finished parts stay in ``OUTPUT.parts``, or those of a share beside it, until all is written."""
    import shutil

    from mlff_distiller.utils import provenance
    from mlff_distiller.utils.files import load_settings, read_json, sha256_of, write_json

    given = LabelInput.from_mapping(load_settings(args.settings) if args.settings else {})
    parts = args.output.with_name(args.output.name + ".parts")
    started = time.perf_counter()
    if args.trajectories:
        configurations, limits = read_frames(args.trajectories, args.frames), NO_LIMITS
    else:
        configurations, limits = read_configurations(args.configurations), given.limits
    may_be_none = bool(args.trajectories)
    teacher = given.teacher.to_mapping()
    found = label_work(configurations, teacher).done(args, parts)
    if found is None:
        return 0
    dataset, outcome = judged(configurations, teacher, found, limits, may_be_none)
    path = write_dataset(args.output, dataset)
    if args.card:
        sampling = read_json(args.sample_card) if args.sample_card else {}
        card = summary(dataset) | outcome
        card["file_sha256"] = sha256_of(path)
        kept = (
            "settings",
            "molecule_list_sha256",
            "always_trained_sha256",
            "structures_sha256",
            "molecules_by_class",
            "notes",
        )
        card["sampling"] = {key: sampling[key] for key in kept if key in sampling}
        write_json(args.card, card | {"provenance": provenance.collect()})
    shutil.rmtree(parts, ignore_errors=True)
    left_out = outcome["labels_tried"] - len(dataset)
    print(
        f"{path}: {len(dataset)} labeled configurations in {time.perf_counter() - started:.0f} s "
        f"({outcome['labels_per_core_second']} a second and core), {left_out} left out {outcome['left_out'] or ''}"
    )
    if "stress" in outcome:
        print(f"  stress: {outcome['stress']}")
    for example in outcome["examples"][:5]:
        print(f"  left out: configuration {example['index']} ({example['molecule']}): {example['reason']}")
    return 0
