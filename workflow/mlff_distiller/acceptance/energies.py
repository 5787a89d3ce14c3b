"""Energies and forces of many frames by one calculator, with those that it refuses marked."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlff_distiller.data.teacher import LabelError, label
from mlff_distiller.systems.units import KCAL_PER_MOL
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


def label_or_none(atoms: "Atoms", calculator: "Calculator", refusing: bool = False) -> tuple[float, np.ndarray] | None:
    """Energy (eV) and forces [N, 3] eV/A; None where there is no answer.

    Args:
        atoms: N atoms.
        calculator: of the teacher or the student; reset after a failure.
        refusing: only a refusal (:class:`UserError`) is no answer, and any other error is raised. False for a teacher, whose
            failures have many types.

    Raises:
        Exception: what the calculator raised, see ``refusing``.
    """
    try:
        return label(atoms, calculator)
    except LabelError as error:
        calculator.reset()
        if refusing and not isinstance(error.__cause__, UserError):
            raise error.__cause__ or error from None
    return None


def energies_and_forces(
    calculator: "Calculator", numbers: Sequence[int], frames: np.ndarray, refusing: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Energies [P] eV and forces [P, N, 3] eV/A; NaN for frames without an answer.

    Args:
        calculator: of the teacher or the student.
        numbers: [N] atomic numbers.
        frames: [P, N, 3] A.
        refusing: see :func:`label_or_none`.

    Raises:
        Exception: what the calculator raised, see ``refusing``.
    """
    from ase import Atoms

    frames = np.asarray(frames, dtype=float)
    energies, forces = np.full(len(frames), np.nan), np.full(frames.shape, np.nan)
    atoms = Atoms(numbers, frames[0] if len(frames) else None)
    for row, positions in enumerate(frames):
        atoms.positions[:] = positions
        if (found := label_or_none(atoms, calculator, refusing)) is not None:
            energies[row], forces[row] = found
    return energies, forces


def refused(numbers: Sequence[int], frames: np.ndarray) -> np.ndarray:
    """[P] bool: frames with atoms closer together than any that a student learned (see :mod:`.systems.distances`)."""
    from ase import Atoms

    from mlff_distiller.systems.distances import DistanceCheck

    check = DistanceCheck(Atoms(numbers, np.zeros((len(numbers), 3))))
    found = np.zeros(len(frames), dtype=bool)
    for row, positions in enumerate(np.asarray(frames, dtype=float)):
        try:
            check(positions)
        except UserError:
            found[row] = True
    return found


def numbers_or_null(values: np.ndarray, digits: int = 6) -> list[float | None]:
    """``values`` as JSON has them, NaN as null."""
    return [None if np.isnan(value) else round(float(value), digits) for value in values]


def points_of_both(
    x: Sequence[float], teacher: Sequence[float | None], student: Sequence[float | None]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``x`` and the energies of both where neither is None, [P] each."""
    both = [
        (at, one, other)
        for at, one, other in zip(x, teacher, student, strict=True)
        if one is not None and other is not None
    ]
    at, theirs, ours = np.array(both, dtype=float).reshape(-1, 3).T
    return at, theirs, ours


def curve(x: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> dict[str, list[float]]:
    """A curve of both models, energies in kcal/mol, as records keep it for a figure."""
    return {
        "x": np.round(x, 4).tolist(),
        "teacher_kcal_mol": np.round(theirs, 4).tolist(),
        "student_kcal_mol": np.round(ours, 4).tolist(),
    }


def relative(energies: Sequence[float | None]) -> np.ndarray:
    """Energies in eV as kcal/mol above the lowest of them; NaN stays."""
    values = np.array(energies, dtype=float)
    return (values - np.nanmin(values)) / KCAL_PER_MOL if np.isfinite(values).any() else values
