"""The fp64 run (same start, same time step) that separates a variant's drift from the integrator's."""

import argparse
from pathlib import Path

import numpy as np

from mlff_distiller.md.nve import run_nve
from mlff_distiller.md.settings import NveSettings
from mlff_distiller.records import schema
from mlff_distiller.records.outcome import failure
from mlff_distiller.systems.read import read_system
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.utils.files import load_settings
from mlff_distiller.variants.double_precision import potential_in_double

FAMILIES = ("eager", "cpp")
#: Largest difference of two fp64 forces that are the same but for rounding, eV/A.
SAME_FORCES = 1e-8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--checkpoint", type=Path, required=True, help="the student (safetensors)")
    parser.add_argument("--system", required=True, help="file of the molecule")
    parser.add_argument(
        "--family",
        choices=FAMILIES,
        default="eager",
        help="what computes (default: %(default)s); cpp is checked against eager on the way, and needs a compiler",
    )
    parser.add_argument("--settings", default="{}", help="timestep_fs, steps, ... (JSON text or a file)")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="record to write (JSON)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md`` with the drift; read by ``simulate``, no part of the run's results.

    Raises:
        RuntimeError: the C++ kernel in fp64 gives other forces than PyTorch.
    """
    import torch

    torch.set_num_threads(args.threads)
    settings = NveSettings.from_mapping(load_settings(args.settings))
    atoms = read_system(args.system)
    family = args.family
    if family == "cpp" and (reason := no_compiler()):
        print(f"no C++ kernel ({reason}): PyTorch takes its place, which takes longer", flush=True)
        family = "eager"
    eager = potential_in_double({"family": "eager"}, args.checkpoint, "cpu")
    potential = eager if family == "eager" else potential_in_double({"family": family}, args.checkpoint, "cpu")
    try:
        seen = run_nve(atoms, potential, settings, None if potential is eager else eager)
        found = {
            "drift_mev_per_atom_ps": seen.drift.value,
            "drift_stderr_mev_per_atom_ps": seen.drift.stderr,
            "energy_trace": seen.energy_trace,
        }
    except Exception as error:
        # The student itself cannot be simulated; each variant's own run reports it.
        found = failure(error)
    else:
        worst = max((float(np.abs(error).max()) for error in seen.force_errors), default=0.0)
        if worst > SAME_FORCES:
            raise RuntimeError(f"the C++ kernel in fp64 is off by {worst:.1e} eV/A: it is no reference")
    made = schema.record(
        "md",
        variant="fp64",
        task="reference",
        system=atoms.info["name"],
        n_atoms=len(atoms),
        device="cpu",
        dtype="float64",
        family=family,
        timestep_fs=settings.timestep_fs,
        n_steps=settings.steps,
        **found,
    )
    schema.write(args.output, [made])
    return 0
