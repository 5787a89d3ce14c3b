"""Stress tensors as ASE has them: the energy's derivative by the strain over the volume, eV/A^3, positive where a cell pulls."""

from typing import Any

import numpy as np

from mlff_distiller.systems.boxes import Box

#: Rows and columns of Voigt's six components in ASE's order: xx, yy, zz, yz, xz, xy.
VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
#: Which of the six stands where in the symmetric tensor, [3, 3].
OF_VOIGT = np.zeros((3, 3), dtype=np.int64)
OF_VOIGT[VOIGT] = OF_VOIGT[VOIGT[::-1]] = np.arange(6)


def volumes(cells: Any) -> Any:
    """Volumes [...] A^3 of cells [..., 3, 3] A with lattice vectors in rows, of an array or a tensor.

    Not by the determinant, which factorizes: hundreds of microseconds on a GPU.
    """
    a, b, c = (cells[..., row, :] for row in range(3))
    across = np.cross(b, c) if isinstance(cells, np.ndarray) else b.cross(c, dim=-1)
    return abs((a * across).sum(-1))


def no_stress(box: Box | None) -> str:
    """Why a system has no stress, in words; empty where it has one.

    Args:
        box: of the system; None for a molecule.
    """
    if box is None:
        return "a molecule has no stress: the system is not periodic along any axis"
    if not box.spans_volume:
        return (
            "stress needs a volume, and a lattice vector is missing along an axis that is not periodic; "
            "atoms.center(vacuum=..., axis=...) gives one"
        )
    return ""
