"""A bundle: one variant of the student as a folder to hand over, which is checked when it is loaded.

::

    bundle.json           what it is, where it runs, its measurements, the hash of every file that is loaded
    student.safetensors   the weights
    artifact/             what the variant's family compiled, if anything
    molecules.extxyz      the molecules on which it was proven; what is built again is proven on them
    torch_cluster.json    where torch-cluster came from, for variants that use it
    README.md, example.py for people
    c/                    the C++ kernel for programs in C, see c_library.py; not loaded by Python
    engines/              examples for MD engines, see engines/examples.py
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.deploy import c_library, texts
from mlff_distiller.deploy.proof import not_equivalent
from mlff_distiller.records import schema
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import exclusive, read_json, sha256_of, user_cache, write_bytes, write_json, write_text
from mlff_distiller.variants.registry import check_spec, family_of, needs_torch_cluster

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.potentials.base import Potential
    from mlff_distiller.student.painn import StudentForceField
    from mlff_distiller.variants.base import VariantFamily

#: In version 1, example and README may import from modules that have moved.
VERSION = 2
METADATA = "bundle.json"
WEIGHTS = "student.safetensors"
ARTIFACT = "artifact"
TORCH_CLUSTER = "torch_cluster.json"
#: Written last beside an artifact that was built again: the hash of each of its files.
BUILT = "built.json"
#: What loading needs of a record, and its type.
_KEYS = {
    "bundle_version": int,
    "variant": str,
    "options": dict,
    "device": str,
    "target": dict,
    "artifact": str | None,
    "checkpoint_sha256": str,
    "files": dict,
}
_ANEW = "the bundle is damaged: copy it anew, or ask whoever made it (`snakemake -c4 deploy`)"


def write_bundle(
    folder: Path,
    entry: dict[str, Any],
    variant: Path,
    checkpoint: Path,
    systems: "Sequence[Atoms]",
    in_c: c_library.CLibrary,
    torch_cluster: Path | None = None,
) -> dict[str, Any]:
    """Write a bundle into ``folder``, in place of whatever is there; its metadata comes last.

    Args:
        entry: a deploy record without ``files``.
        variant: the variant's folder, as the compile stage left it.
        checkpoint: the student that it was compiled from.
        systems: the molecules on which it was proven.
        in_c: the kernel for programs in C; nothing that Python loads, so without hashes: users compile it anew.
        torch_cluster: record of the torch-cluster stage, for a variant that needs it.

    Returns:
        The record as written.
    """
    entry = write_loaded_files(folder, entry, variant, checkpoint, systems, torch_cluster)
    in_c.write(folder / c_library.FOLDER)
    write_text(folder / "README.md", texts.readme(entry, in_c.missing))
    write_text(folder / "example.py", texts.example(entry))
    schema.write(folder / METADATA, [entry])
    return entry


def write_loaded_files(
    folder: Path,
    entry: dict[str, Any],
    variant: Path,
    checkpoint: Path,
    systems: "Sequence[Atoms]",
    torch_cluster: Path | None = None,
) -> dict[str, Any]:
    """Write what is loaded of a bundle, without its metadata; arguments and result as of :func:`write_bundle`."""
    from ase.io import write

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_bytes(folder / WEIGHTS, checkpoint.read_bytes())
    write(folder / texts.MOLECULES, [_bare(atoms) for atoms in systems], format="extxyz")
    if entry["artifact"]:
        source = variant / entry["artifact"]
        for file in _files(source):
            write_bytes(folder / ARTIFACT / file.relative_to(variant), file.read_bytes())
    if needs_torch_cluster(entry["options"]):
        write_bytes(folder / TORCH_CLUSTER, Path(torch_cluster).read_bytes())
    files = {file.relative_to(folder).as_posix(): sha256_of(file) for file in _files(folder)}
    return entry | {"bundle_version": VERSION, "files": files}


def read_bundle(folder: str | Path) -> dict[str, Any]:
    """The deploy record in ``folder``.

    One of version 1 brings a warning.

    Raises:
        UserError: no bundle there, one that says why there is none, one of a newer version, or one whose record lacks a key
            or has it of another type.
    """
    path = Path(folder) / METADATA
    if not path.is_file():
        raise UserError(f"{folder}: no bundle (no {METADATA} in it); `snakemake -c4 deploy` makes one")
    try:
        records = schema.read(path)
    except UserError as error:
        # The advice for a record of a run (delete it and run again) does not mend a bundle.
        raise UserError(f"{str(error).partition('; delete')[0]}; {_ANEW}") from None
    entry = next((entry for entry in records if isinstance(entry, dict) and entry.get("kind") == "deploy"), None)
    if entry is None:
        raise UserError(f"{path}: holds no deploy record; {_ANEW}")
    if entry.get("status") != "ok":
        raise UserError(f"{folder}: there is no winner to load: {entry.get('reason')}")
    version = entry.get("bundle_version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{path}: bundle of version {version}; this program reads 1 to {VERSION}: update it")
    for key, kind in _KEYS.items():
        if key not in entry or not isinstance(entry[key], kind):
            found = "is missing" if entry.get(key) is None else f"is {entry[key]!r}"
            raise UserError(f"{path}: {key} {found}; {_ANEW}")
    if version == 1:
        warnings.warn(
            f"{folder}: bundle of version 1: all of it can be used, but its README.md and example.py may import from modules"
            " that have moved; write `from mlff_distiller.calculator import Batch, StudentCalculator, liquid_box,"
            " load_bundle`",
            stacklevel=4,
        )
    files = entry["files"]
    if not all(isinstance(digest, str) for digest in files.values()) or not {WEIGHTS, texts.MOLECULES} <= set(files):
        raise UserError(f"{path}: files has no hash for {WEIGHTS}, {texts.MOLECULES} or another file; {_ANEW}")
    if files[WEIGHTS] != entry["checkpoint_sha256"]:
        raise UserError(f"{path}: checkpoint_sha256 is not the hash of {WEIGHTS} under files; {_ANEW}")
    if entry["device"] not in ("cpu", "cuda"):
        raise UserError(f"{path}: device is {entry['device']!r}, neither 'cpu' nor 'cuda'; {_ANEW}")
    for name in files:
        if not _inside(name):
            raise UserError(f"{folder}: {name} leads out of the bundle; {_ANEW}")
    return entry


def refuse_damage(folder: Path, entry: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` for a file of a bundle, but for its artifact, that has not the hash that ``entry`` states."""
    if damaged := _damaged(folder, entry["files"], apart_from=ARTIFACT):
        raise UserError(f"{folder}: {damaged}; {_ANEW}")


def load_bundle(path: str | Path, rebuild: bool = True, allow: Iterable[str] = ()) -> "Potential":
    """The potential of a bundle, on the device that it was made for, in float32.

    The bundle itself is never written to: its artifact, if it has one, is loaded from a copy in the user's cache. One that
    was made for another torch, Python or processor, that has another hash than its metadata says, or that does not load,
    is never run; the variant is then built again from the weights, proven against the fp64 student on the bundle's
    molecules, and kept in the cache.

    Args:
        path: the bundle's folder.
        rebuild: False refuses where the artifact cannot be used as it is.
        allow: what is computed although the student has not learned it; of
            ``elements``, ``charge``, ``spin`` and ``distances``, see :class:`~mlff_distiller.systems.limits.Limits`.

    Raises:
        UserError: no bundle; a damaged one; a device, compiler or library is missing; the cache cannot be written to; or,
            built again, it is not equivalent to the student. The message says what to do.
    """
    from mlff_distiller.student.checkpoint import load_student

    if not isinstance(rebuild, bool):
        raise UserError(f"rebuild: expected True or False, got {rebuild!r}")
    folder = Path(path)
    entry = read_bundle(folder)
    try:
        spec = check_spec(entry["variant"], entry["options"])
    except UserError as error:
        raise UserError(f"{folder / METADATA}: {error}; {_ANEW}") from None
    refuse_damage(folder, entry)
    _check_device(folder, entry["device"])
    _activate(folder, spec)
    student = load_student(folder / WEIGHTS, entry["device"], neighbors=spec.get("neighbors"), allow=allow)
    return _potential(folder, entry, spec, student, rebuild)


def _potential(
    folder: Path, entry: Mapping[str, Any], spec: dict[str, Any], student: "StudentForceField", rebuild: bool
) -> "Potential":
    """The potential from the artifact, or, without one, from the weights."""
    from mlff_distiller.variants.target import differences, target_of

    family = family_of(spec)
    if entry["artifact"] is None:
        return family.load(student, spec, folder)
    here = target_of(entry["device"])
    why = "; ".join(differences(entry["target"], here)) or _damaged(folder, entry["files"], within=ARTIFACT)
    if not why:
        copy = _copied(folder, entry, here)
        try:
            return family.load(student, spec, copy)
        except Exception as error:
            _refuse_noexec(copy)
            why = f"does not load here ({type(error).__name__}: {error})"
    if not rebuild:
        raise UserError(f"{folder}: {entry['variant']} cannot be used as it is: {why}; rebuild=True builds it again")
    if reason := family.unavailable(spec, entry["device"]):
        raise UserError(f"{folder}: {entry['variant']}: {why}; it cannot be built again: {reason}. {_plain(folder)}")
    return _rebuilt(folder, entry, family, student, here, why)


@contextlib.contextmanager
def _writing_to_cache(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{error.filename or place}: the cache cannot be written to ({error.strerror or error}); set "
            "MLFF_DISTILLER_CACHE to a folder with room where you may write"
        ) from error


def _refuse_noexec(place: Path) -> None:
    if os.statvfs(place).f_flag & os.ST_NOEXEC:
        raise UserError(
            f"{place}: programs cannot be run from here (the file system is mounted noexec); set MLFF_DISTILLER_CACHE to a "
            "folder on another one"
        )


def _check_device(folder: Path, device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{folder}: made for a CUDA device, and torch sees none here. {_plain(folder)}")


def _activate(folder: Path, spec: dict[str, Any]) -> None:
    from mlff_distiller.neighbors.torch_cluster import TorchClusterSearch

    if not needs_torch_cluster(spec) or TorchClusterSearch.missing() is None:
        return
    from mlff_distiller.neighbors import torch_cluster_wheel

    try:
        torch_cluster_wheel.activate(folder / TORCH_CLUSTER)
    except UserError:
        raise UserError(
            f"{folder}: needs torch-cluster, which is neither installed nor in the cache for "
            f"{torch_cluster_wheel.current_key()}; `python -m mlff_distiller torch-cluster --output torch_cluster.json` "
            f"obtains it. {_plain(folder)}"
        ) from None


def _plain(folder: Path) -> str:
    return f"The plain student runs anywhere: StudentCalculator.from_checkpoint({str(folder / WEIGHTS)!r})"


def _copied(folder: Path, entry: Mapping[str, Any], here: Mapping[str, str]) -> Path:
    """A folder of the user's cache with the bundle's artifact in it; compilers add to their caches as they run."""
    files = _below(ARTIFACT, entry["files"])
    place = _place(entry, here, files)
    with _writing_to_cache(place), exclusive(place):
        if _damaged(place, files):
            for name in files:
                write_bytes(place / name, (folder / name).read_bytes())
            # Check the copy, which is what runs: the bundle may have changed meanwhile.
            if damaged := _damaged(place, files):
                raise UserError(f"{folder}: {damaged}; it was changed while it was being read: load it again")
    return place / ARTIFACT


def _rebuilt(
    folder: Path,
    entry: Mapping[str, Any],
    family: "VariantFamily",
    student: "StudentForceField",
    here: Mapping[str, str],
    why: str,
) -> "Potential":
    """The variant built from the weights for this machine, in the user's cache, or found there."""
    from ase.io import read

    from mlff_distiller.systems.batch import Batch
    from mlff_distiller.variants.base import call_everything

    spec = check_spec(entry["variant"], entry["options"])
    place = _place(entry, here, {})
    with _writing_to_cache(place), exclusive(place) as alone:
        for found in (place, *place.parent.glob(f"{place.name}.*")):
            if (found / BUILT).is_file() and not _damaged(found, read_json(found / BUILT)):
                return family.load(student, spec, found / ARTIFACT)
        if not alone:
            # Another process may be building in the usual place, or loading from it.
            place = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
        warnings.warn(
            f"{folder}: {entry['variant']}: {why}; building it again from the weights, once, in {place}", stacklevel=4
        )
        shutil.rmtree(place / ARTIFACT, ignore_errors=True)
        (place / ARTIFACT).mkdir(parents=True)
        molecules = read(folder / texts.MOLECULES, index=":")
        try:
            family.build(student, spec, place / ARTIFACT)
            potential = family.load(student, spec, place / ARTIFACT)
            examples = [Batch.from_atoms([atoms], potential.device, potential.dtype) for atoms in molecules]
            call_everything(potential, examples)
            complaint = not_equivalent(potential, folder / WEIGHTS, family.precision_of(spec), molecules)
        except OSError:
            raise
        except Exception as error:
            _refuse_noexec(place)
            complaint = f"{type(error).__name__}: {error}"
        if complaint:
            raise UserError(
                f"{folder}: {entry['variant']}: {why}; built again, it is refused: {complaint}. {_plain(folder)}"
            )
        write_json(
            place / BUILT, {file.relative_to(place).as_posix(): sha256_of(file) for file in _files(place / ARTIFACT)}
        )
    return potential


def _place(entry: Mapping[str, Any], here: Mapping[str, str], files: Mapping[str, str]) -> Path:
    """Where the cache keeps this variant of these weights for this machine."""
    key = json.dumps([entry["checkpoint_sha256"], entry["options"], here, files], sort_keys=True)
    return user_cache() / "bundles" / hashlib.sha256(key.encode()).hexdigest()[:24]


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _below(top: str, files: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if name.partition("/")[0] == top}


def _damaged(folder: Path, files: Mapping[str, str], within: str | None = None, apart_from: str | None = None) -> str:
    """The first of ``files`` that is missing or has another hash, in words; empty when all are right."""
    for name, digest in files.items():
        top = name.partition("/")[0]
        if (within and top != within) or top == apart_from:
            continue
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_of(folder / name) != digest:
            return f"{name} has another hash than its metadata says"
    return ""


def _inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _bare(atoms: "Atoms") -> "Atoms":
    """Elements, positions, cell and name alone."""
    from ase import Atoms

    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.info["name"] = atoms.info["name"]
    return bare
