"""Which molecules, clusters and liquids are always trained on, and the configurations of a group of molecules.

Small molecules that no other resembles, their clusters, molecules in a solvent, and liquids: as droplets or as periodic boxes.
All are of the split ``train`` but for a share of each kind, in the split ``coverage``, that measures how well they were learned.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlff_distiller.data.always_trained import AlwaysTrained, by_name
from mlff_distiller.data.clusters import cluster_size, shell_size
from mlff_distiller.data.jobs import GroupJob, generator
from mlff_distiller.data.liquid_sampling import edge_of
from mlff_distiller.data.molecule_list import Molecule
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.data.teacher_settings import DEFAULT_CALCULATOR
from mlff_distiller.utils.errors import UserError

#: Configurations of one group: of a cluster or shell, of a liquid as droplets, as boxes.
PER_JOB = {"small_molecule_cluster": 6, "solvation": 6, "droplet": 16, "box": 2}
#: Where each kind stands in the settings.
SECTIONS = {"small_molecule_cluster": "clusters", "solvation": "solvation", "droplet": "droplets", "box": "boxes"}
#: What a molecule that is dissolved must have one of.
_HETERO = ("N", "O", "F", "P", "S", "Cl", "Br")


@dataclass(frozen=True)
class Pool:
    """What groups are made of.

    Attributes:
        always: the molecules that are always trained on, less those in ``test``.
        left_out: the names of these.
        solutes: training molecules that may be dissolved.
    """

    always: Sequence[AlwaysTrained]
    left_out: Sequence[str]
    solutes: Sequence[Molecule]


def group_jobs(pool: Pool, settings: SamplingSettings, teacher: Mapping[str, Any] | None) -> list[GroupJob]:
    """The jobs of all groups; a function of its arguments alone, and each kind of its own numbers.

    Raises:
        UserError: a name that is not there, a liquid without a density, or boxes for a teacher that is wrong for them.
    """
    coverage = settings.coverage
    if coverage.boxes:
        check_periodic(teacher)
    spec = json.dumps({"settings": settings.to_mapping(), "teacher": teacher}, sort_keys=True)
    draw = {"small_molecule_cluster": _cluster, "solvation": _shell, "droplet": _droplet, "box": _box}
    jobs: list[GroupJob] = []
    for kind, section in SECTIONS.items():
        for split, wanted in shared(getattr(coverage, section), settings).items():
            # Numbers of their own: no other run's settings make what is measured there of what is trained on here.
            rng = generator(settings.seed, f"coverage {kind} {split}")
            for index, n in enumerate(_parts(wanted, PER_JOB[kind])):
                species, edge, temperatures = draw[kind](pool, settings, index, rng)
                small = sum(m.n_atoms for m in species) <= coverage.dynamics_atoms
                jobs.append(
                    GroupJob(
                        split=split,
                        seed=int(rng.integers(2**31)),
                        counts=((kind, n),),
                        species=tuple(m.smiles for m in species),
                        edge=edge,
                        temperature=float(rng.choice(temperatures)),
                        dynamics=bool(rng.random() < coverage.dynamics) and small and not edge,
                        settings=spec,
                    )
                )
    return jobs


def shared(n: int, settings: SamplingSettings) -> dict[str, int]:
    """How many of ``n`` configurations are trained on (none, where the settings make no training set), and measured."""
    measured = round(n * settings.coverage.held_out)
    return {"train": n - measured if settings.trains else 0, "coverage": measured}


def check_periodic(
    teacher: Mapping[str, Any] | None,
    where: str = "student.sampling.coverage.boxes",
    instead: str = "Ask for droplets instead (boxes: 0, droplets: ...), or name another teacher",
) -> None:
    """Raise a :class:`UserError` for GFN2-xTB, whose periodic form in tblite is another teacher than the open one.

    tblite 0.8.0: forces in the middle of a sphere cut out of the periodic liquid (9 A, 290 to 320 atoms) differ from those in
    the box by 126 meV/A in water and 57 in ammonia, where GFN1-xTB differs by 23 and 3 (mean absolute component).
    """
    given = dict(teacher or {})
    method = (given.get("arguments") or {}).get("method", "GFN2-xTB")
    if given.get("calculator", DEFAULT_CALCULATOR) == DEFAULT_CALCULATOR and method == "GFN2-xTB":
        raise UserError(
            f"{where}: GFN2-xTB with periodic images, as tblite has it, gives other forces than without (by 0.1 eV/A in "
            f"water), so labels of cells would contradict all others. {instead}"
        )


def sample_group(job: GroupJob) -> tuple[list[tuple[np.ndarray, np.ndarray, str, str]], list[str]]:
    """The configurations of one group, (numbers [A], positions [A, 3] in A, name, method) each, and what went wrong.

    Runs in a worker.

    Raises:
        UserError: the molecules cannot be embedded, or do not fit into their box.
    """
    from mlff_distiller.data.clusters import cluster_frames
    from mlff_distiller.data.liquid_sampling import box_frames, droplet_frames
    from mlff_distiller.data.species import make_species
    from mlff_distiller.data.teacher import make_calculator

    spec = json.loads(job.settings)
    settings = SamplingSettings.from_mapping(spec["settings"])
    teacher = json.dumps(spec["teacher"], sort_keys=True)
    # The steps that every molecule of the list gets at most, so that the relaxed geometry is one.
    species = [make_species(smiles, settings.seed, 2 * settings.relax_steps, teacher) for smiles in job.species]
    rng = np.random.default_rng(job.seed)
    ((method, n),) = job.counts
    numbers, name = np.concatenate([s.numbers for s in species]), ".".join(sorted(job.species))
    if method == "droplet":
        atoms = settings.coverage.droplet_atoms
        cut = droplet_frames(species, job.edge, n, atoms, job.temperature, rng)
        return [(z, r, ".".join(sorted(smiles)), method) for z, r, smiles in cut], []
    if method == "box":
        return [(numbers, r, name, method) for r in box_frames(species, job.edge, n, job.temperature, rng)], []
    calculator = make_calculator(spec["teacher"]) if job.dynamics else None
    frames, notes = cluster_frames(species, n, job.temperature, calculator, settings.md_stride, rng)
    return [(numbers, r, name, method) for r in frames], notes


Drawn = tuple[list[Molecule], float, Sequence[float]]


def _cluster(pool: Pool, settings: SamplingSettings, index: int, rng: np.random.Generator) -> Drawn:
    """Alike, or of two or three kinds: a third of these are solvents, a third such as form liquids, a third any."""
    solvents = by_name(pool.always, settings.coverage.solvents, pool.left_out, "student.sampling.coverage.solvents")
    liquids = [entry for entry in pool.always if entry.density is not None]
    sources = [source for source in (solvents, liquids, pool.always) if source]
    kinds = [_one_of(_one_of(sources, rng), rng).molecule for _ in range(int(rng.choice([1, 1, 2, 3])))]
    n = cluster_size(settings.coverage, max(m.n_atoms for m in kinds), rng)
    return [kinds[i] if i < len(kinds) else _one_of(kinds, rng) for i in range(n)], 0.0, settings.coverage.temperatures


def _shell(pool: Pool, settings: SamplingSettings, index: int, rng: np.random.Generator) -> Drawn:
    coverage = settings.coverage
    named = by_name(pool.always, coverage.solvents, pool.left_out, "student.sampling.coverage.solvents")
    if not named or not pool.solutes:
        what = (
            "solvents: all of them are in the split test"
            if not named
            else "solute_atoms: no training molecule is so small"
        )
        raise UserError(f"student.sampling.coverage.{what}; name others, or set solvation: 0")
    solvent, solute = _one_of(named, rng).molecule, _one_of(pool.solutes, rng)
    n = shell_size(coverage, solute.n_atoms, solvent.n_atoms, rng)
    return [solute, *[solvent] * n], 0.0, coverage.temperatures


def _droplet(pool: Pool, settings: SamplingSettings, index: int, rng: np.random.Generator) -> Drawn:
    """A box with twice the volume of a cube around the largest droplet."""
    _, most = settings.coverage.droplet_atoms
    return _liquid(pool, settings, index, rng, lambda n_atoms, edge: n_atoms >= 2.2 * most)


def _box(pool: Pool, settings: SamplingSettings, index: int, rng: np.random.Generator) -> Drawn:
    return _liquid(pool, settings, index, rng, lambda n_atoms, edge: edge >= settings.coverage.box_edge)


def _liquid(pool: Pool, settings: SamplingSettings, index: int, rng: np.random.Generator, enough: Any) -> Drawn:
    """Molecules of one liquid or mixture, one after the other, until ``enough(atoms, edge)``; the first of all its kinds."""
    coverage = settings.coverage
    liquids = [mixture for name in coverage.liquids if (mixture := _mixture(pool, name))]
    if not liquids:
        raise UserError("student.sampling.coverage.liquids: all of them are in the split test; name others")
    kinds = liquids[index % len(liquids)]
    scale = rng.uniform(*coverage.densities)
    shares = rng.dirichlet(np.ones(len(kinds)) * 2.0)
    chosen: list[AlwaysTrained] = []
    while True:
        chosen.append(kinds[len(chosen)] if len(chosen) < len(kinds) else kinds[int(rng.choice(len(kinds), p=shares))])
        edge = edge_of([_mass(e.molecule.smiles) for e in chosen], [e.density or 1.0 for e in chosen], scale)
        if len(chosen) >= len(kinds) and enough(sum(e.molecule.n_atoms for e in chosen), edge):
            break
    return [entry.molecule for entry in chosen], edge, coverage.liquid_temperatures


def _mixture(pool: Pool, name: str) -> list[AlwaysTrained]:
    """The components of a liquid; none where one of them may not be trained on."""
    names = name.split("+")
    found = by_name(pool.always, names, pool.left_out, "student.sampling.coverage.liquids")
    for entry in found:
        if entry.density is None:
            raise UserError(
                f"student.sampling.coverage.liquids: {entry.molecule.name} has no density in molecules.always_trained; "
                "write that of its liquid there, in g/cm3"
            )
    return found if len(found) == len(names) else []


def may_be_dissolved(molecule: Molecule, most: int) -> bool:
    """Whether it has at most ``most`` atoms and one that is neither carbon nor hydrogen."""
    return molecule.n_atoms <= most and any(symbol in molecule.smiles.upper() for symbol in map(str.upper, _HETERO))


def _one_of(things: Sequence[Any], rng: np.random.Generator) -> Any:
    return things[int(rng.integers(len(things)))]


def _parts(n: int, size: int) -> list[int]:
    """``n`` in parts of ``size``; the last is what is left."""
    return [min(size, n - start) for start in range(0, n, size)]


@functools.cache
def _mass(smiles: str) -> float:
    from rdkit.Chem import Descriptors

    from mlff_distiller.data.molecules import molecule_from_smiles

    return float(Descriptors.MolWt(molecule_from_smiles(smiles)))
