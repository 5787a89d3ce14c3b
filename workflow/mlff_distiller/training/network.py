"""The student's network as a function of its parameters, in a form that is cheap to differentiate twice.

It gives the same values as :class:`mlff_distiller.student.painn.PaiNN` up to rounding, with less work per edge, where
training spends most time:

- filters are of pairs, which both directions share, and messages one operation with derivatives of its own
  (:mod:`mlff_distiller.training.messages`);
- the cutoff f multiplies the radial basis and a column of ones for the bias, not the filters: (W g + b) f =
  [W b] [g f, f], so no product over [P, 3 F] is stored and differentiated;
- columns of zeros make the width of the basis a multiple of eight: tensor cores take no other;
- every block has its own filter product: the gradient of a slice of one wide product would be as wide as the product;
- vector features are zero before the first message, so the first message leaves out their term.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, pad, silu

from mlff_distiller.student import wall
from mlff_distiller.student.painn import PaiNN
from mlff_distiller.student.radial import cosine_cutoff
from mlff_distiller.training.messages import Graph, message

#: Multiples of so many columns are what tensor cores take.
ALIGNED = 8


def atomic_energies(
    network: PaiNN, parameters: Mapping[str, Tensor], numbers: Tensor, vectors: Tensor, graph: Graph
) -> Tensor:
    """Atomic energies of ``network`` with ``parameters`` (by name).

    Args:
        network: gives the sizes; its own parameters are not used.
        parameters: by name, used instead.
        numbers: [A] int64, atomic numbers.
        vectors: [P, 3] A, from the first to the second atom of each pair, with its periodic image.
        graph: the pairs.

    Returns:
        [A] eV.
    """

    def apply(name: str, x: Tensor) -> Tensor:
        return linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])

    features = network.n_features
    distances = torch.linalg.vector_norm(vectors, dim=-1)
    directions = vectors / distances[:, None]
    ends, strengths = wall.of_pairs(network.wall, numbers, graph.first, graph.second, network.n_elements)
    seen = wall.seen_distances(distances, ends)
    envelope = cosine_cutoff(seen, network.cutoff)[:, None]
    basis = torch.cat([network.basis(seen) * envelope, envelope], dim=-1)
    filters = torch.cat([parameters["filters.weight"], parameters["filters.bias"][:, None]], dim=-1)
    unused = -basis.shape[1] % ALIGNED
    basis, filters = pad(basis, [0, unused]), pad(filters, [0, unused])
    s = embedding(numbers, parameters["embedding.weight"])
    v = s.new_zeros([0, 3, features])
    for index, block in enumerate(filters.split(3 * features)):
        phi = apply(f"messages.{index}.phi_out", silu(apply(f"messages.{index}.phi_in", s)))
        if index == 0:
            phi, block = phi[:, : 2 * features], block[: 2 * features]
        ds, dv = message(phi, v, linear(basis, block), directions, *graph)
        s, v = s + ds, dv if index == 0 else v + dv
        v_v, u_v = linear(v, parameters[f"updates.{index}.mix_uv.weight"]).chunk(2, dim=-1)
        norm = torch.sqrt((v_v * v_v).sum(dim=1) + network.updates[index].epsilon)
        mixed = apply(f"updates.{index}.mlp_in", torch.cat([s, norm], dim=-1))
        a_ss, a_vv, a_sv = apply(f"updates.{index}.mlp_out", silu(mixed)).chunk(3, dim=-1)
        s, v = s + a_ss + a_sv * (u_v * v_v).sum(dim=1), v + a_vv[:, None, :] * u_v
    atomic = apply("readout_out", silu(apply("readout_in", s))).squeeze(-1)
    repulsion = 0.5 * wall.repulsion(distances, ends, strengths)
    return atomic.index_add(0, graph.first, repulsion).index_add(0, graph.second, repulsion)
