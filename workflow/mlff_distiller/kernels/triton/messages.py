"""The message of a block and its backward pass; filters are computed from the distance where they are used, not stored.

For receiver i and sender j, with w(d) = (W g(d) + b) f(d) of Gaussians g and cutoff f, d the distance that the network sees
(:mod:`mlff_distiller.kernels.triton.walls`), u the unit vector from i to j and p_j = phi(s_j):

    s_i += sum_j p_j^s w^s,   v_i += sum_j p_j^a w^a u + p_j^c w^c v_j.
"""

import triton
import triton.language as tl

from mlff_distiller.kernels.triton.common import envelope, gaussians, product


@triton.jit
def message_forward(
    numbers,  # [N] int32
    neighbors,
    geometry,
    walls,
    counts,
    phi,  # [N, 3 F]; in the first block [elements, 3 F]
    s_in,  # [N, F]; in the first block [elements, F]
    v_in,  # [N, 3, F]; not read in the first block, where v = 0
    s_out,
    v_out,
    filter_weight,  # [K, 3 F]
    filter_bias,  # [3 F]
    radial,  # [3 + K] cutoff, exponent of the Gaussians, pi / cutoff, their centers
    capacity,
    F: tl.constexpr,
    K: tl.constexpr,
    FB: tl.constexpr,
    BE: tl.constexpr,
    FIRST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: one receiver and FB of its features; BE neighbors at a time."""
    i = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1) * FB + tl.arange(0, FB)
    k = tl.arange(0, K)
    count = tl.minimum(tl.load(counts + i), capacity)
    weight = filter_weight + k[:, None] * (3 * F) + f[None, :]
    w_s = tl.load(weight)
    w_a = tl.load(weight + F)
    b_s = tl.load(filter_bias + f)
    b_a = tl.load(filter_bias + F + f)
    if FIRST:
        row = tl.load(numbers + i).to(tl.int64)
    else:
        row = i
        w_c = tl.load(weight + 2 * F)
        b_c = tl.load(filter_bias + 2 * F + f)
    s = tl.load(s_in + row * F + f)
    vx = tl.zeros_like(s)
    vy = tl.zeros_like(s)
    vz = tl.zeros_like(s)
    if not FIRST:
        vx += tl.load(v_in + i * (3 * F) + f)
        vy += tl.load(v_in + i * (3 * F) + F + f)
        vz += tl.load(v_in + i * (3 * F) + 2 * F + f)
    for e0 in range(0, count, BE):
        e = e0 + tl.arange(0, BE)
        there = e < count
        at = i * capacity + e
        j = tl.load(neighbors + at, mask=there, other=0).to(tl.int64)
        ux = tl.load(geometry + 4 * at, mask=there, other=0.0)
        uy = tl.load(geometry + 4 * at + 1, mask=there, other=0.0)
        uz = tl.load(geometry + 4 * at + 2, mask=there, other=0.0)
        seen = tl.load(walls + 3 * at, mask=there, other=0.0)
        cut, _ = envelope(seen, there, radial)
        g, _ = gaussians(seen, k, radial)
        if FIRST:
            rows = tl.load(numbers + j, mask=there, other=0).to(tl.int64)
        else:
            rows = j
        source = phi + rows[:, None] * (3 * F) + f[None, :]
        a = (product(g, w_s, PRECISION) + b_s[None, :]) * cut[:, None]
        s += tl.sum(a * tl.load(source, mask=there[:, None], other=0.0), axis=0)
        a = (product(g, w_a, PRECISION) + b_a[None, :]) * cut[:, None]
        a = a * tl.load(source + F, mask=there[:, None], other=0.0)
        if FIRST:
            vx += tl.sum(a * ux[:, None], axis=0)
            vy += tl.sum(a * uy[:, None], axis=0)
            vz += tl.sum(a * uz[:, None], axis=0)
        else:
            c = (product(g, w_c, PRECISION) + b_c[None, :]) * cut[:, None]
            c = c * tl.load(source + 2 * F, mask=there[:, None], other=0.0)
            v = v_in + j[:, None] * (3 * F) + f[None, :]
            vx += tl.sum(a * ux[:, None] + c * tl.load(v, mask=there[:, None], other=0.0), axis=0)
            vy += tl.sum(a * uy[:, None] + c * tl.load(v + F, mask=there[:, None], other=0.0), axis=0)
            vz += tl.sum(a * uz[:, None] + c * tl.load(v + 2 * F, mask=there[:, None], other=0.0), axis=0)
    tl.store(s_out + i * F + f, s)
    tl.store(v_out + i * (3 * F) + f, vx)
    tl.store(v_out + i * (3 * F) + F + f, vy)
    tl.store(v_out + i * (3 * F) + 2 * F + f, vz)


@triton.jit(do_not_specialize=["n_atoms"])
def message_backward(
    numbers,
    neighbors,
    geometry,
    walls,
    counts,
    phi,  # [N, 3 F]; in the first block [elements, 3 F]
    v_in,  # [N, 3, F] of the forward pass
    gs,  # [N, F] dE/ds after the message
    gv,  # [N, 3, F] dE/dv after the message
    g_phi,  # [N, 3 F] dE/dphi, out; not written in the first block
    gv_out,  # [N, 3, F] dE/dv before the message, out; not written in the first block
    pull,  # [F / FB, N, capacity, 3] dE/dr of each slot, r from receiver to sender, out or added to; no repulsion
    filter_weight,
    filter_bias,
    radial,
    n_atoms,
    capacity,
    F: tl.constexpr,
    K: tl.constexpr,
    FB: tl.constexpr,
    BE: tl.constexpr,
    FIRST: tl.constexpr,
    ADD: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: one sender j and the receivers i of its messages, its neighbors; the vector from i to j is -u."""
    j = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1) * FB + tl.arange(0, FB)
    k = tl.arange(0, K)
    count = tl.minimum(tl.load(counts + j), capacity)
    weight = filter_weight + k[:, None] * (3 * F) + f[None, :]
    w_s = tl.load(weight)
    w_a = tl.load(weight + F)
    b_s = tl.load(filter_bias + f)
    b_a = tl.load(filter_bias + F + f)
    if FIRST:
        row = tl.load(numbers + j).to(tl.int64)
    else:
        row = j
        w_c = tl.load(weight + 2 * F)
        b_c = tl.load(filter_bias + 2 * F + f)
        p_c = tl.load(phi + row * (3 * F) + 2 * F + f)
        vx = tl.load(v_in + j * (3 * F) + f)
        vy = tl.load(v_in + j * (3 * F) + F + f)
        vz = tl.load(v_in + j * (3 * F) + 2 * F + f)
        gvx = tl.load(gv + j * (3 * F) + f)
        gvy = tl.load(gv + j * (3 * F) + F + f)
        gvz = tl.load(gv + j * (3 * F) + 2 * F + f)
    p_s = tl.load(phi + row * (3 * F) + f)
    p_a = tl.load(phi + row * (3 * F) + F + f)
    gp_s = tl.zeros_like(p_s)
    gp_a = tl.zeros_like(p_s)
    gp_c = tl.zeros_like(p_s)
    part = pull + tl.program_id(1).to(tl.int64) * n_atoms * (capacity * 3)
    for e0 in range(0, count, BE):
        e = e0 + tl.arange(0, BE)
        there = e < count
        at = j * capacity + e
        i = tl.load(neighbors + at, mask=there, other=0).to(tl.int64)
        ux = -tl.load(geometry + 4 * at, mask=there, other=0.0)
        uy = -tl.load(geometry + 4 * at + 1, mask=there, other=0.0)
        uz = -tl.load(geometry + 4 * at + 2, mask=there, other=0.0)
        d = tl.load(geometry + 4 * at + 3, mask=there, other=1.0)
        seen = tl.load(walls + 3 * at, mask=there, other=1.0)
        cut, cut_slope = envelope(seen, there, radial)
        g, g_slope = gaussians(seen, k, radial)
        # scalar channel
        a = tl.load(gs + i[:, None] * F + f[None, :], mask=there[:, None], other=0.0)
        raw = product(g, w_s, PRECISION) + b_s[None, :]
        slope = product(g_slope, w_s, PRECISION) * cut[:, None] + raw * cut_slope[:, None]
        gd = tl.sum(a * slope * p_s[None, :], axis=1)
        if not FIRST:
            gp_s += tl.sum(a * raw * cut[:, None], axis=0)
        # vector channel along u
        source = gv + i[:, None] * (3 * F) + f[None, :]
        gx = tl.load(source, mask=there[:, None], other=0.0)
        gy = tl.load(source + F, mask=there[:, None], other=0.0)
        gz = tl.load(source + 2 * F, mask=there[:, None], other=0.0)
        a = gx * ux[:, None] + gy * uy[:, None] + gz * uz[:, None]
        raw = product(g, w_a, PRECISION) + b_a[None, :]
        slope = product(g_slope, w_a, PRECISION) * cut[:, None] + raw * cut_slope[:, None]
        raw = raw * cut[:, None]
        gd += tl.sum(a * slope * p_a[None, :], axis=1)
        if not FIRST:
            gp_a += tl.sum(a * raw, axis=0)
        raw = raw * p_a[None, :]
        gux = tl.sum(raw * gx, axis=1)
        guy = tl.sum(raw * gy, axis=1)
        guz = tl.sum(raw * gz, axis=1)
        # vector channel with v_j
        if not FIRST:
            a = gx * vx[None, :] + gy * vy[None, :] + gz * vz[None, :]
            raw = product(g, w_c, PRECISION) + b_c[None, :]
            slope = product(g_slope, w_c, PRECISION) * cut[:, None] + raw * cut_slope[:, None]
            raw = raw * cut[:, None]
            gd += tl.sum(a * slope * p_c[None, :], axis=1)
            gp_c += tl.sum(a * raw, axis=0)
            raw = raw * p_c[None, :]
            gvx += tl.sum(raw * gx, axis=0)
            gvy += tl.sum(raw * gy, axis=0)
            gvz += tl.sum(raw * gz, axis=0)
        along = gd * tl.load(walls + 3 * at + 1, mask=there, other=0.0) - (gux * ux + guy * uy + guz * uz) / d
        qx = along * ux + gux / d
        qy = along * uy + guy / d
        qz = along * uz + guz / d
        to = part + 3 * at
        if ADD:
            qx += tl.load(to, mask=there, other=0.0)
            qy += tl.load(to + 1, mask=there, other=0.0)
            qz += tl.load(to + 2, mask=there, other=0.0)
        tl.store(to, qx, mask=there)
        tl.store(to + 1, qy, mask=there)
        tl.store(to + 2, qz, mask=there)
    if not FIRST:
        tl.store(g_phi + j * (3 * F) + f, gp_s)
        tl.store(g_phi + j * (3 * F) + F + f, gp_a)
        tl.store(g_phi + j * (3 * F) + 2 * F + f, gp_c)
        tl.store(gv_out + j * (3 * F) + f, gvx)
        tl.store(gv_out + j * (3 * F) + F + f, gvy)
        tl.store(gv_out + j * (3 * F) + 2 * F + f, gvz)
