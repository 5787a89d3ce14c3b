"""Student against teacher in MD: distributions of bond lengths and angles, and vibrations.

Both run the same Langevin dynamics at the same temperature, so that the distributions compared are canonical ones, and
from the same start with the same noise, so that at first they differ by their forces alone. Two independent trajectories
of finite length differ even with the same forces, by about as much as the two halves of the teacher's: that is given
beside each measure as ``floor``, and a difference below it means nothing.
"""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.md import check
from mlff_distiller.md.langevin import Samples, run_langevin
from mlff_distiller.md.measures import angles_of, bonds_of
from mlff_distiller.md.spectra_settings import SpectraSettings
from mlff_distiller.md.teacher_trajectory import read_samples
from mlff_distiller.utils.errors import UserError
from mlff_distiller.variants import artifact
from mlff_distiller.variants.artifact import VariantFiles

if TYPE_CHECKING:
    from ase import Atoms

#: Wave numbers of the spectra, 1/cm: every vibration of an organic molecule lies below.
WAVENUMBERS = np.arange(0.0, 4200.0, 10.0)
#: Width (standard deviation) by which lines are smeared before they are compared, 1/cm.
SMEARING = 20.0
#: Speed of light in cm/fs.
LIGHT = 2.99792458e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command line of the stage."""
    check.add_arguments(parser)
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's trajectory of this molecule (.npz)")


def run(args: argparse.Namespace) -> int:
    """One record of kind ``md``, task ``spectra``."""
    return check.run_check(
        args, "spectra", SpectraSettings, functools.partial(measure, teacher=args.teacher), ensemble="NVT"
    )


def measure(files: VariantFiles, atoms: "Atoms", settings: SpectraSettings, teacher: Path) -> dict[str, Any]:
    """Fields of the record: distances between the distributions, the curves, the gates.

    Args:
        files: of the variant.
        atoms: the start.
        settings: lengths and gates.
        teacher: trajectory of the teacher, from the stage ``md-teacher``.
    """
    from mlff_distiller.potentials.ase import PotentialCalculator

    taught, numbers = read_samples(teacher)
    if not np.array_equal(numbers, atoms.numbers):
        raise UserError(f"{teacher}: a trajectory of other atoms than {atoms.info['name']}; delete it and run again")
    start = atoms.copy()
    atoms.calc = PotentialCalculator(artifact.load_variant(files).potential)
    student = run_langevin(atoms, settings)
    found, floor = compare(start, student, taught), compare(start, *halves(taught))
    curves = {"student": distributions(start, student), "teacher": distributions(start, taught)}
    return {
        "timestep_fs": settings.timestep_fs,
        "n_steps": settings.steps,
        "temperature_k": settings.temperature_k,
        **{name: value for name, value in found.items() if value is not None},
        "floor": floor,
        "distributions": curves,
        "gates": {
            name: check.at_most(value, getattr(settings.gates, name))
            for name, value in found.items()
            if value is not None
        },
    }


def compare(atoms: "Atoms", one: Samples, other: Samples) -> dict[str, float | None]:
    """Distances between two trajectories of ``atoms`` (which gives bonds and masses).

    Returns:
        ``bond_distance_a`` and ``angle_distance_deg``: the Wasserstein distance between the distributions of a bond
        length (A) or an angle (degrees), mean over all of them; null without any. ``spectrum_difference``: one less the
        area that both vibrational spectra, each of area 1, have in common.
    """
    lengths = [bond_lengths(atoms, samples) for samples in (one, other)]
    angles = [bond_angles(atoms, samples) for samples in (one, other)]
    spectra = [vibrational_spectrum(samples, atoms.get_masses()) for samples in (one, other)]
    return {
        "bond_distance_a": _mean_distance(*lengths),
        "angle_distance_deg": _mean_distance(*angles),
        "spectrum_difference": 1.0 - float(np.minimum(*spectra).sum() * (WAVENUMBERS[1] - WAVENUMBERS[0])),
    }


def halves(samples: Samples) -> tuple[Samples, Samples]:
    """The first and the second half of a trajectory."""
    middle = len(samples.positions) // 2
    return tuple(
        Samples(samples.interval_fs, samples.positions[part], samples.velocities[part], samples.steps_per_s)
        for part in (slice(middle), slice(middle, 2 * middle))
    )


def bond_lengths(atoms: "Atoms", samples: Samples) -> np.ndarray:
    """Lengths [T, B] A of the bonds that ``atoms`` has at its positions."""
    first, second, _ = bonds_of(atoms)
    return np.linalg.norm(samples.positions[:, second] - samples.positions[:, first], axis=-1)


def bond_angles(atoms: "Atoms", samples: Samples) -> np.ndarray:
    """Angles [T, A] degrees between the bonds that ``atoms`` has at its positions."""
    one, middle, other = angles_of(atoms).T
    a = samples.positions[:, one] - samples.positions[:, middle]
    b = samples.positions[:, other] - samples.positions[:, middle]
    cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def vibrational_spectrum(samples: Samples, masses: np.ndarray) -> np.ndarray:
    """Power spectrum of the mass-weighted velocities at :data:`WAVENUMBERS`, area 1 (per 1/cm).

    The Fourier transform of the velocity autocorrelation (Thomas et al., Phys. Chem. Chem. Phys. 15, 6608, 2013), by
    Welch's method, smeared by :data:`SMEARING`.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import welch

    weighted = (samples.velocities * np.sqrt(masses)[:, None]).reshape(len(samples.velocities), -1)
    # Segments of 1 ps resolve 33 1/cm, about what the smearing leaves.
    segment = min(len(weighted), round(1000.0 / samples.interval_fs))
    frequencies, power = welch(weighted, fs=1.0 / samples.interval_fs, nperseg=segment, axis=0)
    density = np.interp(WAVENUMBERS, frequencies / LIGHT, power.sum(axis=1), right=0.0)
    step = WAVENUMBERS[1] - WAVENUMBERS[0]
    density = gaussian_filter1d(density, SMEARING / step, mode="nearest")
    return density / (density.sum() * step)


def distributions(atoms: "Atoms", samples: Samples) -> dict[str, Any]:
    """Curves for the figure: densities of all bond lengths and of all angles together, and the spectrum."""
    made: dict[str, Any] = {}
    for name, values, grid in (
        ("bond_lengths", bond_lengths(atoms, samples), np.arange(0.8, 2.2, 0.01)),
        ("angles", bond_angles(atoms, samples), np.arange(60.0, 181.0, 1.0)),
    ):
        density, edges = np.histogram(values, bins=grid, density=True) if values.size else (np.zeros(0), grid[:1])
        made[name] = {"edges": edges.round(4).tolist(), "density": density.round(5).tolist()}
    spectrum = vibrational_spectrum(samples, atoms.get_masses())
    made["spectrum"] = {"wavenumbers": WAVENUMBERS.tolist(), "density": spectrum.round(8).tolist()}
    return made


def _mean_distance(one: np.ndarray, other: np.ndarray) -> float | None:
    """Wasserstein distance column by column, mean over the columns; null without columns."""
    from scipy.stats import wasserstein_distance

    if one.shape[1] == 0:
        return None
    return float(np.mean([wasserstein_distance(a, b) for a, b in zip(one.T, other.T, strict=True)]))
