"""The compile stage: one variant, from a checkpoint to an artifact with its metadata."""

import argparse
import functools
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.kernels.compile_time import seconds_noted
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils import gpus
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings, sha256_of, write_text
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles
from mlff_distiller.variants.base import call_everything
from mlff_distiller.variants.diagnostics import compiler_counts, timed_calls
from mlff_distiller.variants.registry import FAMILIES, check_spec, family_of
from mlff_distiller.variants.target import target_of

if TYPE_CHECKING:
    from ase import Atoms

#: Calls per molecule that count as compiling; TorchScript's executor needs three to settle.
FIRST_CALLS = 5
#: Marks a folder as that of one variant.
MARK = ".variant"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    artifact.add_arguments(parser)
    parser.add_argument("--name", required=True, help="name of the variant in the configuration")
    parser.add_argument("--settings", required=True, help="its mapping: family and options (JSON text or a file)")
    parser.add_argument(
        "--preflight", type=Path, help="record of the preflight stage, which chose the device (default: cpu)"
    )
    parser.add_argument("--systems", nargs="+", required=True, help="files of molecules that it must serve")


def run(args: argparse.Namespace) -> int:
    """Write ``--variant`` (a record) and the artifact beside it. A variant that cannot be built is recorded, not an error."""
    spec = check_spec(args.name, load_settings(args.settings))
    chosen = schema.read(args.preflight)[0]["device"] if args.preflight else "cpu"
    device = family_of(spec).only_device or chosen
    if device == "cuda":
        gpus.take_one(args.name)
    made = artifact.record_fields(args.name, spec, device) | {
        "family": spec["family"],
        "options": spec,
        "checkpoint_sha256": sha256_of(args.checkpoint),
    }
    if FAMILIES[spec["family"]].another_network:
        made["another_network"] = True
    systems = read_systems(args.systems)
    own_folder(args.variant.parent)
    try:
        made |= build(VariantFiles.from_arguments(args), spec, device, systems)
    except _Unavailable as reason:
        made |= {"status": "unavailable", "reason": str(reason)}
    except Exception as error:
        made |= failure(error)
    if made.get("reason"):
        print(f"{args.name}: {made['status']}: {made['reason']}")
    schema.write(args.variant, [schema.record("compile", **made)])
    return 0


def own_folder(folder: Path) -> None:
    """Make ``folder``, or empty it, so that nothing of an earlier build is left.

    Raises:
        UserError: it holds something and is not the folder of a variant.
    """
    mark = folder / MARK
    if folder.is_dir() and any(folder.iterdir()) and not mark.is_file():
        raise UserError(
            f"{folder}: not empty and not a variant's folder, which would be emptied; name another in --variant or delete it"
        )
    shutil.rmtree(folder, ignore_errors=True)
    write_text(mark, "One variant's artifact and records. Emptied when it is compiled again.\n")


class _Unavailable(Exception):
    pass


def build(files: VariantFiles, spec: dict[str, Any], device: str, systems: "dict[str, Atoms]") -> dict[str, Any]:
    """Compile into the folder of ``files.variant``; the fields of the record that only a build can tell.

    Args:
        files: of the variant; the record itself need not be there yet.
        spec: the variant's checked options.
        device: ``cpu`` or ``cuda``.
        systems: molecules that it must serve, by name.
    """
    import torch

    from mlff_distiller.student.checkpoint import load_student
    from mlff_distiller.systems.batch import Batch

    family = family_of(spec)
    try:
        artifact.activate_dependencies(spec, files.torch_cluster)
    except UserError as error:
        raise _Unavailable(str(error)) from None
    if reason := family.unavailable(spec, device):
        raise _Unavailable(reason)
    torch.set_num_threads(files.threads)
    student = load_student(files.checkpoint, device, torch.float32, neighbors=spec.get("neighbors"))

    folder = files.variant.parent
    start = time.perf_counter()
    main = family.build(student, spec, folder)
    # Loading and the first calls may compile too, and count as compiling for every family.
    potential = family.load(student, spec, folder)
    examples = [Batch.from_atoms([atoms], potential.device, potential.dtype) for atoms in systems.values()]
    wait = torch.cuda.synchronize if student.device.type == "cuda" else None
    first_calls = {
        name: timed_calls(functools.partial(potential, *example), FIRST_CALLS, wait)
        for name, example in zip(systems, examples, strict=True)
    }
    call_everything(potential, examples)
    # A library from the user's cache counts with the time that it took to compile.
    seconds = max(time.perf_counter() - start, seconds_noted(folder))
    return {
        "compile_s": round(seconds, 3) if main else 0.0,
        "artifact": main,
        "artifact_sha256": sha256_of(folder / main) if main else None,
        "torch": torch.__version__,
        "target": target_of(device),
        "gives_stress": potential.has_stress,
        "first_calls_ms": first_calls,
        **compiler_counts(),
    }
