"""The teacher's own dynamics, for comparison. Imports no torch."""

import argparse
import io
from pathlib import Path

import numpy as np

from mlff_distiller.data.teacher import make_calculator, teacher_name
from mlff_distiller.md.langevin import Samples, run_langevin
from mlff_distiller.md.teacher_dynamics_settings import TeacherDynamicsInput
from mlff_distiller.systems.read import read_system
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import load_settings, write_bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    parser.add_argument("--system", required=True, help="file of the molecule")
    parser.add_argument(
        "--settings", required=True, help="'teacher', and 'spectra' or 'pairs' mappings (JSON text or a file)"
    )
    parser.add_argument("--output", type=Path, required=True, help="positions and velocities to write (.npz)")


def run(args: argparse.Namespace) -> int:
    """Langevin dynamics of one molecule or box by the teacher, as the check that will compare with it makes them.

    Raises:
        UserError: the teacher failed on the way.
    """
    settings = TeacherDynamicsInput.from_mapping(load_settings(args.settings))
    teacher, told = settings.teacher.to_mapping(), settings.pairs or settings.spectra
    atoms = read_system(args.system)
    atoms.calc = make_calculator(teacher)
    try:
        samples = run_langevin(atoms, told, with_stress=told is settings.pairs)
    except Exception as error:
        raise UserError(
            f"the teacher {teacher_name(teacher)} failed in dynamics of {atoms.info['name']}: "
            f"{type(error).__name__}: {error}; leave it out of {told.place.removesuffix('settings')}systems"
        ) from error
    write_samples(args.output, samples, atoms.numbers)
    print(f"{atoms.info['name']}: {len(samples.positions)} samples, {samples.steps_per_s:.1f} steps/s")
    return 0


def write_samples(path: Path, samples: Samples, numbers: np.ndarray) -> None:
    """``samples`` of atoms with ``numbers`` [N] as compressed numpy arrays (numbers, positions, velocities, ...)."""
    buffer = io.BytesIO()
    stresses = {} if samples.stresses is None else {"stresses": samples.stresses}
    np.savez_compressed(
        buffer,
        numbers=numbers,
        positions=samples.positions.astype(np.float32),
        velocities=samples.velocities.astype(np.float32),
        interval_fs=samples.interval_fs,
        steps_per_s=samples.steps_per_s,
        **stresses,
    )
    write_bytes(path, buffer.getvalue())


def read_samples(path: Path) -> tuple[Samples, np.ndarray]:
    """What :func:`write_samples` wrote: samples and atomic numbers [N].

    Raises:
        UserError: missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            samples = Samples(
                float(found["interval_fs"]),
                found["positions"].astype(float),
                found["velocities"].astype(float),
                float(found["steps_per_s"]),
                found.get("stresses"),
            )
            return samples, found["numbers"]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no trajectory ({error}); delete it and run `snakemake md` again") from None
