"""From a variant's folder to a potential: what the compile stage wrote, checked and loaded."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlff_distiller.potentials.base import Potential
from mlff_distiller.records import schema
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import sha256_of
from mlff_distiller.variants.registry import check_spec, family_of, needs_torch_cluster
from mlff_distiller.variants.target import differences, target_of

#: The record in a variant's folder.
METADATA = "variant.json"


class VariantNotThere(Exception):
    """The variant was not built; ``status`` and the message are those of its compile record."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class VariantFiles:
    """Where a variant is, what it needs to be loaded, and how many threads of PyTorch it gets."""

    #: Its variant.json, the record of the compile stage; the artifact is beside it.
    variant: Path
    #: The student (safetensors).
    checkpoint: Path
    #: Record of the torch-cluster stage, for variants that need it.
    torch_cluster: Path | None = None
    threads: int = 1

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> "VariantFiles":
        """From a command line with :func:`add_arguments`."""
        return cls(args.variant, args.checkpoint, args.torch_cluster, args.threads)


@dataclass(frozen=True)
class LoadedVariant:
    """A variant ready to be called, and the class of tolerance that it is held to."""

    potential: Potential
    precision: str


def dtype_name(spec: dict[str, Any]) -> str:
    """The number format in which a variant multiplies, for its records."""
    return str(spec.get("dtype", "float32"))


def record_fields(name: str, spec: dict[str, Any], device: str) -> dict[str, Any]:
    """The common fields of every record about a variant."""
    return {"variant": name, "device": device, "dtype": dtype_name(spec), "batch": 1}


def shared_fields(made: dict[str, Any]) -> dict[str, Any]:
    """The fields that every record about a variant copies from its compile record; the hash identifies the student."""
    names = ("variant", "device", "dtype", "batch", "checkpoint_sha256")
    return {name: made.get(name) for name in names} | ({"another_network": True} if made.get("another_network") else {})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every stage that loads a variant."""
    parser.add_argument(
        "--variant", type=Path, required=True, help="the variant's variant.json, from the compile stage"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="the student (safetensors)")
    parser.add_argument(
        "--torch-cluster", type=Path, help="record of the torch-cluster stage, for variants that need it"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default %(default)s)")


def read_metadata(path: Path) -> dict[str, Any]:
    """The compile record of a variant."""
    found = [entry for entry in schema.read(path) if entry["kind"] == "compile"]
    if len(found) != 1:
        raise UserError(
            f"{path}: expected one compile record, found {len(found)}; delete it and run `snakemake compile`"
        )
    return found[0]


def load_variant(files: VariantFiles) -> LoadedVariant:
    """The variant in ``files``, on the device that it was compiled for.

    Raises:
        VariantNotThere: its compile record says unavailable or failed.
        UserError: it was built from another student, by another torch, or for another processor or GPU.
    """
    made = read_metadata(files.variant)
    if made["status"] != "ok":
        raise VariantNotThere(made["status"], made["reason"])
    if made["checkpoint_sha256"] != sha256_of(files.checkpoint):
        raise UserError(
            f"{files.variant}: compiled from another student than {files.checkpoint}; run `snakemake compile` again"
        )
    import torch

    from mlff_distiller.student.checkpoint import load_student

    if made["torch"] != torch.__version__:
        raise UserError(
            f"{files.variant}: compiled by torch {made['torch']}, this is {torch.__version__}; run `snakemake compile` again"
        )
    if made.get("artifact") and (why := differences(made["target"], target_of(made["device"]))):
        raise UserError(
            f"{files.variant}: {'; '.join(why)}; run `snakemake --forcerun compile_variant` here, and on a cluster constrain "
            "the whole run to one kind of node"
        )
    torch.set_num_threads(files.threads)
    spec = check_spec(made["variant"], made["options"])
    activate_dependencies(spec, files.torch_cluster)
    family = family_of(spec)
    student = load_student(files.checkpoint, made["device"], torch.float32, neighbors=spec.get("neighbors"))
    return LoadedVariant(family.load(student, spec, files.variant.parent), family.precision_of(spec))


def activate_dependencies(spec: dict[str, Any], torch_cluster_record: Path | None) -> None:
    """Make importable what a variant needs beyond the environment.

    Raises:
        UserError: torch-cluster is needed and was not obtained.
    """
    if needs_torch_cluster(spec):
        from mlff_distiller.neighbors import torch_cluster_wheel

        if torch_cluster_record is None:
            raise UserError("this variant needs torch-cluster: give --torch-cluster, the record of that stage")
        torch_cluster_wheel.activate(torch_cluster_record)
