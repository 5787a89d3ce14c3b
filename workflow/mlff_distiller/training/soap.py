"""SOAP: Adam in the eigenbases of Shampoo's preconditioner (Vyas et al., arXiv:2409.11321), for weights in a flat vector.

For each block G [r, c] of the gradient, running means of G G^T and G^T G are kept; Adam's second moment is that of the gradient
in the eigenvectors of both, and its step is turned back. A matrix of several layers or channels is several blocks, each at most
as large as the network is wide. Vectors, the embedding and the last layer stay with Adam.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from mlff_distiller.student.painn import PaiNN
from mlff_distiller.training.weights import FlatWeights

#: Of the running means of G G^T and G^T G.
BETA = 0.98
#: The first updates after which the eigenvectors are found.
FIRST = (1, 3, 10, 20, 35)
#: Updates between two times that they are followed, by device: on a CPU that costs next to nothing.
EVERY = {"cpu": 10, "cuda": 20}


def blocks_of(network: PaiNN) -> dict[tuple[int, int], Tensor]:
    """Where the blocks of the weight matrices lie: for each shape (r, c), indices [n, r, c] into the flat vector.

    A matrix whose sides are multiples of the network's width, its ``n_features``, is cut into so wide pieces.
    """
    layout, width = FlatWeights(network), network.embedding.embedding_dim
    found: dict[tuple[int, int], list[Tensor]] = {}
    start = 0
    for name, shape, size in zip(layout.names, layout.shapes, layout.sizes, strict=True):
        if len(shape) == 2 and min(shape) > 1 and not name.startswith("embedding"):
            rows, columns = (width if side % width == 0 else side for side in shape)
            whole = torch.arange(start, start + size).view(*shape)
            for strip in whole.split(rows):
                for piece in strip.split(columns, dim=1):
                    found.setdefault((rows, columns), []).append(piece)
        start += size
    return {shape: torch.stack(pieces) for shape, pieces in found.items()}


class Curvature:
    """What SOAP keeps of the gradients, in one flat vector, so that a state of a training holds it.

    Args:
        blocks: see :func:`blocks_of`.
        kept: of :func:`length` numbers, changed in place.
    """

    def __init__(self, blocks: Mapping[tuple[int, int], Tensor], kept: Tensor):
        self.blocks = {shape: index.to(kept.device) for shape, index in blocks.items()}
        self.parts: dict[tuple[int, int], tuple[Tensor, ...]] = {}
        start = 0
        for (rows, columns), index in self.blocks.items():
            shapes = _shapes(len(index), rows, columns)
            sizes = [n * r * c for n, r, c in shapes]
            pieces = kept[start : start + sum(sizes)].split(sizes)
            self.parts[rows, columns] = tuple(p.view(s) for p, s in zip(pieces, shapes, strict=True))
            start += sum(sizes)

    @staticmethod
    def start(blocks: Mapping[tuple[int, int], Tensor]) -> Tensor:
        """The flat vector before the first update: no gradient seen, and Adam's own basis."""
        kept = torch.zeros([length(blocks)])
        for _, _, left, right, _ in Curvature(blocks, kept).parts.values():
            left.copy_(torch.eye(left.shape[1]))
            right.copy_(torch.eye(right.shape[1]))
        return kept

    def turn(
        self,
        change: Tensor,
        gradient: Tensor,
        first_moment: Tensor,
        beta: float,
        correction: Tensor | float,
        epsilon: float,
    ) -> None:
        """Put SOAP's step in the place of Adam's for all blocks of ``change`` [P]; every argument as in Adam's update.

        Args:
            change: step of all weights, before the learning rate.
            gradient, first_moment: of all weights.
            beta: of the second moment.
            correction: of its bias: 1 / sqrt(1 - beta^t).
            epsilon: added to its root.
        """
        for shape, index in self.blocks.items():
            of_rows, of_columns, left, right, second_moment = self.parts[shape]
            seen = gradient[index]
            of_rows.lerp_(seen @ seen.mT, 1.0 - BETA)
            of_columns.lerp_(seen.mT @ seen, 1.0 - BETA)
            turned = left.mT @ seen @ right
            second_moment.mul_(beta).addcmul_(turned, turned, value=1.0 - beta)
            step = (left.mT @ first_moment[index] @ right) / (second_moment.sqrt() * correction + epsilon)
            change[index] = left @ step @ right.mT

    def find_bases(self, step: int) -> None:
        """After update ``step`` (from 1), if it is time: the eigenvectors of what was seen; later a step of orthogonal iteration
        towards them, as in the paper."""
        for of_rows, of_columns, left, right, _ in self.parts.values():
            if step not in FIRST and step % EVERY[left.device.type]:
                return
            for mean, basis in ((of_rows, left), (of_columns, right)):
                # Weights that diverge are noticed where errors are evaluated; here they must not end a factorization.
                sound = mean.nan_to_num(0.0, 0.0, 0.0)
                if step in FIRST:
                    found = torch.linalg.eigh(sound).eigenvectors
                else:
                    ahead = sound @ basis
                    found = by_cholesky(ahead) if ahead.is_cuda else torch.linalg.qr(ahead).Q
                basis.copy_(torch.where(mean.isfinite().all() & found.isfinite().all(), found, basis))


def by_cholesky(columns: Tensor) -> Tensor:
    """Orthonormal columns [n, d, d] with the same spans as the first 1, 2, ... of ``columns`` [n, d, d], as a QR factorization
    has them but for signs.

    For a GPU, where Householder's takes one matrix after the other, column by column: by shifted Cholesky factors in float64
    (Fukaya et al., SIAM J. Sci. Comput. 42, A477 (2020)), which are batched. Never waits for the device; not finite where
    they do not exist.
    """
    found = columns.double()
    side = found.shape[-1]
    found = found / torch.linalg.matrix_norm(found)[:, None, None].clamp(min=1e-300)
    identity = torch.eye(side, dtype=found.dtype, device=found.device)
    # 11 (d d + d (d + 1)) u of the paper for the first, which makes what is nearly dependent independent enough.
    for shift in (11 * side * (2 * side + 1) * 1.1e-16, 0.0, 0.0):
        factor = torch.linalg.cholesky_ex(found.mT @ found + shift * identity).L
        found = torch.linalg.solve_triangular(factor.mT, found, upper=True, left=False)
    return found.to(columns.dtype)


def length(blocks: Mapping[tuple[int, int], Tensor]) -> int:
    """Numbers that a :class:`Curvature` keeps."""
    return sum(n * r * c for (rows, columns), index in blocks.items() for n, r, c in _shapes(len(index), rows, columns))


def _shapes(n: int, rows: int, columns: int) -> list[tuple[int, int, int]]:
    """Of the means of G G^T and G^T G, their eigenvectors, and the second moment."""
    return [(n, rows, rows), (n, columns, columns), (n, rows, rows), (n, columns, columns), (n, rows, columns)]
