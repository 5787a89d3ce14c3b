"""All parameters of a network as one flat vector, so that one operation updates or averages them."""

import torch
from torch import Tensor, nn


class FlatWeights:
    """The order and shapes of a network's parameters within a flat vector [P]."""

    def __init__(self, network: nn.Module):
        self.names = [name for name, _ in network.named_parameters()]
        self.shapes = [parameter.shape for parameter in network.parameters()]
        self.sizes = [parameter.numel() for parameter in network.parameters()]

    @staticmethod
    def read(network: nn.Module) -> Tensor:
        """A copy of the network's parameters, flat."""
        return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()]).clone()

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parameters as views of ``flat``."""
        return [piece.view(shape) for piece, shape in zip(flat.split(self.sizes), self.shapes, strict=True)]

    def named(self, flat: Tensor) -> dict[str, Tensor]:
        """:meth:`views` by name."""
        return dict(zip(self.names, self.views(flat), strict=True))

    def write(self, network: nn.Module, flat: Tensor) -> None:
        """Copies ``flat`` into the network."""
        with torch.no_grad():
            for parameter, view in zip(network.parameters(), self.views(flat), strict=True):
                parameter.copy_(view)
