"""A periodic box of a molecular liquid, packed and then brought to temperature by the student's own dynamics."""

import argparse
from pathlib import Path

from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import write_text

#: Dynamics that equilibrate the box; short steps and strong friction remove the strain of the packing.
TIMESTEP_FS, FRICTION_PER_FS = 0.5, 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.description = (
        "Pack molecules into a periodic box, relax and equilibrate it by the student (needs a C++ compiler)."
    )
    parser.add_argument("--molecule", required=True, help="a name of ASE's G2 collection, e.g. CH3OH")
    parser.add_argument("--name", required=True, help="of the liquid, e.g. methanol")
    parser.add_argument("--count", type=int, required=True, help="how many molecules")
    parser.add_argument("--density", type=float, required=True, help="g/cm3")
    parser.add_argument("--temperature", type=float, default=300.0, help="K (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4000, help=f"of {TIMESTEP_FS} fs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of packing, velocities and noise (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the kernel (default: %(default)s)")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the student (safetensors)")
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")


def run(args: argparse.Namespace) -> int:
    """Write the box: positions, cell and momenta.

    Raises:
        UserError: unknown molecule, a density at which it cannot be packed, or no compiler.
    """
    import io

    import numpy as np
    import torch
    from ase import units
    from ase.build import molecule
    from ase.io import write
    from ase.md.langevin import Langevin
    from ase.optimize import FIRE

    from mlff_distiller.md.start import set_thermal_velocities
    from mlff_distiller.potentials.ase import PotentialCalculator
    from mlff_distiller.potentials.cpp import CppPotential
    from mlff_distiller.student.checkpoint import load_student

    try:
        single = molecule(args.molecule)
    except (KeyError, NotImplementedError):
        raise UserError(f"--molecule {args.molecule}: not in ASE's G2 collection (ase.build.molecule)") from None
    torch.set_num_threads(args.threads)
    box = liquid_box(single, args.count, args.density, seed=args.seed)
    box.calc = PotentialCalculator(CppPotential(load_student(args.checkpoint, "cpu", torch.float32)))
    FIRE(box, logfile=None).run(fmax=0.5, steps=200)
    set_thermal_velocities(box, args.temperature, args.seed)
    dynamics = Langevin(
        box,
        timestep=TIMESTEP_FS * units.fs,
        temperature_K=args.temperature,
        friction=FRICTION_PER_FS / units.fs,
        fixcm=False,
        rng=np.random.default_rng(args.seed + 1),
    )
    for _ in range(10):
        dynamics.run(args.steps // 10)
        energy = box.get_potential_energy() / args.count
        print(f"{dynamics.nsteps} steps: {energy:.4f} eV per molecule, {box.get_temperature():.0f} K", flush=True)
    box.calc = None
    # Bonds across a boundary are measured to the nearest image, so wrapping changes nothing.
    box.wrap()
    box.info = {
        "name": f"{args.name}_{args.count}",
        "density_g_cm3": args.density,
        "temperature_k": args.temperature,
        "equilibration_steps": args.steps,
        "seed": args.seed,
    }
    buffer = io.StringIO()
    write(buffer, box, format="extxyz", columns=["symbols", "positions"])
    write_text(args.output, buffer.getvalue())
    return 0
