"""Harmonic frequencies by central differences of the forces, and how they depend on the displacement."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def frequencies(
    calculator: "Calculator", numbers: Sequence[int], positions: np.ndarray, displacement: float
) -> np.ndarray:
    """Harmonic frequencies, 1/cm, ascending; an imaginary one is negative. Translations and rotations are left out.

    Args:
        calculator: of the teacher or the student.
        numbers: [N] atomic numbers.
        positions: [N, 3] A, a minimum of this calculator.
        displacement: of each coordinate to both sides, A.

    Returns:
        [3N - 6], or [3N - 5] of a linear molecule.

    Raises:
        Exception: what the calculator raises.
    """
    from ase import Atoms, units
    from ase.vibrations import Vibrations

    atoms = Atoms(numbers, positions)
    atoms.calc = calculator
    with tempfile.TemporaryDirectory() as folder:
        found = Vibrations(atoms, name=str(Path(folder) / "forces"), delta=displacement)
        found.run()
        hessian = found.get_vibrations().get_hessian_2d()
    root = np.sqrt(np.repeat(atoms.get_masses(), 3))
    inner = internal(atoms.positions, atoms.get_masses())
    values = np.linalg.eigvalsh(inner.T @ (hessian / np.outer(root, root)) @ inner)
    # eV/(A^2 amu) -> 1/s -> eV -> 1/cm
    scale = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm
    return scale * np.sign(values) * np.sqrt(np.abs(values))


def internal(positions: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Orthonormal mass-weighted motions [3N, M] that neither shift nor turn the molecule as a whole.

    Args:
        positions: [N, 3] A.
        masses: [N] amu.
    """
    from scipy.linalg import null_space

    root = np.sqrt(masses)[:, None]
    centered = positions - (masses[:, None] * positions).sum(axis=0) / masses.sum()
    rigid = [root * axis * np.ones_like(centered) for axis in np.eye(3)]
    rigid += [root * np.cross(axis, centered) for axis in np.eye(3)]
    # A linear molecule has no rotation about its axis; its geometry is linear to about a thousandth.
    return null_space(np.array([motion.ravel() for motion in rigid]), rcond=1e-3)


def compare_frequencies(
    displacements: Sequence[float], teacher: Mapping[str, Sequence[float]], student: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Fields of a ``frequencies`` record. Modes are paired in the order of their frequencies.

    Args:
        displacements: A; the first is that of the comparison.
        teacher, student: displacement as text -> frequencies [M] 1/cm.
    """
    keys = [f"{value:g}" for value in displacements]
    theirs, ours = (np.array([found[key] for key in keys]) for found in (teacher, student))
    errors = ours[0] - theirs[0]
    worst = int(np.argmax(np.abs(errors)))
    changes, floor = np.ptp(ours, axis=0), np.ptp(theirs, axis=0)
    most = int(np.argmax(changes))
    return {
        "frequency_mae_per_cm": float(np.abs(errors).mean()),
        "frequency_error_per_cm": float(errors[worst]),
        "worst_frequency_per_cm": float(theirs[0][worst]),
        "imaginary": int((ours[0] < 0).sum()),
        "change_per_cm": float(changes[most]),
        "changed_frequency_per_cm": float(theirs[0][most]),
        "teacher_change_per_cm": float(floor.max()),
        "vibrations": {
            "displacements_a": [float(value) for value in displacements],
            "teacher_per_cm": np.round(theirs, 2).tolist(),
            "student_per_cm": np.round(ours, 2).tolist(),
        },
    }
