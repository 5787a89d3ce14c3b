"""The operations of :mod:`mlff_distiller.training.messages` on a GPU: one program for each atom sums over its neighbors.

Both atoms of a pair visit it; what belongs to the pair (filters, directions) is written by its first atom. Programs beyond the
atoms set what belongs to padding to zero.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Pairs of padding that one program sets to zero.
ZEROED = 16
#: Warps of a program: what was fastest on an H200 with 128 features (4,128 atoms, 28,352 pairs).
WARPS = {"message": 2, "gradient": 4, "second": 2}


@triton.jit
def _load3(vectors, atom, column, inside, F: tl.constexpr):
    """Row ``atom`` of [A, 3, F] as three vectors of features."""
    at = vectors + atom * (3 * F) + column
    return (
        tl.load(at, mask=inside, other=0.0),
        tl.load(at + F, mask=inside, other=0.0),
        tl.load(at + 2 * F, mask=inside, other=0.0),
    )


@triton.jit
def _direction(directions, pair, sign):
    at = directions + pair * 3
    return sign * tl.load(at), sign * tl.load(at + 1), sign * tl.load(at + 2)


@triton.jit
def _zero_padding(
    filters, directions, starts, program, n_atoms, n_pairs, W: tl.constexpr, WB: tl.constexpr, ZEROED: tl.constexpr
):
    """Sets rows of filters [P, W] and directions [P, 3] that no atom visits to zero."""
    column = tl.arange(0, WB)
    axis = tl.arange(0, 4)
    real = tl.load(starts + n_atoms) // 2
    first = program * ZEROED
    for pair in range(first, first + ZEROED):
        unused = (pair >= real) & (pair < n_pairs)
        tl.store(
            filters + pair * W + column, tl.zeros([WB], dtype=filters.dtype.element_ty), mask=unused & (column < W)
        )
        tl.store(
            directions + pair * 3 + axis, tl.zeros([4], dtype=directions.dtype.element_ty), mask=unused & (axis < 3)
        )


@triton.jit
def _message(
    phi,
    v,
    filters,
    directions,
    starts,
    others,
    codes,
    ds,
    dv,
    F: tl.constexpr,
    FB: tl.constexpr,
    CARRIES: tl.constexpr,
):
    K: tl.constexpr = 3 if CARRIES else 2
    a = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, FB)
    inside = column < F
    s = tl.zeros([FB], dtype=ds.dtype.element_ty)
    x = tl.zeros_like(s)
    y = tl.zeros_like(s)
    z = tl.zeros_like(s)
    for slot in range(tl.load(starts + a), tl.load(starts + a + 1)):
        b = tl.load(others + slot).to(tl.int64)
        code = tl.load(codes + slot)
        pair = (code // 2).to(tl.int64)
        ux, uy, uz = _direction(directions, pair, 1 - 2 * (code % 2))
        p = phi + b * (K * F) + column
        w = filters + pair * (K * F) + column
        s += tl.load(p, mask=inside, other=0.0) * tl.load(w, mask=inside, other=0.0)
        along = tl.load(p + F, mask=inside, other=0.0) * tl.load(w + F, mask=inside, other=0.0)
        x += along * ux
        y += along * uy
        z += along * uz
        if CARRIES:
            carry = tl.load(p + 2 * F, mask=inside, other=0.0) * tl.load(w + 2 * F, mask=inside, other=0.0)
            vx, vy, vz = _load3(v, b, column, inside, F)
            x += carry * vx
            y += carry * vy
            z += carry * vz
    tl.store(ds + a * F + column, s, mask=inside)
    at = dv + a * (3 * F) + column
    tl.store(at, x, mask=inside)
    tl.store(at + F, y, mask=inside)
    tl.store(at + 2 * F, z, mask=inside)


@triton.jit
def _gradient(
    from_s,
    from_v,
    phi,
    v,
    filters,
    directions,
    starts,
    others,
    codes,
    by_phi,
    by_v,
    by_filters,
    by_directions,
    n_atoms,
    n_pairs,
    F: tl.constexpr,
    FB: tl.constexpr,
    WB: tl.constexpr,
    CARRIES: tl.constexpr,
    ZEROED: tl.constexpr,
):
    K: tl.constexpr = 3 if CARRIES else 2
    a = tl.program_id(0).to(tl.int64)
    if a >= n_atoms:
        _zero_padding(by_filters, by_directions, starts, a - n_atoms, n_atoms, n_pairs, K * F, WB, ZEROED)
    else:
        column = tl.arange(0, FB)
        inside = column < F
        # What this atom is as a receiver and as a sender.
        gs = tl.load(from_s + a * F + column, mask=inside, other=0.0)
        gx, gy, gz = _load3(from_v, a, column, inside, F)
        own = phi + a * (K * F) + column
        p_s = tl.load(own, mask=inside, other=0.0)
        p_a = tl.load(own + F, mask=inside, other=0.0)
        out_s = tl.zeros_like(gs)
        out_a = tl.zeros_like(gs)
        if CARRIES:
            p_c = tl.load(own + 2 * F, mask=inside, other=0.0)
            vx, vy, vz = _load3(v, a, column, inside, F)
            out_c = tl.zeros_like(gs)
            x = tl.zeros_like(gs)
            y = tl.zeros_like(gs)
            z = tl.zeros_like(gs)
        for slot in range(tl.load(starts + a), tl.load(starts + a + 1)):
            b = tl.load(others + slot).to(tl.int64)
            code = tl.load(codes + slot)
            pair = (code // 2).to(tl.int64)
            ux, uy, uz = _direction(directions, pair, 1 - 2 * (code % 2))
            w = filters + pair * (K * F) + column
            w_s = tl.load(w, mask=inside, other=0.0)
            w_a = tl.load(w + F, mask=inside, other=0.0)
            # From this atom to the other: the direction is the opposite one.
            hs = tl.load(from_s + b * F + column, mask=inside, other=0.0)
            hx, hy, hz = _load3(from_v, b, column, inside, F)
            along = -(hx * ux + hy * uy + hz * uz)
            out_s += hs * w_s
            out_a += along * w_a
            if CARRIES:
                w_c = tl.load(w + 2 * F, mask=inside, other=0.0)
                carry = hx * vx + hy * vy + hz * vz
                out_c += carry * w_c
                weight = p_c * w_c
                x += weight * hx
                y += weight * hy
                z += weight * hz
            if code % 2 == 0:
                q = phi + b * (K * F) + column
                q_s = tl.load(q, mask=inside, other=0.0)
                q_a = tl.load(q + F, mask=inside, other=0.0)
                at = by_filters + pair * (K * F) + column
                tl.store(at, hs * p_s + gs * q_s, mask=inside)
                tl.store(at + F, along * p_a + (gx * ux + gy * uy + gz * uz) * q_a, mask=inside)
                if CARRIES:
                    q_c = tl.load(q + 2 * F, mask=inside, other=0.0)
                    rx, ry, rz = _load3(v, b, column, inside, F)
                    tl.store(at + 2 * F, carry * p_c + (gx * rx + gy * ry + gz * rz) * q_c, mask=inside)
                there = by_directions + pair * 3
                tl.store(there, tl.sum(w_a * (gx * q_a - hx * p_a), axis=0))
                tl.store(there + 1, tl.sum(w_a * (gy * q_a - hy * p_a), axis=0))
                tl.store(there + 2, tl.sum(w_a * (gz * q_a - hz * p_a), axis=0))
        at = by_phi + a * (K * F) + column
        tl.store(at, out_s, mask=inside)
        tl.store(at + F, out_a, mask=inside)
        if CARRIES:
            tl.store(at + 2 * F, out_c, mask=inside)
            at = by_v + a * (3 * F) + column
            tl.store(at, x, mask=inside)
            tl.store(at + F, y, mask=inside)
            tl.store(at + 2 * F, z, mask=inside)


@triton.jit
def _second(
    to_phi,
    to_v,
    to_filters,
    to_directions,
    from_s,
    from_v,
    phi,
    v,
    filters,
    directions,
    starts,
    others,
    codes,
    by_s,
    by_from_v,
    by_phi,
    by_v,
    by_filters,
    by_directions,
    n_atoms,
    n_pairs,
    F: tl.constexpr,
    FB: tl.constexpr,
    WB: tl.constexpr,
    CARRIES: tl.constexpr,
    ZEROED: tl.constexpr,
):
    K: tl.constexpr = 3 if CARRIES else 2
    a = tl.program_id(0).to(tl.int64)
    if a >= n_atoms:
        _zero_padding(by_filters, by_directions, starts, a - n_atoms, n_atoms, n_pairs, K * F, WB, ZEROED)
    else:
        column = tl.arange(0, FB)
        inside = column < F
        gs = tl.load(from_s + a * F + column, mask=inside, other=0.0)
        gx, gy, gz = _load3(from_v, a, column, inside, F)
        own = a * (K * F) + column
        p_a = tl.load(phi + own + F, mask=inside, other=0.0)
        tp_s = tl.load(to_phi + own, mask=inside, other=0.0)
        tp_a = tl.load(to_phi + own + F, mask=inside, other=0.0)
        for_s = tl.zeros_like(gs)
        for_x = tl.zeros_like(gs)
        for_y = tl.zeros_like(gs)
        for_z = tl.zeros_like(gs)
        out_s = tl.zeros_like(gs)
        out_a = tl.zeros_like(gs)
        if CARRIES:
            p_c = tl.load(phi + own + 2 * F, mask=inside, other=0.0)
            tp_c = tl.load(to_phi + own + 2 * F, mask=inside, other=0.0)
            vx, vy, vz = _load3(v, a, column, inside, F)
            tx, ty, tz = _load3(to_v, a, column, inside, F)
            out_c = tl.zeros_like(gs)
            x = tl.zeros_like(gs)
            y = tl.zeros_like(gs)
            z = tl.zeros_like(gs)
        for slot in range(tl.load(starts + a), tl.load(starts + a + 1)):
            b = tl.load(others + slot).to(tl.int64)
            code = tl.load(codes + slot)
            pair = (code // 2).to(tl.int64)
            sign = 1 - 2 * (code % 2)
            ux, uy, uz = _direction(directions, pair, sign)
            dx, dy, dz = _direction(to_directions, pair, sign)
            w = pair * (K * F) + column
            w_s = tl.load(filters + w, mask=inside, other=0.0)
            w_a = tl.load(filters + w + F, mask=inside, other=0.0)
            tw_s = tl.load(to_filters + w, mask=inside, other=0.0)
            tw_a = tl.load(to_filters + w + F, mask=inside, other=0.0)
            q = b * (K * F) + column
            q_s = tl.load(phi + q, mask=inside, other=0.0)
            q_a = tl.load(phi + q + F, mask=inside, other=0.0)
            tq_s = tl.load(to_phi + q, mask=inside, other=0.0)
            tq_a = tl.load(to_phi + q + F, mask=inside, other=0.0)
            # From the other atom to this one.
            for_s += w_s * tq_s + tw_s * q_s
            change = w_a * tq_a + tw_a * q_a
            weight = w_a * q_a
            for_x += change * ux + weight * dx
            for_y += change * uy + weight * dy
            for_z += change * uz + weight * dz
            # From this atom to the other: the direction is the opposite one.
            hs = tl.load(from_s + b * F + column, mask=inside, other=0.0)
            hx, hy, hz = _load3(from_v, b, column, inside, F)
            along = -(hx * ux + hy * uy + hz * uz)
            to_along = -(hx * dx + hy * dy + hz * dz)
            out_s += hs * tw_s
            out_a += along * tw_a + to_along * w_a
            if CARRIES:
                w_c = tl.load(filters + w + 2 * F, mask=inside, other=0.0)
                tw_c = tl.load(to_filters + w + 2 * F, mask=inside, other=0.0)
                q_c = tl.load(phi + q + 2 * F, mask=inside, other=0.0)
                tq_c = tl.load(to_phi + q + 2 * F, mask=inside, other=0.0)
                rx, ry, rz = _load3(v, b, column, inside, F)
                sx, sy, sz = _load3(to_v, b, column, inside, F)
                carried = w_c * tq_c + tw_c * q_c
                kept = w_c * q_c
                for_x += carried * rx + kept * sx
                for_y += carried * ry + kept * sy
                for_z += carried * rz + kept * sz
                carry = hx * vx + hy * vy + hz * vz
                to_carry = hx * tx + hy * ty + hz * tz
                out_c += carry * tw_c + to_carry * w_c
                sent = w_c * tp_c + tw_c * p_c
                x += sent * hx
                y += sent * hy
                z += sent * hz
            if code % 2 == 0:
                at = by_filters + w
                tl.store(at, hs * tp_s + gs * tq_s, mask=inside)
                received = (gx * ux + gy * uy + gz * uz) * tq_a + (gx * dx + gy * dy + gz * dz) * q_a
                tl.store(at + F, along * tp_a + to_along * p_a + received, mask=inside)
                if CARRIES:
                    received = (gx * rx + gy * ry + gz * rz) * tq_c + (gx * sx + gy * sy + gz * sz) * q_c
                    tl.store(at + 2 * F, carry * tp_c + to_carry * p_c + received, mask=inside)
                sent_along = w_a * tp_a + tw_a * p_a
                there = by_directions + pair * 3
                tl.store(there, tl.sum(gx * change - hx * sent_along, axis=0))
                tl.store(there + 1, tl.sum(gy * change - hy * sent_along, axis=0))
                tl.store(there + 2, tl.sum(gz * change - hz * sent_along, axis=0))
        tl.store(by_s + a * F + column, for_s, mask=inside)
        at = by_from_v + a * (3 * F) + column
        tl.store(at, for_x, mask=inside)
        tl.store(at + F, for_y, mask=inside)
        tl.store(at + 2 * F, for_z, mask=inside)
        at = by_phi + own
        tl.store(at, out_s, mask=inside)
        tl.store(at + F, out_a, mask=inside)
        if CARRIES:
            tl.store(at + 2 * F, out_c, mask=inside)
            at = by_v + a * (3 * F) + column
            tl.store(at, x, mask=inside)
            tl.store(at + F, y, mask=inside)
            tl.store(at + 2 * F, z, mask=inside)


def message(phi: Tensor, v: Tensor, filters: Tensor, directions: Tensor, *neighbors: Tensor) -> tuple[Tensor, Tensor]:
    """See :func:`mlff_distiller.training.messages.message`; ``neighbors`` are starts, others and codes."""
    n_atoms, features = len(phi), v.shape[-1]
    ds, dv = phi.new_empty(n_atoms, features), phi.new_empty(n_atoms, 3, features)
    given = [x.contiguous() for x in (phi, v, filters, directions, *neighbors)]
    block = triton.next_power_of_2(features)
    _message[(n_atoms,)](*given, ds, dv, F=features, FB=block, CARRIES=len(v) > 0, num_warps=WARPS["message"])
    return ds, dv


def message_gradient(
    from_s: Tensor, from_v: Tensor, phi: Tensor, v: Tensor, filters: Tensor, directions: Tensor, *neighbors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`mlff_distiller.training.messages.message_gradient`."""
    given = [x.contiguous() for x in (from_s, from_v, phi, v, filters, directions, *neighbors)]
    results = tuple(torch.empty_like(x) for x in given[2:6])
    _launch(_gradient, given, results, v, filters, len(phi), WARPS["gradient"])
    return results


def message_second_gradient(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See :func:`mlff_distiller.training.messages.message_second_gradient`."""
    given = [x.contiguous() for x in tensors]
    results = tuple(torch.empty_like(x) for x in given[4:10])
    _launch(_second, given, results, given[7], given[8], len(given[6]), WARPS["second"])
    return results


def _launch(
    kernel, given: list[Tensor], results: tuple[Tensor, ...], v: Tensor, filters: Tensor, n_atoms: int, warps: int
) -> None:
    features, n_pairs = v.shape[-1], len(filters)
    kernel[(n_atoms + triton.cdiv(n_pairs, ZEROED),)](
        *given,
        *results,
        n_atoms,
        n_pairs,
        F=features,
        FB=triton.next_power_of_2(features),
        WB=triton.next_power_of_2(filters.shape[1]),
        CARRIES=len(v) > 0,
        ZEROED=ZEROED,
        num_warps=warps,
    )
