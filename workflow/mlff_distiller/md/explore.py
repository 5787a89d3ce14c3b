"""Stage ``explore``: a student's own dynamics, optimisations and torsion scans, and those of their frames worth a label.

Starts are the molecules and clusters of its dataset. A trajectory that breaks a rule (:mod:`mlff_distiller.md.divergence`) ends
there; its frames from then on are left out, the last ones before it are chosen first. Frames of molecules of the split ``val``
stay in it: what is learned is measured on them.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.dataset import Dataset, content_hash, from_lists, summary, write_dataset
from mlff_distiller.data.read import read_dataset
from mlff_distiller.md.choice import REASONS, Candidate, choose
from mlff_distiller.md.distortions import open_bonds, stretched, torsion_bonds, turned
from mlff_distiller.md.divergence import RULES
from mlff_distiller.md.explore_settings import ExploreSettings
from mlff_distiller.md.starts import Start, choose_starts

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.md.walk import Walk

#: How a frame came about, as its dataset calls it.
METHODS = DYNAMICS, RELAXATION, TORSION = "student_md", "student_relaxation", "student_torsion"
HOW_CHOSEN = (
    "frames before a divergence first, up to half of all; then {evenly:.0%} evenly, molecules in turn; then by the largest error "
    "that the student expects of a force component, elements of its atom in turn"
)
HOW_CHOSEN_BLINDLY = (
    "frames before a divergence first, up to half of all; then evenly, molecules in turn, for the student does not know what "
    "errors to expect (`python -m mlff_distiller learn-domain` fits that to labels)"
)


@dataclass(frozen=True)
class _Task:
    """What one worker moves side by side: a start each, at a temperature each (0 for :data:`RELAXATION`, :data:`TORSION`)."""

    checkpoint: str
    device: str
    method: str
    starts: "tuple[Atoms, ...]"
    temperatures: tuple[float, ...]
    settings: str
    seed: int


@dataclass(frozen=True)
class Trip:
    """One trajectory or scan to be made: ``start``, as a row of the starts; ``temperature_k``: 0 without a thermostat."""

    method: str
    start: int
    temperature_k: float


def plan(starts: Sequence[Start], settings: ExploreSettings) -> list[Trip]:
    """All trajectories and scans, in the order of their kinds and, within one, of the atoms that they move."""
    order = sorted(range(len(starts)), key=lambda k: len(starts[k].atoms))
    temperatures = settings.temperatures_k if settings.steps else ()
    trips = [Trip(DYNAMICS, k, float(t)) for k in order for t in temperatures]
    trips += [Trip(RELAXATION, k, 0.0) for k in order for _ in range(settings.relaxations)]
    return trips + [Trip(TORSION, k, 0.0) for k in order for _ in range(settings.torsions) if starts[k].alone]


def explore(
    checkpoint: Path, dataset: Dataset, settings: ExploreSettings, seed: int, parts: Path, cores: int
) -> tuple[Dataset, dict[str, Any]]:
    """Unlabeled frames that a student's own moves visit, and for the card how they came about.

    Args:
        checkpoint: the student.
        dataset: labeled; what starts.
        settings: how far, and how many frames.
        seed: of all that is drawn.
        parts: directory for finished parts, by which an interrupted run resumes.
        cores: worker processes, one thread each; on a GPU there is one.

    Raises:
        UserError: there is nothing to start from, or no frame came of it.
    """
    from mlff_distiller.student.checkpoint import learned_elements
    from mlff_distiller.training.initial import choose_device
    from mlff_distiller.utils.errors import UserError
    from mlff_distiller.utils.files import sha256_of
    from mlff_distiller.utils.parallel import run_in_parts

    device = choose_device(settings.device).type
    starts, there = choose_starts(dataset, settings, learned_elements(checkpoint), seed)
    trips = plan(starts, settings)
    groups = _groups(trips, starts, settings, cores if device == "cpu" else 1)
    spec = json.dumps(settings.to_mapping(), sort_keys=True)
    tasks = [
        _Task(
            str(checkpoint),
            device,
            trips[group[0]].method,
            tuple(starts[trips[k].start].atoms for k in group),
            tuple(trips[k].temperature_k for k in group),
            spec,
            seed * 1_000_003 + index,
        )
        for index, group in enumerate(groups)
    ]
    key = hashlib.sha256(f"{sha256_of(checkpoint)} {content_hash(dataset)} {spec} {seed} {groups}".encode()).hexdigest()
    weights = [float(_cost(task, settings)) for task in tasks]
    results = run_in_parts(_explore_part, tasks, parts, key, cores if device == "cpu" else 1, "exploring", weights)

    ended = [""] * len(trips)
    candidates: list[Candidate] = []
    positions: list[np.ndarray] = []
    for group, result in zip(groups, results, strict=True):
        row = 0
        for place, k in enumerate(group):
            start, first = starts[trips[k].start], int(result["bounds"][place])
            ended[k] = str(result["ended"][place])
            for c in range(first, int(result["bounds"][place + 1])):
                why, element = REASONS[int(result["why"][c])], int(result["element"][c])
                time, score = float(result["time"][c]), float(result["score"][c])
                candidates.append(Candidate(k, time, why, score, element, start.molecule))
                positions.append(result["positions"][row : row + len(start.atoms)])
                row += len(start.atoms)
    has_domain = any(bool(result["has_domain"]) for result in results)
    chosen = _chosen(candidates, [starts[trip.start].split for trip in trips], settings, seed)
    if not chosen:
        raise UserError(
            "exploring: no frame is worth a label: every trajectory ended at its start (see the rules on the card). Train the "
            "student longer before the first round, or lower student.rounds.explore.timestep_fs"
        )
    picked = [(trips[candidates[c].trajectory], positions[c]) for c in chosen]
    found = _dataset(picked, starts)
    how = HOW_CHOSEN.format(evenly=settings.evenly) if has_domain else HOW_CHOSEN_BLINDLY
    return found, {
        "settings": settings.to_mapping(),
        "starts": dict(Counter(_kind(start) for start in starts)),
        "to_start_from": there,
        "trajectories": _outcome(trips, ended),
        "rules": RULES,
        "chosen": {
            "how": how,
            "of_candidates": len(candidates),
            "by_reason": dict(Counter(candidates[c].why for c in chosen).most_common()),
            "trajectories": len({candidates[c].trajectory for c in chosen}),
        },
    }


def _chosen(
    candidates: Sequence[Candidate], split_of: Sequence[str], settings: ExploreSettings, seed: int
) -> list[int]:
    """The choice, for each split by itself: ``split_of`` [trajectories]."""
    chosen = []
    held_out = round(settings.labels * settings.held_out)
    for split, n in (("train", settings.labels - held_out), ("val", held_out)):
        rows = [c for c, candidate in enumerate(candidates) if split_of[candidate.trajectory] == split]
        chosen += [rows[k] for k in choose([candidates[c] for c in rows], n, settings, seed)]
    return chosen


def _dataset(picked: "Sequence[tuple[Trip, np.ndarray]]", starts: Sequence[Start]) -> Dataset:
    moved = [starts[trip.start] for trip, _ in picked]
    boxes = {}
    if any(start.atoms.pbc.any() for start in moved):
        boxes["cells"] = np.array([start.atoms.cell.array for start in moved])
        boxes["pbc"] = np.array([start.atoms.pbc for start in moved])
    return from_lists(
        [start.atoms.numbers for start in moved],
        [positions for _, positions in picked],
        [start.molecule for start in moved],
        [start.split for start in moved],
        [trip.method for trip, _ in picked],
        methods=METHODS,
        **boxes,
    )


def _kind(start: Start) -> str:
    return f"{start.split}: {'molecules' if start.alone else 'clusters'}"


def _outcome(trips: Sequence[Trip], ended: Sequence[str]) -> dict[str, Any]:
    """How many there were and how many diverged, by rule, of each kind and temperature."""
    by: dict[str, dict[str, int]] = {}
    for trip, rule in zip(trips, ended, strict=True):
        name = f"{trip.method} {trip.temperature_k:g} K" if trip.temperature_k else trip.method
        entry = by.setdefault(name, {"trajectories": 0, "diverged": 0})
        entry["trajectories"] += 1
        entry["diverged"] += bool(rule)
    rules = Counter(rule for rule in ended if rule)
    return {
        "number": len(trips),
        "diverged": sum(rules.values()),
        "diverged_by_rule": dict(rules.most_common()),
        "by_kind": by,
    }


def _groups(trips: Sequence[Trip], starts: Sequence[Start], settings: ExploreSettings, workers: int) -> list[list[int]]:
    """Trips that move side by side: of one kind, up to ``batch_atoms`` atoms, and enough groups for all workers."""
    sizes = [len(starts[trip.start].atoms) for trip in trips]
    most = min(settings.batch_atoms, -(-sum(sizes) // (2 * workers)) if workers > 1 else settings.batch_atoms)
    groups: list[list[int]] = []
    atoms = 0
    for k, trip in enumerate(trips):
        if not groups or trips[groups[-1][0]].method != trip.method or atoms + sizes[k] > most:
            groups.append([])
            atoms = 0
        groups[-1].append(k)
        atoms += sizes[k]
    return groups


def _cost(task: _Task, settings: ExploreSettings) -> int:
    """In atoms times evaluations."""
    from mlff_distiller.md.walk import DESCENT_STEPS

    steps = {DYNAMICS: settings.steps, RELAXATION: DESCENT_STEPS, TORSION: 24}[task.method]
    return steps * sum(len(atoms) for atoms in task.starts)


def _explore_part(task: _Task) -> dict[str, np.ndarray]:
    """The candidates of one group (runs in a worker), system after system: those of system k are rows bounds[k : k + 2]."""
    from mlff_distiller.md.walk import Explorer, Walk
    from mlff_distiller.student.checkpoint import load_student

    settings = ExploreSettings.from_mapping(json.loads(task.settings))
    student = load_student(task.checkpoint, device=task.device)
    explorer, rng = Explorer(student, settings, task.seed), np.random.default_rng(task.seed)
    starts = explorer.settled(list(task.starts)) if task.method == DYNAMICS else list(task.starts)
    walks = [Walk(atoms, temperature or None) for atoms, temperature in zip(starts, task.temperatures, strict=True)]
    if task.method == DYNAMICS:
        explorer.dynamics(walks)
    elif task.method == RELAXATION:
        explorer.relaxations(walks, [_distorted(walk, rng) for walk in walks])
    else:
        for walk in walks:
            bonds = torsion_bonds(open_bonds(walk.start), walk.start)
            if bonds:
                explorer.scan(walk, turned(walk.start.positions, bonds[int(rng.integers(len(bonds)))]))
    has_domain = student.domain is not None
    found = [walk.candidates(settings, has_domain) for walk in walks]
    joined = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return joined | {
        "bounds": np.concatenate([[0], np.cumsum([len(each["why"]) for each in found])]),
        "ended": np.array([walk.ended for walk in walks], dtype=str),
        "has_domain": np.array(has_domain),
    }


def _distorted(walk: "Walk", rng: np.random.Generator) -> np.ndarray:
    """Its start with a bond pulled or pressed; the start itself where there is none, or where that breaks a rule."""
    bonds = open_bonds(walk.start)
    if not bonds:
        return walk.start.positions
    moved = stretched(walk.start.positions, bonds[int(rng.integers(len(bonds)))], rng)
    return walk.start.positions if walk.watch(moved) else moved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``explore``."""
    parser.description = (
        "Run a student's own dynamics, optimisations and torsion scans, and choose frames for the teacher."
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="student (safetensors)")
    parser.add_argument(
        "--dataset", type=Path, required=True, help="labels whose molecules start (splits train and val)"
    )
    parser.add_argument("--settings", default="{}", help="JSON text or file: how far, how many frames")
    parser.add_argument("--round", type=int, default=1, help="which round it is, for other numbers than in the others")
    parser.add_argument("--output", type=Path, required=True, help="configurations to write (HDF5, without labels)")
    parser.add_argument("--card", type=Path, required=True, help="JSON to write: trajectories, rules, how was chosen")
    parser.add_argument("--cores", type=int, default=1, help="worker processes on a CPU (default %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Explore and write; finished parts stay in ``OUTPUT.parts`` until all is written."""
    import shutil

    from mlff_distiller.utils.files import load_settings, sha256_of, write_json

    settings = ExploreSettings.from_mapping(load_settings(args.settings))
    parts = args.output.with_name(args.output.name + ".parts")
    seed = settings.seed + 1000 * args.round
    found, card = explore(args.checkpoint, read_dataset(args.dataset), settings, seed, parts, args.cores)
    write_dataset(args.output, found)
    write_json(args.card, summary(found) | card | {"round": args.round, "student_sha256": sha256_of(args.checkpoint)})
    shutil.rmtree(parts, ignore_errors=True)
    went = card["trajectories"]
    print(
        f"{args.output}: {len(found)} frames of {went['number']} trajectories and scans, {went['diverged']} of which diverged "
        f"{went['diverged_by_rule'] or ''}"
    )
    print(f"chosen: {card['chosen']['by_reason']}; {card['chosen']['how']}")
    return 0
