"""Radial basis and cutoff of the student."""

import math

import torch
from torch import Tensor, nn


def cosine_cutoff(distances: Tensor, cutoff: float) -> Tensor:
    """Cosine cutoff of Behler and Parrinello (2007): 1 at 0, and 0 with zero slope at and beyond ``cutoff``.

    Args:
        distances: [E], A.
        cutoff: A.

    Returns:
        [E], without unit.
    """
    inside = 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1.0)
    return inside * (distances < cutoff)


class GaussianBasis(nn.Module):
    """Equally spaced Gaussians on [0, cutoff], each one spacing wide (SchNet, Schuett et al. 2017, as in SchNetPack)."""

    def __init__(self, n_radial: int, cutoff: float):
        super().__init__()
        self.register_buffer("centers", torch.linspace(0.0, cutoff, n_radial), persistent=False)
        self.exponent = -0.5 * ((n_radial - 1) / cutoff) ** 2

    def forward(self, distances: Tensor) -> Tensor:
        """[E] A -> [E, n_radial]."""
        return torch.exp(self.exponent * (distances[:, None] - self.centers) ** 2)
