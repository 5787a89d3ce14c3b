"""The messages of a block as one operation with both derivatives, over pairs of atoms instead of directed edges.

A filter depends on the distance alone, so both atoms of a pair share it: W is [P, 3 F] of P pairs. With p = phi(s), u the unit
vector from the first atom of a pair to the second, and i, j either of the two with the sign of u that leads from i to j:

    ds_i = sum_j p_j^s W^s,   dv_i = sum_j p_j^a W^a u + p_j^c W^c v_j.

A training needs the derivative of this, for the forces, and the derivative of that, for the gradient of a loss on forces. Written
out and given to PyTorch as operations of their own, they keep no intermediate of the size of the edges; on a GPU
:mod:`mlff_distiller.training.messages_triton` sums each atom's neighbors in one program, without atomic additions.
"""

import functools
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

LIBRARY = torch.library.Library("mlff_distiller", "FRAGMENT")


class Graph(NamedTuple):
    """P pairs of A atoms, and the same pairs sorted by atom; pairs beyond those are padding with filters that are zero."""

    first: Tensor  # [P] int64
    second: Tensor  # [P] int64
    starts: Tensor  # [A + 1] int64, the neighbors of atom a are starts[a] to starts[a + 1] of the two below
    others: Tensor  # [2 P] int32, the neighbor
    codes: Tensor  # [2 P] int32, twice the pair, and one more where the atom is the pair's second


def operation(function: Callable) -> Callable:
    """``function`` as an operation of PyTorch: on a GPU, with Triton, the function of this name in ``messages_triton``.

    Not ``torch.library.custom_op``: its first call imports the compiler, which takes seconds.
    """
    name = function.__name__
    LIBRARY.define(name + torch.library.infer_schema(function, mutates_args=()))
    LIBRARY.impl(name, function, "CPU")

    @functools.wraps(function)
    def on_gpu(*given: Tensor):
        from mlff_distiller.training import messages_triton

        # Kernels take the pairs sorted by atom alone.
        return getattr(messages_triton, name)(*given[:-5], *given[-3:])

    LIBRARY.impl(name, on_gpu if find_spec("triton") else function, "CUDA")
    operator = getattr(torch.ops.mlff_distiller, name).default

    @functools.wraps(function)
    def call(*given: Tensor):
        return operator(*given)

    return call


@operation
def message(
    phi: Tensor,
    v: Tensor,
    filters: Tensor,
    directions: Tensor,
    first: Tensor,
    second: Tensor,
    starts: Tensor,
    others: Tensor,
    codes: Tensor,
) -> tuple[Tensor, Tensor]:
    """What the neighbors of each atom add to its features.

    Args:
        phi: [A, 3 F]; [A, 2 F] where there are no vector features yet.
        v: [A, 3, F]; [0, 3, F] where there are none yet.
        filters: [P, 3 F] or [P, 2 F], times the cutoff.
        directions: [P, 3], from the first to the second atom of each pair.
        first, second, starts, others, codes: see :class:`Graph`.

    Returns:
        ds [A, F], dv [A, 3, F].
    """
    ds, dv = phi.new_zeros(len(phi), v.shape[-1]), phi.new_zeros(len(phi), 3, v.shape[-1])
    for edges in _both(phi, v, filters, directions, first, second):
        s_weight, along, carry = edges.parts(edges.phi * edges.filters)
        ds.index_add_(0, edges.receivers, s_weight)
        dv.index_add_(0, edges.receivers, edges.vectors(along, edges.directions, carry, edges.v))
    return ds, dv


@operation
def message_gradient(
    from_s: Tensor,
    from_v: Tensor,
    phi: Tensor,
    v: Tensor,
    filters: Tensor,
    directions: Tensor,
    first: Tensor,
    second: Tensor,
    starts: Tensor,
    others: Tensor,
    codes: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The derivatives of a scalar by phi, v, filters and directions, from those by ds [A, F] and dv [A, 3, F].

    Other arguments as of :func:`message`.
    """
    by_phi, by_v = torch.zeros_like(phi), torch.zeros_like(v)
    by_filters, by_directions = torch.zeros_like(filters), torch.zeros_like(directions)
    for edges in _both(phi, v, filters, directions, first, second):
        s_given, v_given = from_s.index_select(0, edges.receivers), from_v.index_select(0, edges.receivers)
        factors = edges.factors(s_given, v_given, edges.directions, edges.v)
        _, along, carry = edges.parts(edges.phi * edges.filters)
        by_filters.addcmul_(factors, edges.phi)
        by_directions.add_(_over_features(v_given, along), alpha=edges.sign)
        by_phi.index_add_(0, edges.senders, factors.mul_(edges.filters))
        if carry is not None:
            by_v.index_add_(0, edges.senders, v_given.mul_(carry[:, None]))
    return by_phi, by_v, by_filters, by_directions


@operation
def message_second_gradient(
    to_phi: Tensor,
    to_v: Tensor,
    to_filters: Tensor,
    to_directions: Tensor,
    from_s: Tensor,
    from_v: Tensor,
    phi: Tensor,
    v: Tensor,
    filters: Tensor,
    directions: Tensor,
    first: Tensor,
    second: Tensor,
    starts: Tensor,
    others: Tensor,
    codes: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The derivatives of a scalar by the first six arguments of :func:`message_gradient`, from those by its four results.

    Args:
        to_phi, to_v, to_filters, to_directions: derivatives by the results, with their shapes.
        from_s, from_v, phi, v, filters, directions, first, second, starts, others, codes: as of :func:`message_gradient`.
    """
    results = [torch.zeros_like(x) for x in (from_s, from_v, phi, v, filters, directions)]
    by_s, by_from_v, by_phi, by_v, by_filters, by_directions = results
    both = zip(
        _both(phi, v, filters, directions, first, second),
        _both(to_phi, to_v, to_filters, to_directions, first, second),
        strict=True,
    )
    for edges, to in both:
        s_given, v_given = from_s.index_select(0, edges.receivers), from_v.index_select(0, edges.receivers)
        _, along, carry = edges.parts(edges.phi * edges.filters)
        s_change, along_change, carry_change = edges.parts((to.phi * edges.filters).addcmul_(edges.phi, to.filters))
        for_v = edges.vectors(along_change, edges.directions, carry_change, edges.v)
        edges.vectors(along, to.directions, carry, to.v, add_to=for_v)
        factors = edges.factors(s_given, v_given, edges.directions, edges.v)
        to_factors = edges.factors(None, v_given, to.directions, to.v)
        by_s.index_add_(0, edges.receivers, s_change)
        by_from_v.index_add_(0, edges.receivers, for_v)
        by_filters.addcmul_(factors, to.phi).addcmul_(to_factors, edges.phi)
        by_directions.add_(_over_features(v_given, along_change), alpha=edges.sign)
        by_phi.index_add_(0, edges.senders, factors.mul_(to.filters).addcmul_(to_factors, edges.filters))
        if carry_change is not None:
            by_v.index_add_(0, edges.senders, v_given.mul_(carry_change[:, None]))
    return by_s, by_from_v, by_phi, by_v, by_filters, by_directions


class _Edges:
    """All pairs in one direction: what the senders are, [P, ...], and the steps of the sums above."""

    def __init__(
        self, phi: Tensor, v: Tensor, filters: Tensor, directions: Tensor, ends: tuple[Tensor, Tensor], sign: float
    ):
        self.receivers, self.senders = ends
        self.sign, self.features, self.carries = sign, v.shape[-1], len(v) > 0
        self.phi, self.filters, self.directions = phi.index_select(0, self.senders), filters, sign * directions
        self.v = v.index_select(0, self.senders) if self.carries else v

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """[P, 3 F] as three [P, F], the last None where no vector features are carried."""
        some = x.unflatten(1, [-1, self.features]).unbind(1)
        return some[0], some[1], some[2] if self.carries else None

    def vectors(
        self, along: Tensor, directions: Tensor, carry: Tensor | None, v: Tensor, add_to: Tensor | None = None
    ) -> Tensor:
        """What is sent to vector features, [P, 3, F], added in place to what is there."""
        sent = along[:, None] * directions[:, :, None] if add_to is None else add_to
        if add_to is not None:
            sent.addcmul_(along[:, None], directions[:, :, None])
        return sent if carry is None else sent.addcmul_(carry[:, None], v)

    def factors(self, s_given: Tensor | None, v_given: Tensor, directions: Tensor, v: Tensor) -> Tensor:
        """What the products of phi and filters are multiplied by, [P, 3 F]; without what goes to scalars zero there."""
        factors = v_given.new_empty(len(v_given), 3 if self.carries else 2, self.features)
        factors[:, 0] = 0.0 if s_given is None else s_given
        torch.mul(v_given[:, 0], directions[:, :1], out=factors[:, 1])
        for axis in (1, 2):
            factors[:, 1].addcmul_(v_given[:, axis], directions[:, axis, None])
        if self.carries:
            torch.sum(v_given * v, dim=1, out=factors[:, 2])
        return factors.flatten(1)


def _both(
    phi: Tensor, v: Tensor, filters: Tensor, directions: Tensor, first: Tensor, second: Tensor
) -> Iterator[_Edges]:
    yield _Edges(phi, v, filters, directions, (first, second), 1.0)
    yield _Edges(phi, v, filters, directions, (second, first), -1.0)


def _over_features(vectors: Tensor, weights: Tensor) -> Tensor:
    """[P, 3] of vectors [P, 3, F] and weights [P, F]."""
    return (vectors * weights[:, None]).sum(dim=-1)


@torch.library.register_fake("mlff_distiller::message", lib=LIBRARY)
def _(phi, v, filters, directions, first, second, starts, others, codes):
    return phi.new_empty(phi.shape[0], v.shape[2]), phi.new_empty(phi.shape[0], 3, v.shape[2])


@torch.library.register_fake("mlff_distiller::message_gradient", lib=LIBRARY)
def _(from_s, from_v, phi, v, filters, directions, first, second, starts, others, codes):
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (phi, v, filters, directions))


@torch.library.register_fake("mlff_distiller::message_second_gradient", lib=LIBRARY)
def _(to_phi, to_v, to_filters, to_directions, from_s, from_v, phi, v, filters, directions, *graph):
    given = (from_s, from_v, phi, v, filters, directions)
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in given)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _message_backward(ctx, from_s, from_v):
    return (*message_gradient(from_s, from_v, *ctx.saved_tensors), *[None] * 5)


def _message_gradient_backward(ctx, *to):
    return (*message_second_gradient(*to, *ctx.saved_tensors), *[None] * 5)


torch.library.register_autograd("mlff_distiller::message", _message_backward, setup_context=_keep, lib=LIBRARY)
torch.library.register_autograd(
    "mlff_distiller::message_gradient", _message_gradient_backward, setup_context=_keep, lib=LIBRARY
)
