"""Stage ``deploy``: the winner of each kind of work as a bundle that can be handed over, or a record of why there is none."""

import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlff_distiller.decisions.winners import Choice, choose, evidence
from mlff_distiller.deploy.engines import examples
from mlff_distiller.deploy.engines.known import ENGINES, checked
from mlff_distiller.records import collect, schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.records.run import Run
from mlff_distiller.records.vocabulary import WORK
from mlff_distiller.records.wording import WORK_TITLES
from mlff_distiller.systems.read import read_systems
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import sha256_of, write_text
from mlff_distiller.variants import artifact

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_distiller.deploy.c_library import CLibrary


def add_arguments(parser: ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--results", type=Path, required=True, help="phase3_results.json")
    parser.add_argument("--variants", type=Path, required=True, help="folder of the compiled variants")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the student (safetensors)")
    parser.add_argument("--torch-cluster", type=Path, help="record of the torch-cluster stage")
    parser.add_argument("--systems", nargs="+", required=True, help="files of the molecules of the run")
    parser.add_argument("--threads", type=int, help="threads of PyTorch in the timings")
    parser.add_argument("--engines", nargs="*", default=[], help=f"examples for these: {', '.join(ENGINES)}")
    parser.add_argument(
        "--engines-python", default=sys.executable, help="the interpreter that has the engines (default: this one)"
    )
    parser.add_argument("--output-dir", type=Path, required=True, help=f"gets one folder each: {', '.join(WORK)}")


def run(args: Namespace) -> int:
    """One bundle, or a record that says why there is none, per kind of work."""
    from mlff_distiller.deploy import c_library
    from mlff_distiller.deploy.bundle import METADATA

    engines = checked(args.engines)
    found = Run(collect.read(args.results)["records"])
    systems = list(read_systems(args.systems).values())
    choices = {work: choose(found, work) for work in WORK}
    any_winner = any(choice.variant for choice in choices.values())
    in_c = c_library.make(args.checkpoint, systems) if any_winner else c_library.CLibrary()
    for work in WORK:
        folder = args.output_dir / work
        entry = hand_over(
            found,
            choices[work],
            folder,
            systems,
            in_c,
            variants=args.variants,
            checkpoint=args.checkpoint,
            torch_cluster=args.torch_cluster,
            threads=args.threads,
            engines=engines,
            engines_python=args.engines_python,
        )
        if entry["status"] != "ok":
            shutil.rmtree(folder, ignore_errors=True)
            schema.write(folder / METADATA, [entry])
            write_text(folder / "README.md", f"# No winner for {WORK_TITLES[work]}\n\n{entry['reason']}\n")
        print(f"{work}: {entry['variant'] or 'none'}{': ' + entry['reason'] if entry['reason'] else ''}")
        for name, outcome in entry.get("engines", {}).items():
            print(f"  {name}: {outcome['status']}{': ' + outcome['reason'] if outcome['reason'] else ''}")
    if in_c.missing:
        print(f"nothing for programs in C: {in_c.missing}")
    return 0


def hand_over(
    found: Run,
    choice: Choice,
    folder: Path,
    systems: "list[Atoms]",
    in_c: "CLibrary",
    *,
    variants: Path,
    checkpoint: Path,
    torch_cluster: Path | None = None,
    threads: int | None = None,
    engines: Sequence[str] = (),
    engines_python: str | Path = sys.executable,
) -> dict[str, Any]:
    """Write the chosen variant's bundle and test it; the deploy record, also of a failure.

    Args:
        found: the run that the choice was made in.
        choice: of one kind of work.
        folder: for the bundle.
        systems: the molecules of the run.
        in_c: the kernel for programs in C.
        variants: folder of the compiled variants.
        checkpoint: the student (safetensors).
        torch_cluster: record of the torch-cluster stage, for variants that need it.
        threads: of PyTorch in the timings.
        engines: that get an example, see :mod:`mlff_distiller.deploy.engines.examples`.
        engines_python: the interpreter whose environment has them.
    """
    from mlff_distiller.deploy.bundle import write_bundle

    fields = {"task": choice.work, "variant": choice.variant, "device": found.device, "batch": None}
    if choice.variant is None:
        return schema.record("deploy", **fields, status="unavailable", reason=choice.reason)
    variant = variants / choice.variant
    made = artifact.read_metadata(variant / artifact.METADATA)
    fields |= artifact.shared_fields(made) | {"batch": None}
    try:
        check_artifact(made, variant, checkpoint)
        kept = ("family", "options", "artifact", "target", "gives_stress")
        entry = schema.record(
            "deploy",
            **fields,
            **{key: made[key] for key in kept},
            threads=threads,
            evidence=evidence(found, choice),
        )
        entry = write_bundle(folder, entry, variant, checkpoint, systems, in_c, torch_cluster)
        try_out(folder, entry, systems)
        entry = add_engines(folder, entry, engines, systems[0], engines_python)
    except Exception as error:
        return schema.record("deploy", **fields, **failure(error))
    return entry


def add_engines(
    folder: Path,
    entry: dict[str, Any],
    engines: Sequence[str],
    molecule: "Atoms",
    python: str | Path = sys.executable,
) -> dict[str, Any]:
    """Add examples to a bundle, and what came of running them to its README and its record, which is returned."""
    from mlff_distiller.deploy.bundle import METADATA

    outcomes = {}
    for name in engines:
        # An example that cannot be written or tried must not take the proven bundle with it.
        try:
            examples.write(folder, [name], molecule)
            outcomes[name] = examples.attempt(folder, name, python)
        except Exception as error:
            outcomes[name] = failure(error)
    readme = folder / "README.md"
    write_text(readme, readme.read_text(encoding="utf-8") + examples.readme(outcomes))
    entry = entry | {"engines": outcomes}
    schema.write(folder / METADATA, [entry])
    return entry


def check_artifact(made: dict[str, Any], variant: Path, checkpoint: Path) -> None:
    """Raise a :class:`UserError` unless the variant's artifact is what was compiled, from this checkpoint."""
    if made["checkpoint_sha256"] != sha256_of(checkpoint):
        raise UserError(f"{variant}: compiled from another student than {checkpoint}; run `snakemake compile` again")
    file = variant / made["artifact"] if made["artifact"] else None
    # A compiler's cache is a folder, to which later runs of the variant may have added.
    if file and file.is_file() and sha256_of(file) != made["artifact_sha256"]:
        raise UserError(f"{file}: not the file that was compiled; run `snakemake compile` again")


def try_out(folder: Path, entry: dict[str, Any], systems: "list[Atoms]") -> None:
    """Load the bundle as a user does and compare it with the fp64 student; a :class:`UserError` if it is not equivalent."""
    from mlff_distiller.deploy.bundle import WEIGHTS, load_bundle
    from mlff_distiller.deploy.proof import not_equivalent
    from mlff_distiller.variants.registry import family_of

    potential = load_bundle(folder, rebuild=False)
    precision = family_of(entry["options"]).precision_of(entry["options"])
    if complaint := not_equivalent(potential, folder / WEIGHTS, precision, systems):
        raise UserError(f"the bundle in {folder} is not equivalent to the student {complaint}")
