"""Checks of the configuration before any job starts: a typo is an error that names the nearest right key.

First types and ranges, then what these cannot express: names and files that must exist, settings that must fit together.
"""

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from mlff_distiller.acceptance.settings import AcceptanceSettings
from mlff_distiller.md.settings import NveSettings
from mlff_distiller.preflight import config
from mlff_distiller.records.vocabulary import BASELINE
from mlff_distiller.training.settings import TrainingSettings
from mlff_distiller.utils.errors import UserError, nearest, one_line_each
from mlff_distiller.utils.files import split_frame
from mlff_distiller.utils.settings import complaints
from mlff_distiller.variants.registry import FAMILIES, IN_DOUBLE, check_spec, has_double_form

Specs = Mapping[str, config.VariantSpec]
#: Sections of ``md`` that name variants.
CHECKS = ("long", "timestep", "nvt", "spectra", "pairs", "liquid")


def check_config(given: dict[str, Any]) -> None:
    """Raise one :class:`UserError` that lists everything wrong with the configuration ``given``."""
    sections: dict[str, Any] = {}
    found = []
    try:
        config.Config.model_validate(given, context=sections)
    except ValidationError as error:
        found = complaints(error, config.Config)
    # Each check gets the sections that its arguments name; it is left out where one of them is invalid.
    for check in (
        _variants,
        _scaling,
        _engines,
        _teacher,
        _rounds,
        _spectra,
        _systems,
        _md,
        _md_variants,
        _lengths,
        _paths,
    ):
        names = inspect.signature(check).parameters
        if names.keys() <= sections.keys():
            found += check(**{name: sections[name] for name in names})
    if found:
        raise UserError(one_line_each(found, "configuration: "))


def _variants(variants: Specs) -> Iterator[str]:
    for name, spec in variants.items():
        try:
            check_spec(name, spec.to_mapping())
        except UserError as error:
            yield from str(error).splitlines()
    if BASELINE not in variants or variants[BASELINE].to_mapping() != {"family": "eager"}:
        yield f"variants: {BASELINE} must be there as {{family: eager}}: it is what all others are compared with"


def _scaling(benchmark: config.Benchmark, variants: Specs, molecules: config.Molecules) -> Iterator[str]:
    scaling, known = benchmark.scaling, _names_in(molecules.folder)
    yield from _unknown("benchmark.scaling.variants", scaling.variants, variants, "variants")
    for key, name in (("molecule", scaling.molecule), ("liquid", scaling.liquid)):
        if not _is_file(config.system_path(name, molecules.folder)):
            yield f"benchmark.scaling.{key}: {name!r}: no such molecule or file{nearest(name, known)}"


def _engines(benchmark: config.Benchmark, variants: Specs) -> Iterator[str]:
    engines = benchmark.engines
    if engines.names:
        yield from _unknown("benchmark.engines.variant", [engines.variant], variants, "variants")
    if engines.box is not None and not _is_file(engines.box):
        yield f"benchmark.engines.box: {engines.box}: no such file"


def _teacher(teacher: config.TeacherSettings, student: config.Student) -> Iterator[str]:
    if teacher.environment is not None and not os.path.isfile(teacher.environment):
        yield f"teacher.environment: {teacher.environment}: no such file; envs/sevennet.yaml is one"
    names = [config.system_name(name) for name in student.sampling.structures.files]
    if len(set(names)) < len(names):
        yield "student.sampling.structures.files: two of them have the same name; rename one of the files"
    if teacher.calculator is None and not student.dataset:
        yield "teacher.calculator: null only with labels of your own in student.dataset"


def _rounds(teacher: config.TeacherSettings, student: config.Student) -> Iterator[str]:
    rounds = student.rounds
    if rounds.number == 0:
        return
    if teacher.calculator is None:
        yield "student.rounds: name teacher.calculator, which is to label the student's own frames, or set number: 0"
    if not student.dataset and (missing := [s for s in ("train", "val") if s not in student.sampling.splits]):
        yield (
            f"student.rounds: student.sampling.splits lacks {' and '.join(missing)}: a student trains on with labels of what it "
            "knows, too, or it forgets that; write splits: [train, val, test], or give labels of your own in student.dataset"
        )
    shared = student.training.model_dump(exclude_unset=True)
    try:
        TrainingSettings.continued(shared | rounds.training.model_dump(exclude_unset=True), "the student before")
    except UserError as error:
        yield from (line.replace("student.training", "student.rounds.training") for line in str(error).splitlines())


def _spectra(teacher: config.TeacherSettings, md: config.Md) -> Iterator[str]:
    for check in ("spectra", "pairs"):
        if teacher.calculator is None and getattr(md, check).variants:
            yield f"md.{check} compares with the teacher's dynamics: name teacher.calculator, or no variants there"


def _systems(molecules: config.Molecules) -> Iterator[str]:
    if not os.path.isdir(molecules.folder):
        yield f"molecules.folder: {molecules.folder}: no such folder"
    known = _names_in(molecules.folder)
    for name in molecules.systems:
        if not _is_file(config.system_path(name, molecules.folder)):
            yield f"molecules.systems: {name!r}: no such molecule or file{nearest(name, known)}"
    names = [config.system_name(name) for name in molecules.systems]
    if len(set(names)) < len(names):
        yield "molecules.systems: two of them have the same name; rename one of the files"


def _md(md: config.Md, molecules: config.Molecules) -> Iterator[str]:
    systems = [config.system_name(name) for name in molecules.systems]
    named = {"md.systems": md.systems, "md.long.references": md.long.references}
    named |= {f"md.{check}.systems": getattr(md, check).systems for check in ("timestep", "nvt", "spectra")}
    for where, names in named.items():
        chosen = {config.system_name(name): name for name in names or ()}
        yield from _unknown(where, chosen, systems, "molecules.systems")
    for check in ("pairs", "liquid"):
        for path in getattr(md, check).systems:
            if not _is_file(path):
                yield f"md.{check}.systems: {path}: no such file"


def _md_variants(md: config.Md, variants: Specs) -> Iterator[str]:
    for check in CHECKS:
        where, named = f"md.{check}.variants", getattr(md, check).variants or ()
        yield from _unknown(where, named, variants, "variants")
        for name in named:
            family = FAMILIES.get(variants[name].family) if name in variants else None
            if family and family.another_network:
                yield f"{where}: {name!r} is another network than the student, with random weights: its MD says nothing"
    for name in md.timestep.variants:
        if name in variants and not has_double_form(variants[name].to_mapping()):
            yield (
                f"md.timestep.variants: {name!r} has no fp64 form; families {', '.join(IN_DOUBLE)}, uncompiled, have one"
            )


def _lengths(md: config.Md) -> Iterator[str]:
    """Settings that are right by themselves may not be right together."""
    shared = md.settings.model_dump(exclude_unset=True)
    for section in ("long", "liquid"):
        own = getattr(md, section).settings.model_dump(exclude_unset=True)
        try:
            NveSettings.from_mapping(shared | own, f"md.{section}.settings")
        except UserError as error:
            yield from str(error).splitlines()


def _paths(
    student: config.Student,
    molecules: config.Molecules,
    md: config.Md,
    acceptance: AcceptanceSettings,
    claims: str | None,
    compare: config.Compare,
) -> Iterator[str]:
    files = {
        "student.checkpoint": student.checkpoint,
        "student.dataset": student.dataset,
        "claims": claims,
        "molecules.list": molecules.list,
        "molecules.always_trained": molecules.always_trained,
    }
    named = [(key, path) for key, path in files.items() if path is not None]
    yield from (f"{key}: {path}: no such file" for key, path in named if not os.path.isfile(path))
    sampled = student.sampling.structures.files
    yield from (f"student.sampling.structures.files: {f}: no such file" for f in sampled if not _is_file(f))
    crystals = acceptance.crystals.files or ()
    yield from (f"acceptance.crystals.files: {f}: no such file" for f in crystals if not _is_file(f))
    named += [("student.sampling.structures.files", path) for path in sampled]
    named += [("acceptance.crystals.files", path) for path in crystals]
    named += [("molecules.folder", molecules.folder)]
    named += [("molecules.systems", path) for path in molecules.systems]
    named += [("md.liquid.systems", path) for path in md.liquid.systems]
    named += [("compare.runs", path) for path in compare.runs]
    for key, path in named:
        if any(letter.isspace() for letter in path):
            yield f"{key}: {path!r}: names and folders without blanks, please: rename it"
        # Snakemake takes braces for a wildcard.
        if "{" in path or "}" in path:
            yield f"{key}: {path!r}: names and folders without braces, please: rename it"


def _unknown(where: str, names: Iterable[str], known: Iterable[str], of: str) -> Iterator[str]:
    known = list(known)
    return (f"{where}: {name!r} is not among {of}{nearest(name, known)}" for name in names if name not in known)


def _names_in(folder: str) -> list[str]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(name.removesuffix(".extxyz") for name in names if name.endswith(".extxyz"))


def _is_file(system: str) -> bool:
    # Without the index that may choose a frame.
    return os.path.isfile(split_frame(system)[0])
