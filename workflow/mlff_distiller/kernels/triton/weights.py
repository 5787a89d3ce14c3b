"""The student's weights in the layout that the kernels read."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from mlff_distiller.student.painn import StudentForceField
from mlff_distiller.utils.errors import UserError


@dataclass(frozen=True)
class BlockWeights:
    """One block: its filters, its update, and the head on its result (phi of the next block, or the readout)."""

    filter_weight: Tensor  # [K, 3 F]
    filter_bias: Tensor  # [3 F]
    mix: Tensor  # [F, 2 F]
    mix_back: Tensor  # [2 F, F]
    mlp_in: Tensor  # [2 F, H]
    mlp_in_back: Tensor  # [H, 2 F]
    mlp_in_bias: Tensor  # [H]
    mlp_out: Tensor  # [H, 3 F]
    mlp_out_back: Tensor  # [3 F, H]
    mlp_out_bias: Tensor  # [3 F]
    head_in: Tensor  # [F, H]
    head_in_back: Tensor  # [H, F]
    head_in_bias: Tensor  # [H]
    head_weight: Tensor  # [H, 3 F], or [H] for the readout
    head_back: Tensor  # [3 F, H], or [H] for the readout
    head_bias: Tensor  # [3 F], or [1] for the readout


@dataclass(frozen=True)
class PackedStudent:
    """All weights; hidden widths are zero-padded to H, Gaussians to K (powers of two)."""

    features: int
    hidden: int
    gaussians: int
    norm_epsilon: float  # under the square root of |V v|
    radial: Tensor  # [3 + K] cutoff, exponent of the Gaussians, pi / cutoff, their centers
    wall: Tensor  # [elements^2, 2] where each pair's wall begins, A, and its strength, eV (student/wall.py)
    embedding: Tensor  # [elements, F]
    first_phi: Tensor  # [elements, 3 F]: phi of the embedding, for the first block
    references: Tensor  # [elements] eV, float64
    blocks: tuple[BlockWeights, ...]


def power_of_two(value: int, least: int = 16) -> int:
    """The smallest power of two that is at least ``value`` and ``least``."""
    return max(least, 1 << (value - 1).bit_length())


def pack(student: StudentForceField) -> PackedStudent:
    """The weights of ``student``, copied, on its device and in its dtype.

    Raises:
        UserError: n_features is not a power of two of at least 32.
    """
    config, network = student.config, student.network
    features = config.n_features
    if features & (features - 1) or features < 32:
        raise UserError(f"the Triton kernels need n_features to be a power of two, at least 32, not {features}")
    hidden = power_of_two(max(config.mlp_width, config.readout_width))
    gaussians = power_of_two(config.n_radial)
    width = 3 * features

    def rows(tensor: Tensor, length: int) -> Tensor:
        """``tensor`` with zero rows up to ``length``."""
        return pad(tensor, [0, 0] * (tensor.dim() - 1) + [0, length - tensor.shape[0]]).contiguous()

    with torch.no_grad():
        blocks = []
        for index, update in enumerate(network.updates):
            part = slice(index * width, (index + 1) * width)
            last = index == config.n_blocks - 1
            head_in = network.readout_in if last else network.messages[index + 1].phi_in
            head_out = network.readout_out if last else network.messages[index + 1].phi_out
            mlp_in, mlp_out = rows(update.mlp_in.weight, hidden), rows(update.mlp_out.weight.T, hidden)
            head_first, head_second = rows(head_in.weight, hidden), rows(head_out.weight.T, hidden)
            if last:
                head_second = head_second[:, 0].contiguous()
            blocks.append(
                BlockWeights(
                    filter_weight=rows(network.filters.weight[part].T, gaussians),
                    filter_bias=network.filters.bias[part].clone(),
                    mix=update.mix_uv.weight.T.contiguous(),
                    mix_back=update.mix_uv.weight.clone(),
                    mlp_in=mlp_in.T.contiguous(),
                    mlp_in_back=mlp_in,
                    mlp_in_bias=rows(update.mlp_in.bias, hidden),
                    mlp_out=mlp_out,
                    mlp_out_back=mlp_out.T.contiguous(),
                    mlp_out_bias=update.mlp_out.bias.clone(),
                    head_in=head_first.T.contiguous(),
                    head_in_back=head_first,
                    head_in_bias=rows(head_in.bias, hidden),
                    head_weight=head_second,
                    head_back=head_second.T.contiguous() if head_second.dim() == 2 else head_second,
                    head_bias=head_out.bias.clone(),
                )
            )
        embedding = network.embedding.weight.clone()
        phi = network.messages[0]
        constants = [config.cutoff, network.basis.exponent, torch.pi / config.cutoff]
        constants = torch.tensor(constants, dtype=torch.float64, device="cpu")
        return PackedStudent(
            features=features,
            hidden=hidden,
            gaussians=gaussians,
            norm_epsilon=config.norm_epsilon,
            wall=network.wall.clone(),
            radial=torch.cat([constants.to(network.basis.centers), rows(network.basis.centers, gaussians)]),
            embedding=embedding,
            first_phi=phi.phi_out(silu(phi.phi_in(embedding))),
            references=student.reference_energies.clone(),
            blocks=tuple(blocks),
        )
