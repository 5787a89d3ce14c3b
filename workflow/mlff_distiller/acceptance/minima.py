"""Optimised geometries of teacher and student from the same start, and how far they are from each other."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlff_distiller.systems.units import KCAL_PER_MOL

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator


def optimise(
    calculator: "Calculator", numbers: Sequence[int], start: np.ndarray, force_limit: float, max_steps: int
) -> dict[str, Any]:
    """The minimum next to ``start`` by ASE's BFGS.

    Args:
        calculator: of the teacher or the student.
        numbers: [N] atomic numbers.
        start: [N, 3] A.
        force_limit: largest force on an atom at the end, eV/A.
        max_steps: after which the search is given up.

    Returns:
        ``positions`` [N, 3] A, ``energy`` eV, ``steps``, and whether it ``converged``.

    Raises:
        Exception: what the calculator raises on the way.
    """
    from ase import Atoms
    from ase.optimize import BFGS

    atoms = Atoms(numbers, start)
    atoms.calc = calculator
    search = BFGS(atoms, logfile=None)
    converged = search.run(fmax=force_limit, steps=max_steps)
    return {
        "positions": atoms.positions.tolist(),
        "energy": float(atoms.get_potential_energy()),
        "steps": int(search.nsteps),
        "converged": bool(converged),
    }


def compare_minima(
    numbers: Sequence[int], bonds: Sequence[Sequence[int]], teacher: Mapping[str, Any], student: Mapping[str, Any]
) -> dict[str, Any]:
    """Fields of a ``geometry`` record from two results of :func:`optimise`.

    Args:
        numbers: [N] atomic numbers.
        bonds: [B, 2] pairs of bonded atoms.
        teacher, student: their minima.
    """
    from ase.data import chemical_symbols

    ours, theirs = np.array(student["positions"]), np.array(teacher["positions"])
    first, second = np.array(bonds, dtype=int).reshape(-1, 2).T
    lengths = [np.linalg.norm(r[first] - r[second], axis=1) for r in (ours, theirs)]
    errors = lengths[0] - lengths[1]
    worst = int(np.argmax(np.abs(errors))) if len(errors) else None
    return {
        "rmsd_a": rmsd(ours, theirs),
        "bond_error_a": None if worst is None else float(errors[worst]),
        "worst_bond": None
        if worst is None
        else "-".join(f"{chemical_symbols[numbers[i]]}{i}" for i in (first[worst], second[worst])),
        "energy_error_kcal_mol": (student["energy"] - teacher["energy"]) / KCAL_PER_MOL,
        "steps": student["steps"],
        "teacher_steps": teacher["steps"],
    }


def rmsd(one: np.ndarray, other: np.ndarray) -> float:
    """Root mean square distance (A) of the atoms of two geometries [N, 3] A, after the best translation and rotation.

    Kabsch's rotation (Acta Cryst. A32, 922, 1976); a mirror image stays one.
    """
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    left, sizes, right = np.linalg.svd(one.T @ other)
    sizes[2] *= np.sign(np.linalg.det(left @ right)) or 1.0
    squared = (one**2).sum() + (other**2).sum() - 2 * sizes.sum()
    return float(np.sqrt(max(squared, 0.0) / len(one)))
