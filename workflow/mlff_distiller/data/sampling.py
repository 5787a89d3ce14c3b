"""Configurations for the teacher to label: which molecules, which geometries, which split.

Every molecule is embedded, its conformers relaxed by a few teacher steps, and sampled by

- ``conformer``: the relaxed conformers, and frames of the relaxation;
- ``normal_modes``: harmonic samples at 150 to 1500 K on the modes of a classical force field;
- ``random``: Gaussian displacements of 0.02 to 0.08 A;
- ``stretch`` and ``torsion``: bonds pulled or pressed, torsions turned, then vibrated at 300 K;
- ``md``: Langevin dynamics of the teacher at the temperatures of the settings, frames ``md_stride`` steps apart;
- ``cluster`` and ``contact``: two to four molecules at van der Waals distance, or pressed into each other.

A cluster takes its molecules from one split, and none is a benchmark molecule. What ``coverage`` in the settings adds to that
(:mod:`mlff_distiller.data.coverage`) is always trained on, and may be: small molecules, their clusters, and liquids.

``further`` in the settings adds draws of other molecules and geometries, each by a seed of its own, to train on alone.

``structures`` in the settings adds configurations of the user's own files (:mod:`mlff_distiller.data.structures`).
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlff_distiller.data import coverage, structures
from mlff_distiller.data.always_trained import AlwaysTrained, outside_test, read_always_trained
from mlff_distiller.data.dataset import METHODS, Dataset, content_hash, from_lists, summary, write_dataset
from mlff_distiller.data.jobs import GroupJob, Job, StructureJob, generator
from mlff_distiller.data.molecule_list import Molecule, flat_smiles, grow, read_molecule_list, split_of
from mlff_distiller.data.molecules import BENCHMARK_MOLECULES
from mlff_distiller.data.sampling_settings import SampleInput, SamplingSettings
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.shares import Work, add_share_arguments


def sample(
    molecules: Sequence[Molecule],
    settings: SamplingSettings,
    teacher: Mapping[str, Any] | None,
    parts: Path,
    cores: int,
    benchmark_directory: Path | None = None,
    always: Sequence[AlwaysTrained] = (),
) -> tuple[Dataset, dict[str, Any]]:
    """Unlabeled configurations of ``molecules`` and what the settings grow from them.

    Args:
        molecules: hand-written ones (see :func:`mlff_distiller.data.molecule_list.read_molecule_list`).
        settings: sizes and shares.
        teacher: for relaxation and MD; None for GFN2-xTB.
        parts: directory for finished molecules, by which an interrupted run resumes.
        cores: worker processes.
        benchmark_directory: with the benchmark geometries; None leaves the benchmark split out.
        always: molecules that are always trained on, if ``settings.coverage`` wants any.

    Returns:
        The dataset, and ``{"settings", "molecules": {class: n}, "notes": {text: n}}`` for its card.

    Raises:
        UserError: nothing came of them.
    """
    jobs, families = plan(molecules, settings, teacher, benchmark_directory, always)
    dataset, notes = collected(jobs, sample_work(jobs).make(parts, cores), settings, always)
    return dataset, {"settings": settings.to_mapping(), "molecules_by_class": families, "notes": notes}


def sample_work(jobs: Sequence[Job | GroupJob | StructureJob]) -> Work:
    """``jobs`` as tasks, which may be shared out.

    Their results: what a dataset holds of each configuration, with ``counts`` [n] of its atoms and ``names`` [n]; ``sizes``, the
    number of configurations of each job; and ``notes`` on what went wrong.
    """
    return Work(
        function=_sample_job,
        task=jobs.__getitem__,
        weights=[float(sum(n for _, n in job.counts)) for job in jobs],
        # The number is that of the form of the results.
        key=hashlib.sha256(f"2 {jobs!r}".encode()).hexdigest(),
        description="sampling",
        name_of=lambda index: _title(jobs[index]),
        template=_packed([], []),
        fallback=_sample_apart,
    )


def collected(
    jobs: Sequence[Job | GroupJob | StructureJob],
    found: Mapping[str, np.ndarray],
    settings: SamplingSettings,
    always: Sequence[AlwaysTrained] = (),
) -> tuple[Dataset, dict[str, int]]:
    """The dataset, and notes for its card with how often each was made, from the results ``found`` of all ``jobs``.

    Raises:
        UserError: nothing came of them.
    """
    notes = Counter(_notes_on_plan(settings, always))
    notes.update(found["notes"].tolist())
    if not len(found["counts"]):
        told = f"; {notes.most_common(1)[0][0]}" if notes else ""
        raise UserError(f"no configurations came of these settings; raise 'configurations' or 'max_atoms'{told}")
    cuts = np.cumsum(found["counts"])[:-1]
    boxes = {"cells": found["cells"], "pbc": found["pbc"]} if found["pbc"].any() else {}
    return from_lists(
        np.split(found["numbers"], cuts),
        np.split(found["positions"], cuts),
        found["names"].tolist(),
        np.repeat([job.split for job in jobs], found["sizes"]).tolist(),
        [METHODS[i] for i in found["method"]],
        **boxes,
    ), dict(notes.most_common())


def plan(
    molecules: Sequence[Molecule],
    settings: SamplingSettings,
    teacher: Mapping[str, Any] | None,
    benchmark_directory: Path | None,
    always: Sequence[AlwaysTrained] = (),
) -> tuple[list[Job | GroupJob | StructureJob], dict[str, int]]:
    """One job per molecule, others of structures, and how many molecules each class gave. A function of its arguments alone.

    What ``settings.coverage`` wants is appended. For all else it changes ``val`` alone, from where the molecules ``always``
    go: ``test``, ``larger`` and ``benchmark`` are the same with and without it.

    Raises:
        UserError: ``settings.coverage`` asks for what cannot be made, or a file of ``settings.structures`` cannot be used.
    """
    jobs, families = _molecule_plan(molecules, settings, teacher, benchmark_directory, always)
    for number in range(1, settings.further.draws + 1):
        drawn, more = _molecule_plan(molecules, settings.of_draw(number), teacher, None, ())
        jobs += drawn
        families = dict((Counter(families) + Counter(more)).most_common())
    if files := settings.structures.files:
        found = structures.read_structures(files)
        if any(atoms.pbc.any() for atoms in found.values()):
            instead = "Name another teacher, SevenNet say (config/examples/crystal.yaml)"
            coverage.check_periodic(teacher, "student.sampling.structures", instead)
        jobs += structures.structure_jobs(found, settings, teacher)
        families["structure"] = len(found)
    return jobs, families


def _molecule_plan(
    molecules: Sequence[Molecule],
    settings: SamplingSettings,
    teacher: Mapping[str, Any] | None,
    benchmark_directory: Path | None,
    always: Sequence[AlwaysTrained],
) -> tuple[list[Job | GroupJob | StructureJob], dict[str, int]]:
    seed, limit, larger = settings.seed, settings.max_atoms, settings.larger
    fractions = settings.fractions.to_mapping()

    def wanted(candidates: Sequence[Molecule]) -> list[Molecule]:
        return [m for m in candidates if split_of(m.smiles, fractions, settings.splits_by) in settings.splits]

    if not settings.molecules:
        larger, benchmark_directory = larger.model_copy(update={"molecules": 0}), None
    chosen = _evenly(wanted([m for m in molecules if m.n_atoms <= limit]), settings.molecules, seed)
    if len(chosen) < settings.molecules:
        grown_limit = min(limit, settings.grown_max_atoms)
        chosen += wanted(grow(molecules, settings.molecules - len(chosen), seed, grown_limit))
    big = _evenly([m for m in molecules if limit < m.n_atoms <= larger.max_atoms], larger.molecules // 2, seed)
    if len(big) < larger.molecules:
        big += grow(molecules, larger.molecules - len(big), seed + 1, larger.max_atoms, min_atoms=limit + 1)
    spec = json.dumps({"settings": settings.to_mapping(), "teacher": teacher}, sort_keys=True)
    splits = {m.smiles: split_of(m.smiles, fractions, settings.splits_by) for m in chosen}
    # Labels cost about n^1.5, and small molecules have fewer distinct geometries: fewer of both.
    weight = np.array([min(m.n_atoms, 9) / max(m.n_atoms, 15) ** 1.2 for m in chosen])
    budget = _rounded(settings.configurations * weight / max(weight.sum(), 1e-9), np.random.default_rng(seed))
    # But small molecules have unusual bonds and are few: the settings can ask for a least number of each.
    least = settings.small
    for i, m in enumerate(chosen):
        if m.n_atoms <= least.max_atoms and splits[m.smiles] == "train":
            budget[i] = max(budget[i], least.configurations)
    partners = {
        split: [m.smiles for m in chosen if splits[m.smiles] == split and m.n_atoms <= settings.cluster_partner_atoms]
        for split in ("train", "val", "test")
    }
    jobs = [
        _job(m, splits[m.smiles], int(n), partners[splits[m.smiles]], settings, spec)
        for m, n in zip(chosen, budget, strict=True)
        if n > 0
    ]
    per_larger = np.full(len(big), larger.configurations / max(len(big), 1))
    alone = settings.shares.model_copy(update={"cluster": 0.0, "contact": 0.0})
    solo = settings.model_copy(update={"shares": alone})
    for m, n in zip(big, _rounded(per_larger, np.random.default_rng(seed + 1)), strict=True):
        jobs.append(_job(m, "larger", int(n), [], solo, spec))
    if benchmark_directory is not None and settings.benchmark_configurations:
        jobs += _benchmark_jobs(benchmark_directory, settings, spec)
    families = Counter(m.family for m in [*chosen, *big])
    if not settings.coverage.wanted:
        return jobs, dict(families.most_common())
    if not always:
        raise UserError(
            "student.sampling.coverage: no molecules for it; give --always-trained resources/always_trained.csv"
        )
    taken, left_out = outside_test(always, fractions, settings.splits_by)
    families["always trained"] = len(taken)
    return [
        *_without(jobs, {flat_smiles(entry.molecule.smiles) for entry in taken}),
        *_always_trained_jobs(taken, settings, spec),
        *coverage.group_jobs(
            coverage.Pool(taken, left_out, _solutes([*molecules, *chosen], settings)), settings, teacher
        ),
    ], dict(families.most_common())


def _without(jobs: Sequence[Job], trained: set[str]) -> list[Job]:
    """``jobs`` without validation on molecules that are trained on, by themselves or beside another one.

    Where one was the partner of a molecule that stays, another partner takes its place, so that nothing else changes.
    """
    kept: list[Job] = []
    for job in jobs:
        if job.split != "val" or not (job.partners or flat_smiles(job.smiles) in trained):
            kept.append(job)
        elif flat_smiles(job.smiles) not in trained:
            rest = [name for name in job.partners if flat_smiles(name) not in trained] or [job.smiles]
            partners = [n if flat_smiles(n) not in trained else rest[i % len(rest)] for i, n in enumerate(job.partners)]
            kept.append(replace(job, partners=tuple(partners)))
    return kept


def _always_trained_jobs(always: Sequence[AlwaysTrained], settings: SamplingSettings, spec: str) -> list[Job]:
    """Each molecule by itself: to train on, and a share that measures it."""
    alone = settings.shares.model_copy(update={"cluster": 0.0, "contact": 0.0})
    solo = settings.model_copy(update={"shares": alone, "md_molecules": 1.0})
    jobs = []
    for split, n in coverage.shared(settings.coverage.molecules, settings).items():
        # Other numbers than those of the same molecule in the list, and in the other split.
        draw = solo.model_copy(update={"seed": int(generator(settings.seed, f"coverage {split}").integers(2**31))})
        jobs += [_job(entry.molecule, split, n, [], draw, spec) for entry in always if n]
    return jobs


def _solutes(molecules: Sequence[Molecule], settings: SamplingSettings) -> list[Molecule]:
    most = min(settings.coverage.solute_atoms, settings.max_atoms)
    fractions = settings.fractions.to_mapping()
    fit = {m.smiles: m for m in molecules if coverage.may_be_dissolved(m, most)}
    return [m for m in fit.values() if split_of(m.smiles, fractions, settings.splits_by) == "train"]


def _notes_on_plan(settings: SamplingSettings, always: Sequence[AlwaysTrained]) -> dict[str, int]:
    """Which molecules are not trained on all the same, for the card."""
    if not settings.coverage.wanted:
        return {}
    _, left_out = outside_test(always, settings.fractions.to_mapping(), settings.splits_by)
    return {f"{name}: not always trained on, for it is in the split test": 1 for name in left_out}


def _benchmark_jobs(directory: Path, settings: SamplingSettings, spec: str) -> list[Job]:
    from mlff_distiller.systems.read import load_system

    jobs, n = [], settings.benchmark_configurations
    for molecule in BENCHMARK_MOLECULES:
        atoms = load_system(molecule.name, directory)
        if len(atoms) != molecule.n_atoms:
            raise UserError(f"{directory}/{molecule.name}: {len(atoms)} atoms, expected {molecule.n_atoms}")
        # No MD of the teacher: for a hundred atoms it would cost more than all the rest.
        counts = (("conformer", 1), ("normal_modes", max(n - 1 - n // 4, 0)), ("stretch", n // 4))
        geometry = tuple(tuple(row) for row in atoms.positions.tolist())
        jobs.append(Job(molecule.smiles, "benchmark", settings.seed, counts, (), spec, geometry))
    return jobs


def _job(molecule: Molecule, split: str, n: int, partners: Sequence[str], settings: SamplingSettings, spec: str) -> Job:
    rng = generator(settings.seed, molecule.smiles)
    shares = {name: share for name, share in settings.shares.to_mapping().items() if name in METHODS}
    if not partners:
        shares |= {"cluster": 0.0, "contact": 0.0}
    # A trajectory is worth its cost only for several frames: a few molecules get all of that share.
    fraction = settings.md_molecules
    runs_md = rng.random() < fraction
    shares["md"] = shares["md"] / max(fraction, 1e-9) if runs_md else 0.0
    total = sum(shares.values())
    names = sorted(shares)
    drawn = rng.multinomial(n, [shares[name] / total for name in names]) if total > 0 else [0] * len(names)
    counts = dict(zip(names, map(int, drawn), strict=True))
    n_bound = counts["cluster"] + counts["contact"]
    others = tuple(partners[i] for i in rng.integers(len(partners), size=3 * n_bound)) if n_bound else ()
    return Job(molecule.smiles, split, int(rng.integers(2**31)), tuple(counts.items()), others, spec)


def _title(job: Job | GroupJob | StructureJob) -> str:
    if isinstance(job, StructureJob):
        return f"{job.counts[0][0]} of {job.name}"
    return job.smiles if isinstance(job, Job) else ".".join(job.species)


def _sample_apart(job: Job | GroupJob | StructureJob) -> dict[str, np.ndarray]:
    """One job at which a worker may have died: by a worker of its own, and nothing but a note where that dies, too."""
    from mlff_distiller.utils.parallel import apart

    (result,) = apart(_sample_job, [job])
    return _packed([], [f"left out, for the teacher's process died: {_title(job)}"]) if result is None else result


def _sample_job(job: Job | GroupJob | StructureJob) -> dict[str, np.ndarray]:
    """Every configuration of one job (runs in a worker)."""
    from mlff_distiller.data.geometry import closest

    if isinstance(job, StructureJob):
        frames, notes = structures.sample_structure(job)
        boxes = [(frame.cell.array, frame.pbc) for frame, *_ in frames]
        return _packed([(frame.numbers, frame.positions, *about) for frame, *about in frames], notes, boxes)
    made, notes = _group(job) if isinstance(job, GroupJob) else _molecule(job)
    # The teacher labels the positions as rounded in the file.
    made = [entry for entry in made if np.isfinite(entry[1]).all() and closest(entry[1]) > 0.45]
    edge = job.edge if isinstance(job, GroupJob) else 0.0
    edges = [edge if method == "box" else 0.0 for *_, method in made]
    return _packed(made, notes, [(edge * np.eye(3), np.full(3, edge > 0)) for edge in edges])


def _packed(
    made: Sequence[tuple[np.ndarray, np.ndarray, str, str]],
    notes: Sequence[str],
    boxes: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> dict[str, np.ndarray]:
    """(numbers, positions, name, method) entries, the cell and periodicity of each, and notes, as arrays."""
    return {
        "numbers": np.concatenate([z for z, *_ in made]).astype(np.uint8) if made else np.zeros(0, np.uint8),
        "positions": np.concatenate([r for _, r, *_ in made]).astype(np.float32)
        if made
        else np.zeros((0, 3), np.float32),
        "counts": np.array([len(z) for z, *_ in made], dtype=np.int64),
        "method": np.array([METHODS.index(m) for *_, m in made], dtype=np.uint8),
        "names": np.array([name for *_, name, _ in made], dtype=str),
        "sizes": np.array([len(made)], dtype=np.int64),
        "cells": np.array([cell for cell, _ in boxes]).reshape(-1, 3, 3),
        "pbc": np.array([pbc for _, pbc in boxes], dtype=bool).reshape(-1, 3),
        "notes": np.array(notes, dtype=str),
    }


def _group(job: GroupJob) -> tuple[list[tuple[np.ndarray, np.ndarray, str, str]], list[str]]:
    try:
        return coverage.sample_group(job)
    except UserError as error:
        return [], [f"group left out: {error}"]


def _molecule(job: Job) -> tuple[list[tuple[np.ndarray, np.ndarray, str, str]], list[str]]:
    from mlff_distiller.data.teacher import make_calculator

    spec = json.loads(job.settings)
    sampler = _Sampler(job, SamplingSettings.from_mapping(spec["settings"]), make_calculator(spec["teacher"]))
    made: list[tuple[np.ndarray, np.ndarray, str, str]] = []
    try:
        sampler.start()
        for method, n in job.counts:
            if n:
                made += getattr(sampler, method)(n)
    except UserError as error:
        sampler.notes.append(f"molecule left out: {error}")
    return made, sampler.notes


class _Sampler:
    """One method per way of sampling; each returns (numbers, positions, name, method) entries."""

    def __init__(self, job: Job, settings: SamplingSettings, calculator: Any) -> None:
        self.job, self.settings, self.calculator = job, settings, calculator
        self.rng = np.random.default_rng(job.seed)
        self.notes: list[str] = []
        self.path: list[np.ndarray] = []
        self._modes: dict[int, np.ndarray] = {}
        self._bodies: dict[str, tuple[Any, np.ndarray]] = {}

    def start(self) -> None:
        """Embed the molecule and relax its conformers."""
        from mlff_distiller.data.geometry import make_shape

        if self.job.geometry is not None:
            self.shape = make_shape(self.job.smiles, 1, self.job.seed)
            self.shape.starts = np.array([self.job.geometry])
            return
        # Relaxing a conformer costs as much as a dozen labels: only for enough samples.
        n = min(self.settings.conformers, 1 + sum(n for _, n in self.job.counts) // 8)
        self.shape = make_shape(self.job.smiles, n, self.job.seed)
        self.shape.starts = np.stack([self._relaxed(positions) for positions in self.shape.starts])

    def conformer(self, n: int) -> list:
        frames = [*self.shape.starts, *(self.path[i] for i in self.rng.permutation(len(self.path)))]
        return self._own(frames[:n], "conformer")

    def normal_modes(self, n: int) -> list:
        return self._own([self._vibrated(*self._start(), self._temperature()) for _ in range(n)], "normal_modes")

    def random(self, n: int) -> list:
        frames = []
        for _ in range(n):
            _, start = self._start()
            frames.append(start + self.rng.normal(0.0, self.rng.uniform(0.02, 0.08), start.shape))
        return self._own(frames, "random")

    def stretch(self, n: int) -> list:
        from mlff_distiller.data.geometry import stretch

        return self._own(
            [stretch(self.shape, self._vibrated(*self._start(), 300.0), self.rng) for _ in range(n)], "stretch"
        )

    def torsion(self, n: int) -> list:
        from mlff_distiller.data.geometry import twist

        return self._own(
            [twist(self.shape, self._vibrated(*self._start(), 300.0), self.rng) for _ in range(n)], "torsion"
        )

    def md(self, n: int) -> list:
        """Frames of one Langevin trajectory; it ends early where the teacher fails or the molecule flies apart."""
        from mlff_distiller.data.teacher_moves import langevin

        temperature = float(self.rng.choice(self.settings.md_temperatures))
        start = self._start()[1]
        seed = int(self.rng.integers(2**31))
        stride = self.settings.md_stride
        moves = langevin(self.shape.numbers, start, self.calculator, temperature, n, stride, seed)
        self.notes += moves.notes
        return self._own(moves.frames, "md")

    def cluster(self, n: int) -> list:
        return [
            self._bound(1 + (self.rng.random(2) < 0.3).sum(), self.rng.uniform(0.8, 1.3), "cluster") for _ in range(n)
        ]

    def contact(self, n: int) -> list:
        return [self._bound(1, self.rng.uniform(0.55, 0.85), "contact") for _ in range(n)]

    def _bound(self, n_partners: int, closeness: float, method: str) -> tuple:
        from mlff_distiller.data.geometry import put_together, vibrate

        bodies, names = [(self.shape.numbers, self._vibrated(*self._start(), self._temperature()))], [self.job.smiles]
        for _ in range(n_partners):
            name = self.job.partners[self.rng.integers(len(self.job.partners))]
            shape, modes = self._partner(name)
            if sum(len(z) for z, _ in bodies) + len(shape.numbers) > self.settings.cluster_atoms:
                break
            bodies.append((shape.numbers, vibrate(shape.starts[0], modes, self._temperature(), self.rng)))
            names.append(name)
        numbers, positions = put_together(bodies, closeness, self.rng)
        return numbers, positions, ".".join(sorted(names)), method

    def _partner(self, smiles: str) -> tuple[Any, np.ndarray]:
        from mlff_distiller.data.geometry import make_shape, thermal_modes

        if smiles not in self._bodies:
            shape = make_shape(smiles, 1, self.job.seed)
            self._bodies[smiles] = shape, thermal_modes(shape, shape.starts[0])
        return self._bodies[smiles]

    def _own(self, frames: Sequence[np.ndarray], method: str) -> list:
        return [(self.shape.numbers, frame, self.job.smiles, method) for frame in frames]

    def _start(self) -> tuple[int, np.ndarray]:
        which = int(self.rng.integers(len(self.shape.starts)))
        return which, self.shape.starts[which]

    def _temperature(self) -> float:
        return float(self.rng.choice(self.settings.mode_temperatures))

    def _vibrated(self, which: int, start: np.ndarray, temperature: float) -> np.ndarray:
        from mlff_distiller.data.geometry import thermal_modes, vibrate

        if which not in self._modes:
            self._modes[which] = thermal_modes(self.shape, start)
        return vibrate(start, self._modes[which], temperature, self.rng)

    def _relaxed(self, positions: np.ndarray) -> np.ndarray:
        from mlff_distiller.data.teacher_moves import relax

        moves = relax(self.shape.numbers, positions, self.calculator, self.settings.relax_steps)
        self.path += moves.frames
        self.notes += moves.notes
        return moves.end


def _evenly(molecules: Sequence[Molecule], n: int, seed: int) -> list[Molecule]:
    """``n`` of ``molecules``, taken in turn from every class, in a shuffled order within it."""
    rng = np.random.default_rng(seed)
    classes: dict[str, list[Molecule]] = {}
    for i in rng.permutation(len(molecules)):
        classes.setdefault(molecules[i].family, []).append(molecules[i])
    order = sorted(classes)
    chosen: list[Molecule] = []
    while len(chosen) < n and any(classes.values()):
        for name in order:
            if classes[name] and len(chosen) < n:
                chosen.append(classes[name].pop())
    return chosen


def _rounded(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers near ``shares`` with the same sum: the fractions are drawn for."""
    base = np.floor(shares).astype(int)
    rest = shares - base
    left = round(shares.sum()) - base.sum()
    if left > 0:
        base[rng.choice(len(shares), size=left, replace=False, p=rest / rest.sum())] += 1
    return base


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command ``sample``."""
    parser.description = "Make configurations of many molecules, split by molecule, for the teacher to label."
    parser.add_argument("--molecules", type=Path, required=True, help="molecule list (CSV: name, smiles, class)")
    parser.add_argument(
        "--benchmark", type=Path, help="directory of the benchmark geometries, for a split of their own"
    )
    parser.add_argument(
        "--always-trained", type=Path, help="molecules for 'coverage' (CSV: name, smiles, class, density_g_cm3)"
    )
    parser.add_argument("--settings", help="JSON text or file: 'sampling' (sizes, shares) and 'teacher' mappings")
    parser.add_argument("--output", type=Path, required=True, help="configurations to write (HDF5, without labels)")
    parser.add_argument("--card", type=Path, help="also write counts and settings as JSON")
    parser.add_argument("--cores", type=int, default=1, help="worker processes (default %(default)s)")
    add_share_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Sample and write; finished molecules stay in ``OUTPUT.parts``, or those of a share beside it, until all is written."""
    import shutil

    from mlff_distiller.utils.files import load_settings, sha256_of, write_json

    given = SampleInput.from_mapping(load_settings(args.settings) if args.settings else {})
    parts = args.output.with_name(args.output.name + ".parts")
    covers = given.sampling.coverage.wanted and args.always_trained is not None
    always = read_always_trained(args.always_trained) if covers else ()
    jobs, families = plan(
        read_molecule_list(args.molecules), given.sampling, given.teacher.to_mapping(), args.benchmark, always
    )
    found = sample_work(jobs).done(args, parts)
    if found is None:
        return 0
    dataset, notes = collected(jobs, found, given.sampling, always)
    write_dataset(args.output, dataset)
    card = summary(dataset) | {
        "settings": given.sampling.to_mapping(),
        "molecules_by_class": families,
        "notes": notes,
    }
    card["molecule_list_sha256"] = sha256_of(args.molecules)
    if covers:
        card["always_trained_sha256"] = sha256_of(args.always_trained)
    if files := given.sampling.structures.files:
        card["structures_sha256"] = structures.fingerprints(files)
    if args.card:
        write_json(args.card, card)
    shutil.rmtree(parts, ignore_errors=True)
    print(f"{args.output}: {len(dataset)} configurations, {len(dataset.molecules)} molecules, clusters and structures")
    for note, n in list(card["notes"].items())[:10]:
        print(f"  {n} times: {note}")
    for name, counts in card["by_split"].items():
        size = counts["n_atoms"]["mean"]
        print(f"  {name}: {counts['configurations']} of {counts['molecules']}, {size:.1f} atoms on average")
    print(f"  content {content_hash(dataset)[:16]}")
    return 0
