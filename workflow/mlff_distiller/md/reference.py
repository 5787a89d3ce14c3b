"""The fp64 run that tells a variant's drift from the integrator's own: same start, same step, no rounding to speak of."""

import argparse
from pathlib import Path

from mlff_distiller import records
from mlff_distiller.files import load_settings
from mlff_distiller.md.double_precision import potential_in_double
from mlff_distiller.md_settings import settings_with_defaults
from mlff_distiller.simulate import run_nve
from mlff_distiller.systems import read_system

FAMILIES = ("eager", "cpp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="the student (safetensors)")
    parser.add_argument("--system", required=True, help="file of the molecule")
    parser.add_argument("--family", choices=FAMILIES, default="eager", help="what computes (default: %(default)s)")
    parser.add_argument("--settings", default="{}", help="timestep_fs, steps, ... (JSON text or a file)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md`` with the drift; read by ``simulate``, no part of the run's results."""
    import torch

    torch.set_num_threads(args.threads)
    settings = settings_with_defaults(load_settings(args.settings))
    atoms = read_system(args.system)
    seen = run_nve(atoms, potential_in_double({"family": args.family}, args.checkpoint, "cpu"), settings)
    made = records.record(
        "md",
        variant="fp64",
        task="reference",
        system=atoms.info["name"],
        n_atoms=len(atoms),
        device="cpu",
        dtype="float64",
        family=args.family,
        timestep_fs=settings["timestep_fs"],
        n_steps=settings["steps"],
        drift_mev_per_atom_ps=seen.drift.value,
        drift_stderr_mev_per_atom_ps=seen.drift.stderr,
    )
    records.write(args.output, [made])
    return 0
