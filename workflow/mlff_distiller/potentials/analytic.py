"""Energy and forces in one pass of hand-derived equations, without autograd (derived in ANALYTIC_FORCES.md).

Plain PyTorch operations on any device, in any float dtype, with no branch that depends on data: TorchScript, Inductor
and CUDA graphs take it as it stands, and the fused kernels compute the same equations.
"""

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from mlff_distiller.potentials.checks import undisturbed
from mlff_distiller.potentials.edgewise import EdgeGradient, EdgewisePotential
from mlff_distiller.student import wall
from mlff_distiller.student.painn import StudentForceField


class AnalyticWeights(NamedTuple):
    """The student's weights, one tensor per role and stacked over blocks, with constants folded in.

    F features, H width of the MLPs, R of the readout, B blocks, K Gaussians, Z elements. Matrices are [out, in], as in
    ``torch.nn.Linear``. The first block's message needs no network at run time: it sees embeddings only, so
    ``first_message`` holds phi(embedding) of every element; and no carry term, since v = 0 before it.
    """

    cutoff: float
    exponent: float  # of the Gaussians, 1/A^2 (negative)
    norm_epsilon: float  # under the square root of |V v|
    centers: Tensor  # [K], A
    wall: Tensor  # [Z * Z, 2]: where each pair's wall begins, A, and its strength, eV (student/wall.py)
    filters: Tensor  # [B, 3F, K]
    filters_bias: Tensor  # [B, 3F]
    embedding: Tensor  # [Z, F]
    first_message: Tensor  # [Z, 2F]: the parts ds and a of phi(embedding)
    phi_in: Tensor  # [B - 1, H, F], of the blocks after the first
    phi_in_bias: Tensor  # [B - 1, H]
    phi_out: Tensor  # [B - 1, 3F, H]
    phi_out_bias: Tensor  # [B - 1, 3F]
    mix_uv: Tensor  # [B, 2F, F]: V above U
    mlp_in: Tensor  # [B, H, 2F]
    mlp_in_bias: Tensor  # [B, H]
    mlp_out: Tensor  # [B, 3F, H]: a_ss, a_vv, a_sv
    mlp_out_bias: Tensor  # [B, 3F]
    readout_in: Tensor  # [R, F]
    readout_in_bias: Tensor  # [R]
    readout_out: Tensor  # [R]
    readout_out_bias: Tensor  # [1]
    reference_energies: Tensor  # [Z], eV, float64


def analytic_weights(student: StudentForceField) -> AnalyticWeights:
    """Copies of the student's weights (later changes of the student do not show), in its dtype and on its device."""
    network = student.network
    features = network.n_features
    blocks = len(network.messages)

    def stack(tensors: list[Tensor], *shape: int) -> Tensor:
        return torch.stack(tensors) if tensors else network.embedding.weight.new_zeros([0, *shape])

    width = network.messages[0].phi_in.out_features
    later = list(network.messages)[1:]
    updates = list(network.updates)
    with undisturbed(student.device), torch.no_grad():
        first = network.messages[0]
        message = first.phi_out(torch.nn.functional.silu(first.phi_in(network.embedding.weight)))
        weights = AnalyticWeights(
            cutoff=float(network.cutoff),
            exponent=float(network.basis.exponent),
            norm_epsilon=student.config.norm_epsilon,
            centers=network.basis.centers,
            wall=network.wall,
            filters=network.filters.weight.reshape(blocks, 3 * features, -1),
            filters_bias=network.filters.bias.reshape(blocks, 3 * features),
            embedding=network.embedding.weight,
            first_message=message[:, : 2 * features],
            phi_in=stack([m.phi_in.weight for m in later], width, features),
            phi_in_bias=stack([m.phi_in.bias for m in later], width),
            phi_out=stack([m.phi_out.weight for m in later], 3 * features, width),
            phi_out_bias=stack([m.phi_out.bias for m in later], 3 * features),
            mix_uv=stack([u.mix_uv.weight for u in updates]),
            mlp_in=stack([u.mlp_in.weight for u in updates]),
            mlp_in_bias=stack([u.mlp_in.bias for u in updates]),
            mlp_out=stack([u.mlp_out.weight for u in updates]),
            mlp_out_bias=stack([u.mlp_out.bias for u in updates]),
            readout_in=network.readout_in.weight,
            readout_in_bias=network.readout_in.bias,
            readout_out=network.readout_out.weight.reshape(-1),
            readout_out_bias=network.readout_out.bias,
            reference_energies=student.reference_energies,
        )
        return AnalyticWeights(*[w.detach().clone() if isinstance(w, Tensor) else w for w in weights])


def silu_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    """silu(x) and its derivative, elementwise."""
    gate = torch.sigmoid(x)
    value = x * gate
    return value, gate + value * (1.0 - gate)


def filters_and_slopes(w: AnalyticWeights, distances: Tensor) -> tuple[Tensor, Tensor]:
    """The filters of all blocks and their derivatives by the distance: [E] A -> [B, E, 3F] and [B, E, 3F] 1/A.

    Both are exactly 0 at and beyond the cutoff, so an edge longer than that may stand in for no edge at all.
    """
    offsets = distances[:, None] - w.centers
    gaussians = torch.exp(w.exponent * offsets * offsets)
    gaussian_slopes = 2.0 * w.exponent * offsets * gaussians
    inside = (distances < w.cutoff).to(distances.dtype)
    angle = distances * (math.pi / w.cutoff)
    envelope = (0.5 * (torch.cos(angle) + 1.0) * inside)[:, None]
    envelope_slope = (-0.5 * math.pi / w.cutoff * torch.sin(angle) * inside)[:, None]
    blocks, width = w.filters_bias.shape
    # One product gives the values and the slopes of every block.
    stacked = torch.cat([gaussians * envelope, gaussian_slopes * envelope + gaussians * envelope_slope])
    linear = torch.matmul(stacked, w.filters.reshape(blocks * width, -1).t())
    bias = torch.cat([envelope, envelope_slope]) * w.filters_bias.reshape(-1)
    both = (linear + bias).reshape(2, distances.shape[0], blocks, width).permute(0, 2, 1, 3)
    return both[0], both[1]


def _sum_over_edges(values: Tensor, atoms: Tensor, n_atoms: int) -> Tensor:
    """Sums [N, ...] of the edges' values [E, ...] by atom."""
    total = torch.zeros([n_atoms, values.shape[1]], dtype=values.dtype, device=values.device)
    return total.index_add(0, atoms, values)


def edge_gradient_of_graph(
    w: AnalyticWeights, numbers: Tensor, vectors: Tensor, receivers: Tensor, senders: Tensor
) -> tuple[Tensor, Tensor]:
    """Atomic energies and the gradient of their sum by the edge vectors.

    Args:
        w: from :func:`analytic_weights`.
        numbers: [N] int64, atomic numbers.
        vectors: [E, 3] A, r_j - r_i of each edge, image included; not of zero length. Edges at or beyond the cutoff
            contribute exactly nothing: padding may point at any atom and be of any such length.
        receivers: [E] int64, i. Any order.
        senders: [E] int64, j.

    Returns:
        Atomic energies [N] eV without reference energies, and dE/dvectors [E, 3] eV/A, both in the student's dtype.
    """
    n_atoms = numbers.shape[0]
    n_edges = vectors.shape[0]
    features = w.embedding.shape[1]
    blocks = w.mix_uv.shape[0]
    distances = torch.sqrt((vectors * vectors).sum(dim=1))
    directions = vectors / distances[:, None]
    ends, strengths = wall.of_pairs(w.wall, numbers, receivers, senders, w.embedding.shape[0])
    filters, slopes = filters_and_slopes(w, wall.seen_distances(distances, ends))
    u = directions[:, :, None]

    # Forward. What the reverse pass needs is saved, one entry per block.
    messages: list[Tensor] = []  # x_j of each edge [E, 3F] ([E, 2F] in the first block)
    sent_vectors: list[Tensor] = []  # v_j of each edge [E, 3, F]
    phi_slopes: list[Tensor] = []  # [N, H]
    mixed: list[Tensor] = []  # V v and U v [N, 3, 2F]
    norms: list[Tensor] = []  # [N, F]
    mlp_slopes: list[Tensor] = []  # [N, H]
    gates: list[Tensor] = []  # a_ss, a_vv, a_sv [N, 3F]
    s = w.embedding[numbers]
    v = torch.zeros([n_atoms, 3, features], dtype=s.dtype, device=s.device)
    for block in range(blocks):
        if block == 0:
            x_j = w.first_message[numbers][senders]
            v_j = v[:0]
            weighted = x_j * filters[0][:, : 2 * features]
            dv = weighted[:, None, features:] * u
            slope = v[:0, 0]
        else:
            hidden, slope = silu_and_slope(torch.nn.functional.linear(s, w.phi_in[block - 1], w.phi_in_bias[block - 1]))
            x_j = torch.nn.functional.linear(hidden, w.phi_out[block - 1], w.phi_out_bias[block - 1])[senders]
            v_j = v[senders]
            weighted = x_j * filters[block]
            dv = weighted[:, None, features : 2 * features] * u + weighted[:, None, 2 * features :] * v_j
        messages.append(x_j)
        sent_vectors.append(v_j)
        phi_slopes.append(slope)
        s = s + _sum_over_edges(weighted[:, :features], receivers, n_atoms)
        v = v + _sum_over_edges(dv.reshape(n_edges, 3 * features), receivers, n_atoms).reshape(n_atoms, 3, features)
        uv = torch.matmul(v, w.mix_uv[block].t())
        v_v, u_v = uv[:, :, :features], uv[:, :, features:]
        norm = torch.sqrt((v_v * v_v).sum(dim=1) + w.norm_epsilon)
        hidden, slope = silu_and_slope(
            torch.nn.functional.linear(torch.cat([s, norm], dim=1), w.mlp_in[block], w.mlp_in_bias[block])
        )
        gate = torch.nn.functional.linear(hidden, w.mlp_out[block], w.mlp_out_bias[block])
        mixed.append(uv)
        norms.append(norm)
        mlp_slopes.append(slope)
        gates.append(gate)
        s = s + gate[:, :features] + gate[:, 2 * features :] * (u_v * v_v).sum(dim=1)
        v = v + gate[:, None, features : 2 * features] * u_v
    hidden, slope = silu_and_slope(torch.nn.functional.linear(s, w.readout_in, w.readout_in_bias))
    atomic = torch.matmul(hidden, w.readout_out) + w.readout_out_bias
    # Each pair is two edges, and gives half to each of its atoms.
    atomic = atomic.index_add(0, receivers, 0.5 * wall.repulsion(distances, ends, strengths))

    # Reverse. gs [N, F] and gv [N, 3, F] are dE/ds and dE/dv; radial [E] is dE/d(seen distance), angular [E, 3] is
    # dE/d(direction).
    gs = torch.matmul(slope * w.readout_out, w.readout_in)
    gv = torch.zeros([n_atoms, 3, features], dtype=gs.dtype, device=gs.device)
    radial = torch.zeros([n_edges], dtype=gs.dtype, device=gs.device)
    angular = torch.zeros([n_edges, 3], dtype=gs.dtype, device=gs.device)
    for back in range(blocks):
        block = blocks - 1 - back
        # Update block.
        uv, gate = mixed[block], gates[block]
        v_v, u_v = uv[:, :, :features], uv[:, :, features:]
        a_vv = gate[:, None, features : 2 * features]
        g_dot = (gs * gate[:, 2 * features :])[:, None, :]
        g_gate = torch.cat([gs, (gv * u_v).sum(dim=1), gs * (u_v * v_v).sum(dim=1)], dim=1)
        g_in = torch.matmul(torch.matmul(g_gate, w.mlp_out[block]) * mlp_slopes[block], w.mlp_in[block])
        g_norm = (g_in[:, features:] / norms[block])[:, None, :]
        g_uv = torch.cat([g_dot * u_v + g_norm * v_v, a_vv * gv + g_dot * v_v], dim=2)
        gs = gs + g_in[:, :features]
        gv = gv + torch.matmul(g_uv, w.mix_uv[block])
        # Message block.
        x_j, value, slope_d = messages[block], filters[block], slopes[block]
        gs_i, gv_i = gs[receivers], gv[receivers]
        g_along = (gv_i * u).sum(dim=1)
        g_edge = [gs_i, g_along]
        angular = (
            angular + torch.matmul(gv_i, (x_j * value[:, : x_j.shape[1]])[:, features : 2 * features, None])[:, :, 0]
        )
        if block == 0:
            g_weighted = torch.cat(g_edge, dim=1)
            radial = radial + (g_weighted * x_j * slope_d[:, : 2 * features]).sum(dim=1)
        else:
            g_edge.append((gv_i * sent_vectors[block]).sum(dim=1))
            g_weighted = torch.cat(g_edge, dim=1)
            radial = radial + (g_weighted * x_j * slope_d).sum(dim=1)
            carry = (x_j * value)[:, None, 2 * features :]
            gv = gv + _sum_over_edges((carry * gv_i).reshape(n_edges, 3 * features), senders, n_atoms).reshape(
                n_atoms, 3, features
            )
            g_x = _sum_over_edges(g_weighted * value, senders, n_atoms)
            gs = gs + torch.matmul(torch.matmul(g_x, w.phi_out[block - 1]) * phi_slopes[block], w.phi_in[block - 1])
    # d(direction)/d(vector) is the projection across the direction, over the distance.
    radial = radial * wall.seen_slopes(distances, ends) + 0.5 * wall.repulsion_slopes(distances, ends, strengths)
    across = angular - (angular * directions).sum(dim=1, keepdim=True) * directions
    return atomic, radial[:, None] * directions + across / distances[:, None]


def energy_forces_of_graph(
    w: AnalyticWeights,
    numbers: Tensor,
    vectors: Tensor,
    receivers: Tensor,
    senders: Tensor,
    batch: Tensor,
    n_systems: int,
) -> tuple[Tensor, Tensor]:
    """Energies [B] eV (float64, reference energies included) and forces [N, 3] eV/A, as one function to capture.

    ``batch`` [N] int64 is the system of each atom, ``n_systems`` is B; the rest as in :func:`edge_gradient_of_graph`.
    """
    atomic, gradient = edge_gradient_of_graph(w, numbers, vectors, receivers, senders)
    exact = atomic.to(torch.float64) + w.reference_energies[numbers]
    energies = torch.zeros([n_systems], dtype=torch.float64, device=exact.device).index_add(0, batch, exact)
    # With r = x_j - x_i, the receiver i is pulled along the gradient and the sender j against it.
    forces = torch.zeros([numbers.shape[0], 3], dtype=gradient.dtype, device=gradient.device)
    return energies, forces.index_add(0, receivers, gradient).index_add(0, senders, -gradient)


def analytic_edge_gradient(student: StudentForceField) -> EdgeGradient:
    """:func:`edge_gradient_of_graph` bound to a copy of the student's weights; it can be pickled."""
    return partial(edge_gradient_of_graph, analytic_weights(student))


class AnalyticPotential(EdgewisePotential):
    """A student's energies, forces and stresses by :func:`edge_gradient_of_graph`, as it stands or compiled.

    Args:
        student: fixes device, dtype and neighbor search.
        edge_gradient: a compiled form of :func:`analytic_edge_gradient` of this student.
    """

    def __init__(self, student: StudentForceField, edge_gradient: EdgeGradient | None = None):
        super().__init__(student, analytic_edge_gradient(student) if edge_gradient is None else edge_gradient)
