"""The student's network as a function of its parameters, in a form that is cheap to differentiate twice.

It gives the same values as :class:`mlff_distiller.student.painn.PaiNN` up to rounding, with less work per edge, where
training spends most time:

- the cutoff f multiplies the radial basis and a column of ones for the bias, not the filters: (W g + b) f =
  [W b] [g f, f], so no product over [E, 3 F] is stored and differentiated;
- every block has its own filter product: the gradient of a slice of one wide product would be as wide as the product;
- vector features are zero before the first message, so the first message leaves out their term.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, silu

from mlff_distiller.student import wall
from mlff_distiller.student.painn import PaiNN
from mlff_distiller.student.radial import cosine_cutoff


def atomic_energies(
    network: PaiNN,
    parameters: Mapping[str, Tensor],
    numbers: Tensor,
    vectors: Tensor,
    receivers: Tensor,
    senders: Tensor,
) -> Tensor:
    """Atomic energies of ``network`` with ``parameters`` (by name); other arguments as in :meth:`PaiNN.forward`.

    Returns:
        [N] eV.
    """

    def apply(name: str, x: Tensor) -> Tensor:
        return linear(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"])

    features = network.n_features
    distances = torch.linalg.vector_norm(vectors, dim=-1)
    directions = (vectors / distances[:, None])[:, :, None]
    ends, strengths = wall.of_pairs(network.wall, numbers, receivers, senders, network.n_elements)
    seen = wall.seen_distances(distances, ends)
    envelope = cosine_cutoff(seen, network.cutoff)[:, None]
    basis = torch.cat([network.basis(seen) * envelope, envelope], dim=-1)
    filters = torch.cat([parameters["filters.weight"], parameters["filters.bias"][:, None]], dim=-1)
    s = embedding(numbers, parameters["embedding.weight"])
    v = s.new_zeros([s.shape[0], 3, features])
    for index, block in enumerate(filters.split(3 * features)):
        phi = apply(f"messages.{index}.phi_out", silu(apply(f"messages.{index}.phi_in", s)))
        if index == 0:
            ds, along = (phi[:, : 2 * features][senders] * linear(basis, block[: 2 * features])).chunk(2, dim=-1)
            dv = along[:, None, :] * directions
        else:
            ds, along, carry = (phi[senders] * linear(basis, block)).chunk(3, dim=-1)
            dv = along[:, None, :] * directions + carry[:, None, :] * v[senders]
        s, v = s.index_add(0, receivers, ds), v.index_add(0, receivers, dv)
        v_v, u_v = linear(v, parameters[f"updates.{index}.mix_uv.weight"]).chunk(2, dim=-1)
        norm = torch.sqrt((v_v * v_v).sum(dim=1) + network.updates[index].epsilon)
        mixed = apply(f"updates.{index}.mlp_in", torch.cat([s, norm], dim=-1))
        a_ss, a_vv, a_sv = apply(f"updates.{index}.mlp_out", silu(mixed)).chunk(3, dim=-1)
        s, v = s + a_ss + a_sv * (u_v * v_v).sum(dim=1), v + a_vv[:, None, :] * u_v
    atomic = apply("readout_out", silu(apply("readout_in", s))).squeeze(-1)
    return atomic.index_add(0, receivers, 0.5 * wall.repulsion(distances, ends, strengths))
