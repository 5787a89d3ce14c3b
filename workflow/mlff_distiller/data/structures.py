"""Configurations of structures from files of the user's own: crystals, surfaces, liquids, molecules.

Each cell is repeated, of a molecule conformers are made, and they are sampled by

- ``rattled``: Gaussian displacements in a cell with a random strain; the first one is the structure as it stands in the file;
- ``vacancy``: the same with one atom taken out;
- ``md``: Langevin dynamics of the teacher, each trajectory at one temperature and strain.

Displaced configurations are drawn independently of each other, so each may go to any split. Frames of one trajectory are
alike, so a trajectory goes to one split as a whole; or, by ``split_by: structure``, all of a structure does.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.data.jobs import StructureJob, generator
from mlff_distiller.data.sampling_settings import SamplingSettings, SplitFractions
from mlff_distiller.data.structure_settings import Structures
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils.errors import UserError, Words
from mlff_distiller.utils.files import sha256_of, split_frame

if TYPE_CHECKING:
    from ase import Atoms

#: Atoms nearer to each other than this (A), images counted, are no configuration to learn from.
MIN_DISTANCE = 0.5
#: Atoms of a repeated cell beyond which it is taken for a mistake.
MAX_ATOMS = 5000


def read_structures(files: Sequence[str]) -> "dict[str, Atoms]":
    """The structures in ``files`` (``file@index`` for one frame of several), by the stem of the file.

    Raises:
        UserError: by the file's name: it is missing, unreadable or makes no sense, a site is shared by several elements or
            only partly occupied, or two files have the same name.
    """
    structures = read_systems(files)
    for file, atoms in zip(files, structures.values(), strict=True):
        for site, shares in (atoms.info.get("occupancy") or {}).items():
            if len(shares) > 1 or min(shares.values()) < 0.999:
                raise UserError(
                    f"{file}: site {site} is occupied by {dict(shares)}; a structure has one whole atom on each site: "
                    "write an ordered one"
                )
    return structures


def fingerprints(files: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file, by its name in the configuration."""
    return {file: sha256_of(split_frame(file)[0]) for file in files}


def repeated(atoms: "Atoms", settings: Structures) -> "Atoms":
    """``atoms`` repeated in their periodic directions as ``supercell`` says, else until each width is ``least_width``.

    Raises:
        UserError: more than :data:`MAX_ATOMS`.
    """
    if settings.supercell is not None:
        times = np.array(settings.supercell)
    else:
        times = np.ones(3, dtype=int)
        if atoms.pbc.any():
            # Between the faces of the cell, with unit vectors for directions without one.
            widths = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)
            times = np.maximum(np.ceil(settings.least_width / widths - 1e-6).astype(int), 1)
    times = np.where(atoms.pbc, times, 1)
    name = atoms.info.get("name", "structure")
    if len(atoms) * times.prod() > MAX_ATOMS:
        raise UserError(
            f"student.sampling.structures: {name}: {len(atoms)} atoms repeated {times.tolist()} times are "
            f"{len(atoms) * times.prod()}; {MAX_ATOMS} at most: set supercell, or a smaller least_width"
        )
    found = atoms.repeat([int(n) for n in times])
    found.info["name"] = name
    return found


def structure_jobs(
    structures: "Mapping[str, Atoms]", settings: SamplingSettings, teacher: Mapping[str, Any] | None
) -> list[StructureJob]:
    """Jobs for all configurations of ``structures`` in the splits that ``settings`` name; a function of its arguments alone.

    Raises:
        UserError: a cell that is repeated too often, or a molecule without conformers.
    """
    wanted, spec = (
        settings.structures,
        json.dumps({"settings": settings.to_mapping(), "teacher": teacher}, sort_keys=True),
    )
    names = list(structures)
    of_structure = dict.fromkeys(names, "")
    if wanted.split_by == "structure":
        order = generator(settings.seed, "structures").permutation(len(names))
        splits = _splits(len(names), settings.fractions)
        of_structure = {names[i]: split for i, split in zip(order, splits, strict=True)}
    jobs = []
    for name in names:
        atoms = repeated(structures[name], wanted)
        geometries = _geometries(atoms, settings)
        for kind, split, n, temperature, which in _portions(name, of_structure[name], settings, len(geometries)):
            if split in settings.splits:
                seed = int(generator(settings.seed, f"{name} {kind} {split} {len(jobs)}").integers(2**31))
                jobs.append(
                    StructureJob(
                        name=f"{name} conformer {which}" if which else name,
                        split=split,
                        seed=seed,
                        counts=((kind, n),),
                        temperature=temperature,
                        numbers=tuple(atoms.numbers.tolist()),
                        positions=tuple(map(tuple, geometries[which].tolist())),
                        cell=tuple(map(tuple, atoms.cell.array.tolist())),
                        pbc=tuple(atoms.pbc.tolist()),
                        settings=spec,
                    )
                )
    return jobs


def _geometries(atoms: "Atoms", settings: SamplingSettings) -> np.ndarray:
    """Where configurations start from, [c, N, 3] A: ``atoms`` as they are, and of a molecule other conformers."""
    from mlff_distiller.data.geometry import shape_of

    if settings.structures.conformers == 1 or atoms.pbc.any():
        return atoms.positions[None]
    try:
        return shape_of(atoms, settings.structures.conformers, settings.seed).starts
    except UserError as error:
        raise UserError(f"student.sampling.structures: {error}; set conformers: 1") from None


def _portions(
    name: str, split: str, settings: SamplingSettings, geometries: int
) -> list[tuple[str, str, int, float, int]]:
    """Way of sampling, split, configurations, temperature and geometry of each job of a structure.

    The geometries take turns. All is in ``split``, if one is given.
    """
    wanted, found = settings.structures, []
    for kind, n in (("rattled", wanted.rattled), ("vacancy", wanted.vacancies)):
        splits = [split] * n if split else _splits(n, settings.fractions)
        turns = Counter((one, i % geometries) for i, one in enumerate(splits))
        found += [(kind, one, count, 0.0, which) for (one, which), count in turns.items()]
    n, temperatures = wanted.dynamics.trajectories, wanted.dynamics.temperatures
    splits = [split] * n if split else _splits(n, settings.fractions)
    order = generator(settings.seed, f"{name} trajectories").permutation(n)
    for i, one in zip(order, splits, strict=True):
        # So that a geometry does not always have the same temperature.
        which = (i + i // math.lcm(len(temperatures), geometries)) % geometries
        found.append(("md", one, wanted.dynamics.frames, float(temperatures[i % len(temperatures)]), which))
    return found


def _splits(n: int, fractions: SplitFractions) -> list[str]:
    """A split for each of ``n`` things: at least one in each that is wanted, where there are three or more."""
    least = int(n >= 3)
    held_out = {
        split: max(round(share * n), least) if share else 0
        for split, share in (("val", fractions.val), ("test", fractions.test))
    }
    if n < 3:
        held_out = dict.fromkeys(held_out, 0)
    rest = n - sum(held_out.values())
    return ["train"] * rest + [split for split, count in held_out.items() for _ in range(count)]


def sample_structure(job: StructureJob) -> tuple["list[tuple[Atoms, str, str]]", list[str]]:
    """The configurations of one job, (atoms, name, method) each, and what went wrong. Runs in a worker."""
    from mlff_distiller.data.teacher import kept_calculator
    from mlff_distiller.data.teacher_moves import langevin

    spec = json.loads(job.settings)
    wanted = SamplingSettings.from_mapping(spec["settings"]).structures
    rng = np.random.default_rng(job.seed)
    ((method, n),) = job.counts
    if method != "md":
        return _separated([_displaced(job, wanted, method, i, rng) for i in range(n)], job.name, method)
    start, moves = _start(job), wanted.dynamics
    _strain(start, wanted.strain, rng)
    calculator = kept_calculator(json.dumps(spec["teacher"], sort_keys=True))
    calculator.reset()
    done = langevin(
        start.numbers,
        start.positions,
        calculator,
        job.temperature,
        n,
        moves.stride,
        int(rng.integers(2**31)),
        timestep=moves.timestep,
        skip=moves.skip,
        cell=start.cell.array,
        pbc=start.pbc,
    )
    frames = []
    for positions in done.frames:
        frame = start.copy()
        frame.positions = positions
        frames.append(frame)
    made, notes = _separated(frames, job.name, method)
    return made, [*(f"{job.name}: {note}" for note in done.notes), *notes]


def _start(job: StructureJob) -> "Atoms":
    from ase import Atoms

    return Atoms(job.numbers, job.positions, cell=job.cell, pbc=job.pbc)


def _displaced(job: StructureJob, wanted: Structures, method: str, index: int, rng: np.random.Generator) -> "Atoms":
    atoms, name = _start(job), job.name
    if method == "rattled" and job.split == "train" and index == 0:
        return atoms
    if method == "vacancy":
        if len(atoms) < 2:
            raise UserError(
                f"student.sampling.structures: {name} is one atom, without which nothing is left: vacancies: 0"
            )
        del atoms[int(rng.integers(len(atoms)))]
    _strain(atoms, wanted.strain, rng)
    atoms.positions += rng.normal(0.0, rng.choice(wanted.rattle), atoms.positions.shape)
    return atoms


def _strain(atoms: "Atoms", largest: float, rng: np.random.Generator) -> None:
    """Deform ``atoms`` and cell by a symmetric strain with components up to ``largest``, in the periodic directions alone."""
    drawn = rng.uniform(-largest, largest, (3, 3))
    vectors = atoms.cell.array[atoms.pbc]
    if not len(vectors):
        return
    # Onto the space that the periodic vectors span.
    projector = np.linalg.pinv(vectors) @ vectors
    deformed = np.eye(3) + projector @ (np.triu(drawn) + np.triu(drawn, 1).T) @ projector
    atoms.set_cell(atoms.cell.array @ deformed, scale_atoms=False)
    atoms.positions = atoms.positions @ deformed


def _separated(frames: "Sequence[Atoms]", name: str, method: str) -> tuple["list[tuple[Atoms, str, str]]", list[str]]:
    """Entries of the frames whose atoms, as rounded in the file, are apart from each other; and a note for each other one."""
    from ase.neighborlist import neighbor_list

    made: list[tuple[Atoms, str, str]] = []
    notes = []
    for frame in frames:
        frame.positions = frame.positions.astype(np.float32)
        if len(neighbor_list("i", frame, MIN_DISTANCE)):
            notes.append(_on_top(name, method))
        else:
            made.append((frame, f"{name} with a vacancy" if method == "vacancy" else name, method))
    return made, notes


def _on_top(name: str, method: str) -> Words:
    return f"{name}: {method}: atoms on top of each other"
