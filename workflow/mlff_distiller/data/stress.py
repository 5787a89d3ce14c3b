"""Stress tensors of labels: read in any of the usual forms, and put together."""

from typing import Any

import numpy as np

from mlff_distiller.systems.stress import OF_VOIGT

#: Largest difference between components that symmetry makes equal, as a share of the largest.
ASYMMETRY = 1e-3


def full_stress(given: Any) -> np.ndarray:
    """The symmetric tensor [3, 3], float64, of six components in ASE's order (xx, yy, zz, yz, xz, xy), of nine or of [3, 3].

    Raises:
        ValueError: another shape, numbers that are not finite, or a tensor that is not symmetric.
    """
    try:
        value = np.asarray(given)
    except ValueError:
        raise ValueError("the stress has rows of different lengths; expected 6 numbers or [3, 3]") from None
    if value.dtype.kind not in "fiu" or value.shape not in ((6,), (9,), (3, 3)):
        raise ValueError(
            f"the stress is of shape {list(value.shape)} ({value.dtype}); expected 6 numbers in the order xx, yy, zz, yz, "
            "xz, xy, or [3, 3]"
        )
    value = value.astype(np.float64)
    if not np.isfinite(value).all():
        raise ValueError("the stress is not finite")
    if value.shape == (6,):
        return value[OF_VOIGT]
    tensor = value.reshape(3, 3)
    if np.abs(tensor - tensor.T).max() > ASYMMETRY * np.abs(tensor).max():
        raise ValueError(f"the stress {tensor.tolist()} is not symmetric")
    return 0.5 * (tensor + tensor.T)


def gathered(stresses: list[np.ndarray | None]) -> np.ndarray | None:
    """[n] of [3, 3] or None -> [n, 3, 3] with NaN for None; None where no one has any."""
    if all(stress is None for stress in stresses):
        return None
    return np.array([np.full((3, 3), np.nan) if stress is None else stress for stress in stresses])
