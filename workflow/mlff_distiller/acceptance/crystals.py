"""Crystals: the energy along the volume, elastic constants, phonons, of one calculator and of student against teacher."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.acceptance.energies import label_or_none, numbers_or_null
from mlff_distiller.data.teacher import label_stress
from mlff_distiller.systems.stress import VOIGT
from mlff_distiller.systems.units import GPA, PLANCK
from mlff_distiller.utils.errors import UserError

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator

#: Points without which a fit of the equation of state (four parameters) says nothing.
FEWEST_POINTS = 6
#: Volumes, as a share of the file's, among which the teacher's minimum is looked for.
SEARCHED = np.linspace(0.7, 1.4, 15)
MEV = 1000.0


def at_volume(atoms: "Atoms", volume: float) -> "Atoms":
    """``atoms`` with the cell scaled evenly to ``volume`` A^3, at the same fractions of it."""
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell.array * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
    return scaled


def energies_at(
    calculator: "Calculator", atoms: "Atoms", volumes: Sequence[float], refusing: bool = False
) -> np.ndarray:
    """Energies [V] eV of the cell at ``volumes`` A^3; NaN where the calculator gives none.

    ``refusing`` and what is raised: see :func:`~mlff_distiller.acceptance.energies.label_or_none`.
    """
    found = np.full(len(volumes), np.nan)
    for row, volume in enumerate(volumes):
        if (answer := label_or_none(at_volume(atoms, volume), calculator, refusing)) is not None:
            found[row], _ = answer
    return found


def equation_of_state(volumes: Sequence[float], energies: Sequence[float | None]) -> tuple[float, float, float]:
    """Volume (A^3) and energy (eV) of the minimum and bulk modulus (GPa) by Birch and Murnaghan's equation, third order.

    Birch, Phys. Rev. 71, 809 (1947), by :mod:`ase.eos`.

    Raises:
        UserError: fewer than :data:`FEWEST_POINTS` energies, or no minimum between the volumes.
    """
    from ase.eos import EquationOfState

    at, known = np.array(
        [(v, e) for v, e in zip(volumes, energies, strict=True) if e is not None and np.isfinite(e)]
    ).reshape(-1, 2).T  # fmt: skip
    if len(at) < FEWEST_POINTS:
        raise UserError(f"only {len(at)} of {len(volumes)} volumes have an energy")
    lowest = int(np.argmin(known))
    if lowest in (0, len(at) - 1):
        raise UserError(f"no minimum between {at.min():.4g} and {at.max():.4g} A^3: the energy falls to the end")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            volume, energy, modulus = EquationOfState(at, known, eos="birchmurnaghan").fit()
        except (RuntimeError, ValueError) as error:
            raise UserError(f"the equation of state does not fit: {error}") from None
    return float(volume), float(energy), float(modulus) / GPA


def with_relaxed_atoms(calculator: "Calculator", atoms: "Atoms", force_limit: float, max_steps: int) -> "Atoms":
    """``atoms`` at their minimum in the same cell, by ASE's BFGS.

    Raises:
        UserError: the search did not end in ``max_steps``.
    """
    from ase.optimize import BFGS

    moved = atoms.copy()
    moved.calc = calculator
    if not BFGS(moved, logfile=None).run(fmax=force_limit, steps=max_steps):
        raise UserError(f"the atoms did not come to rest in {max_steps} steps")
    moved.calc = None
    return moved


def elastic_constants(
    calculator: "Calculator", atoms: "Atoms", strain: float, force_limit: float, max_steps: int
) -> np.ndarray:
    """Elastic constants [6, 6] GPa, Voigt's order xx, yy, zz, yz, xz, xy along the axes of x, y, z, atoms relaxed in each cell.

    Central differences of the stress (C_ij = d stress_i / d strain_j, Nye, Physical Properties of Crystals), symmetrized.

    Args:
        calculator: with a stress.
        atoms: at the minimum of this calculator.
        strain: of each component to both sides; a shear's is the engineering strain, twice the tensor's component.
        force_limit: at which atoms count as relaxed, eV/A.
        max_steps: of a relaxation.

    Raises:
        UserError: no stress, or a relaxation that does not end.
    """
    found = np.empty((6, 6))
    for column, (i, j) in enumerate(zip(*VOIGT, strict=True)):
        tensor = np.zeros((3, 3))
        tensor[i, j] += strain / 2
        tensor[j, i] += strain / 2
        ends = []
        for sign in (1.0, -1.0):
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ (np.eye(3) + sign * tensor), scale_atoms=True)
            strained = with_relaxed_atoms(calculator, strained, force_limit, max_steps)
            stress = label_stress(strained, calculator)
            if stress is None:
                raise UserError("no stress, and so no elastic constants")
            ends.append(stress[VOIGT])
        found[:, column] = (ends[0] - ends[1]) / (2 * strain) / GPA
    return 0.5 * (found + found.T)


def phonons(
    calculator: "Calculator", atoms: "Atoms", repeats: Sequence[int], displacement: float
) -> tuple[list[list[float]], np.ndarray]:
    """Frequencies at all wave vectors that fit into the repeated cell, by finite displacements in it (:mod:`ase.phonons`).

    Args:
        calculator: of the teacher or the student.
        atoms: N atoms at the minimum of this calculator.
        repeats: of the cell along its three vectors.
        displacement: of each atom to both sides, A.

    Returns:
        Wave vectors [q, 3] in units of the reciprocal cell, one of q and -q, and frequencies [q, 3N] THz, ascending; an imaginary
        one is negative.
    """
    from ase.phonons import Phonons

    # The planes i = 0 and, of an even number, i = repeats[0] / 2 hold both q and -q.
    steps: dict[tuple[int, ...], None] = {}
    for step in product(range(repeats[0] // 2 + 1), range(repeats[1]), range(repeats[2])):
        if tuple(-i % n for i, n in zip(step, repeats, strict=True)) not in steps:
            steps[step] = None
    points = [[i / n for i, n in zip(step, repeats, strict=True)] for step in steps]
    with tempfile.TemporaryDirectory() as folder:
        made = Phonons(
            atoms, calculator, supercell=tuple(repeats), name=str(Path(folder) / "forces"), delta=displacement
        )
        made.run()
        made.read(acoustic=True)
        found = made.band_structure(points, verbose=False)
    return points, np.sort(np.asarray(found), axis=1) / PLANCK


def repeats_for(atoms: "Atoms", width: float) -> list[int]:
    """How often each cell vector is repeated until the cell is ``width`` A wide between opposite faces."""
    widths = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    return [int(n) for n in np.ceil(width / widths - 1e-6)]


def compare_volumes(
    n_atoms: int, volumes: Sequence[float], teacher: Sequence[float | None], student: Sequence[float | None]
) -> dict[str, Any]:
    """Fields of a ``volume`` record from energies [V] eV of both at the same cells; each above the minimum of its own fit.

    Raises:
        UserError: the student's energies have no minimum.
    """
    (volume, lowest, modulus), (ours, our_lowest, our_modulus) = (
        equation_of_state(volumes, energies) for energies in (teacher, student)
    )
    theirs = MEV * (np.array(teacher, dtype=float) - lowest) / n_atoms
    mine = MEV * (np.array(student, dtype=float) - our_lowest) / n_atoms
    errors = (mine - theirs)[np.isfinite(mine - theirs)]
    return {
        "volume_a3_per_atom": volume / n_atoms,
        "volume_error_percent": 100 * (ours / volume - 1),
        "bulk_modulus_gpa": modulus,
        "bulk_modulus_error_gpa": our_modulus - modulus,
        "volume_mae_mev_per_atom": float(np.abs(errors).mean()),
        "points": len(errors),
        "refused": int(np.isnan(mine).sum()),
        "volume_curve": {
            "volumes_a3_per_atom": np.round(np.array(volumes) / n_atoms, 5).tolist(),
            "teacher_mev_per_atom": numbers_or_null(theirs, 4),
            "student_mev_per_atom": numbers_or_null(mine, 4),
        },
    }


def compare_elastic(teacher: Sequence[Sequence[float]], student: np.ndarray) -> dict[str, Any]:
    """Fields of an ``elastic`` record from elastic constants [6, 6] GPa of both, each at its own minimum."""
    upper = np.triu_indices(6)
    theirs = np.array(teacher)
    errors = (student - theirs)[upper]
    worst = int(np.argmax(np.abs(errors)))
    i, j = (int(index[worst]) for index in upper)
    return {
        "elastic_mae_gpa": float(np.abs(errors).mean()),
        "elastic_error_gpa": float(errors[worst]),
        "worst_elastic": f"C{i + 1}{j + 1}",
        "worst_elastic_gpa": float(theirs[i, j]),
        "stable": bool(np.linalg.eigvalsh(student)[0] > 0),
        "elastic": {
            "teacher_gpa": np.round(theirs, 3).tolist(),
            "student_gpa": np.round(student, 3).tolist(),
        },
    }


def compare_phonons(
    points: Sequence[Sequence[float]], teacher: Sequence[Sequence[float]], student: np.ndarray, still: float = 0.05
) -> dict[str, Any]:
    """Fields of a ``phonons`` record: modes of each wave vector are paired in the order of their frequencies.

    Args:
        points: wave vectors [q, 3]; the first is Gamma, whose three translations do not count.
        teacher, student: frequencies [q, 3N] THz.
        still: a mode of the student below minus this is imaginary, THz.
    """
    theirs = np.array(teacher)
    errors = student - theirs
    # Translations are the modes of Gamma nearest to zero.
    moving = np.ones(errors.shape, dtype=bool)
    moving[0, np.argsort(np.abs(theirs[0]))[:3]] = False
    row, mode = np.unravel_index(np.argmax(np.where(moving, np.abs(errors), -1.0)), errors.shape)
    return {
        "phonon_mae_thz": float(np.abs(errors[moving]).mean()),
        "phonon_error_thz": float(errors[row, mode]),
        "worst_phonon_thz": float(theirs[row, mode]),
        "worst_wave_vector": [float(x) for x in points[row]],
        "imaginary": int((student[moving] < -still).sum()),
        "teacher_imaginary": int((theirs[moving] < -still).sum()),
        "phonons": {
            "wave_vectors": [[float(x) for x in point] for point in points],
            "teacher_thz": np.round(theirs, 4).tolist(),
            "student_thz": np.round(student, 4).tolist(),
        },
    }


def atoms_of(case: Mapping[str, Any]) -> "Atoms":
    """The crystal of a case: ``numbers`` [N], ``cell`` [3, 3] A, ``fractions`` [N, 3]."""
    from ase import Atoms

    return Atoms(case["numbers"], scaled_positions=case["fractions"], cell=case["cell"], pbc=True)
