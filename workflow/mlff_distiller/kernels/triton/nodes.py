"""The update of a block with the head that follows it, and their backward pass; one kernel each.

Forward, for a tile of atoms: (V v, U v) -> norms -> mlp -> s', v', then the head on s' (phi of the next block, or the
readout). Backward: first the head, then the update. Each chunk of a product's output is used at once as input of the next
product, so hidden layers stay in registers. Hidden widths are zero-padded to H, a power of two.
"""

import triton
import triton.language as tl

from mlff_distiller.kernels.triton.common import product, sigmoid, silu_slope


@triton.jit(do_not_specialize=["n_atoms"])
def node_forward(
    s_in,  # [N, F] after the message
    v_in,  # [N, 3, F]
    s_out,  # [N, F], out
    v_out,  # [N, 3, F], out; not written in the last block
    u_v,  # [N, 6, F] V v (3 rows) and U v (3 rows), out, for the backward pass
    hidden,  # [N, H] before the silu of the update's mlp, out
    mixing,  # [N, 2, F] a_vv and a_sv, out, for the backward pass
    head_hidden,  # [N, H] before the silu of the head, out
    head_out,  # [N, 3 F] phi of the next block, out; in the last block [N] atomic energies
    mix,  # [F, 2 F] columns of V, then of U
    mlp_in,  # [2 F, H]
    mlp_in_bias,
    mlp_out,  # [H, 3 F]
    mlp_out_bias,
    head_in,  # [F, H]
    head_in_bias,
    head_weight,  # [H, 3 F]; in the last block [H]
    head_bias,  # [3 F]; in the last block [1]
    n_atoms,
    EPSILON: tl.constexpr,
    F: tl.constexpr,
    H: tl.constexpr,
    BM: tl.constexpr,
    FB: tl.constexpr,
    LAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: BM atoms; FB features at a time."""
    n = tl.program_id(0) * BM + tl.arange(0, BM)
    there = (n < n_atoms)[:, None]
    n = n.to(tl.int64)[:, None]
    all_f = tl.arange(0, F)
    h_index = tl.arange(0, H)
    fb = tl.arange(0, FB)
    vx = tl.load(v_in + n * (3 * F) + all_f[None, :], mask=there, other=0.0)
    vy = tl.load(v_in + n * (3 * F) + F + all_f[None, :], mask=there, other=0.0)
    vz = tl.load(v_in + n * (3 * F) + 2 * F + all_f[None, :], mask=there, other=0.0)
    h = tl.zeros([BM, H], dtype=vx.dtype) + tl.load(mlp_in_bias + h_index)[None, :]
    for c in range(0, F, FB):
        f = c + fb
        at = n * (6 * F) + f[None, :]
        weight = tl.load(mix + all_f[:, None] * (2 * F) + f[None, :])
        x = product(vx, weight, PRECISION)
        y = product(vy, weight, PRECISION)
        z = product(vz, weight, PRECISION)
        tl.store(u_v + at, x, mask=there)
        tl.store(u_v + at + F, y, mask=there)
        tl.store(u_v + at + 2 * F, z, mask=there)
        # As a plain constant EPSILON would be rounded to fp32.
        norm = tl.sqrt(x * x + y * y + z * z + tl.full(x.shape, EPSILON, x.dtype))
        weight = tl.load(mix + all_f[:, None] * (2 * F) + F + f[None, :])
        tl.store(u_v + at + 3 * F, product(vx, weight, PRECISION), mask=there)
        tl.store(u_v + at + 4 * F, product(vy, weight, PRECISION), mask=there)
        tl.store(u_v + at + 5 * F, product(vz, weight, PRECISION), mask=there)
        s = tl.load(s_in + n * F + f[None, :], mask=there, other=0.0)
        h += product(s, tl.load(mlp_in + f[:, None] * H + h_index[None, :]), PRECISION)
        h += product(norm, tl.load(mlp_in + (F + f)[:, None] * H + h_index[None, :]), PRECISION)
    tl.store(hidden + n * H + h_index[None, :], h, mask=there)
    a = h * sigmoid(h)
    # Below, threads read u_v that other threads wrote.
    tl.debug_barrier()
    h = tl.zeros([BM, H], dtype=vx.dtype) + tl.load(head_in_bias + h_index)[None, :]
    for c in range(0, F, FB):
        f = c + fb
        at = n * (6 * F) + f[None, :]
        weight = mlp_out + h_index[:, None] * (3 * F) + f[None, :]
        s = tl.load(s_in + n * F + f[None, :], mask=there, other=0.0)
        s += product(a, tl.load(weight), PRECISION) + tl.load(mlp_out_bias + f)[None, :]
        a_vv = product(a, tl.load(weight + F), PRECISION) + tl.load(mlp_out_bias + F + f)[None, :]
        a_sv = product(a, tl.load(weight + 2 * F), PRECISION) + tl.load(mlp_out_bias + 2 * F + f)[None, :]
        ux = tl.load(u_v + at + 3 * F, mask=there, other=0.0)
        uy = tl.load(u_v + at + 4 * F, mask=there, other=0.0)
        uz = tl.load(u_v + at + 5 * F, mask=there, other=0.0)
        dot = ux * tl.load(u_v + at, mask=there, other=0.0)
        dot += uy * tl.load(u_v + at + F, mask=there, other=0.0)
        dot += uz * tl.load(u_v + at + 2 * F, mask=there, other=0.0)
        s += a_sv * dot
        tl.store(mixing + n * (2 * F) + f[None, :], a_vv, mask=there)
        tl.store(mixing + n * (2 * F) + F + f[None, :], a_sv, mask=there)
        if not LAST:
            tl.store(s_out + n * F + f[None, :], s, mask=there)
            v = n * (3 * F) + f[None, :]
            tl.store(v_out + v, tl.load(v_in + v, mask=there, other=0.0) + a_vv * ux, mask=there)
            tl.store(v_out + v + F, tl.load(v_in + v + F, mask=there, other=0.0) + a_vv * uy, mask=there)
            tl.store(v_out + v + 2 * F, tl.load(v_in + v + 2 * F, mask=there, other=0.0) + a_vv * uz, mask=there)
        h += product(s, tl.load(head_in + f[:, None] * H + h_index[None, :]), PRECISION)
    tl.store(head_hidden + n * H + h_index[None, :], h, mask=there)
    a = h * sigmoid(h)
    if LAST:
        energy = tl.sum(a * tl.load(head_weight + h_index)[None, :], axis=1)[:, None] + tl.load(head_bias)
        tl.store(head_out + n, energy, mask=there)
    else:
        for c in range(0, 3 * F, FB):
            f = c + fb
            weight = tl.load(head_weight + h_index[:, None] * (3 * F) + f[None, :])
            out = product(a, weight, PRECISION) + tl.load(head_bias + f)[None, :]
            tl.store(head_out + n * (3 * F) + f[None, :], out, mask=there)


@triton.jit(do_not_specialize=["n_atoms"])
def node_backward(
    gs_in,  # [N, F] dE/ds' without the head's part; not read in the last block, where it is zero
    gv_in,  # [N, 3, F] dE/dv'; not read in the last block, where it is zero
    g_head,  # [N, 3 F] dE/d phi of the next block; not read in the last block
    gs_out,  # [N, F] dE/ds before the update, out
    gv_out,  # [N, 3, F], out
    u_v,
    hidden,
    mixing,
    head_hidden,
    mix_back,  # [2 F, F] rows of V, then of U
    mlp_in_back,  # [H, 2 F]
    mlp_out_back,  # [3 F, H]
    head_in_back,  # [H, F]
    head_back,  # [3 F, H]; in the last block [H]
    n_atoms,
    EPSILON: tl.constexpr,
    F: tl.constexpr,
    H: tl.constexpr,
    BM: tl.constexpr,
    FB: tl.constexpr,
    LAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One program: BM atoms; FB features at a time."""
    n = tl.program_id(0) * BM + tl.arange(0, BM)
    there = (n < n_atoms)[:, None]
    n = n.to(tl.int64)[:, None]
    all_f = tl.arange(0, F)
    h_index = tl.arange(0, H)
    fb = tl.arange(0, FB)
    h = tl.load(head_hidden + n * H + h_index[None, :], mask=there, other=0.0)
    if LAST:
        gh = tl.zeros_like(h) + tl.load(head_back + h_index)[None, :]
    else:
        gh = tl.zeros_like(h)
        for c in range(0, 3 * F, FB):
            f = c + fb
            g = tl.load(g_head + n * (3 * F) + f[None, :], mask=there, other=0.0)
            gh += product(g, tl.load(head_back + f[:, None] * H + h_index[None, :]), PRECISION)
    gh = gh * silu_slope(h)
    ga = tl.zeros_like(h)
    for c in range(0, F, FB):
        f = c + fb
        at = n * (6 * F) + f[None, :]
        gs = product(gh, tl.load(head_in_back + h_index[:, None] * F + f[None, :]), PRECISION)
        if not LAST:
            gs += tl.load(gs_in + n * F + f[None, :], mask=there, other=0.0)
        tl.store(gs_out + n * F + f[None, :], gs, mask=there)
        ux = tl.load(u_v + at + 3 * F, mask=there, other=0.0)
        uy = tl.load(u_v + at + 4 * F, mask=there, other=0.0)
        uz = tl.load(u_v + at + 5 * F, mask=there, other=0.0)
        dot = ux * tl.load(u_v + at, mask=there, other=0.0)
        dot += uy * tl.load(u_v + at + F, mask=there, other=0.0)
        dot += uz * tl.load(u_v + at + 2 * F, mask=there, other=0.0)
        weight = mlp_out_back + f[:, None] * H + h_index[None, :]
        ga += product(gs, tl.load(weight), PRECISION)
        ga += product(gs * dot, tl.load(weight + 2 * F * H), PRECISION)
        if not LAST:
            v = n * (3 * F) + f[None, :]
            g = tl.load(gv_in + v, mask=there, other=0.0) * ux
            g += tl.load(gv_in + v + F, mask=there, other=0.0) * uy
            g += tl.load(gv_in + v + 2 * F, mask=there, other=0.0) * uz
            ga += product(g, tl.load(weight + F * H), PRECISION)
    h = tl.load(hidden + n * H + h_index[None, :], mask=there, other=0.0)
    gh = ga * silu_slope(h)
    # Below, threads read gs that other threads wrote.
    tl.debug_barrier()
    ox = tl.zeros([BM, F], dtype=h.dtype)
    oy = tl.zeros([BM, F], dtype=h.dtype)
    oz = tl.zeros([BM, F], dtype=h.dtype)
    for c in range(0, F, FB):
        f = c + fb
        at = n * (6 * F) + f[None, :]
        gs = tl.load(gs_out + n * F + f[None, :], mask=there, other=0.0)
        weight = mlp_in_back + h_index[:, None] * (2 * F) + f[None, :]
        tl.store(gs_out + n * F + f[None, :], gs + product(gh, tl.load(weight), PRECISION), mask=there)
        g_norm = product(gh, tl.load(weight + F), PRECISION)
        sv = gs * tl.load(mixing + n * (2 * F) + F + f[None, :], mask=there, other=0.0)
        x = tl.load(u_v + at, mask=there, other=0.0)
        y = tl.load(u_v + at + F, mask=there, other=0.0)
        z = tl.load(u_v + at + 2 * F, mask=there, other=0.0)
        g_norm = g_norm / tl.sqrt(x * x + y * y + z * z + tl.full(x.shape, EPSILON, x.dtype))
        # dE/d(V v) = a_sv gs U v + g_norm V v / |V v|;  dE/d(U v) = a_sv gs V v + a_vv gv
        weight = mix_back + f[:, None] * F + all_f[None, :]
        back = tl.load(weight)
        ox += product(sv * tl.load(u_v + at + 3 * F, mask=there, other=0.0) + g_norm * x, back, PRECISION)
        oy += product(sv * tl.load(u_v + at + 4 * F, mask=there, other=0.0) + g_norm * y, back, PRECISION)
        oz += product(sv * tl.load(u_v + at + 5 * F, mask=there, other=0.0) + g_norm * z, back, PRECISION)
        back = tl.load(weight + F * F)
        x = sv * x
        y = sv * y
        z = sv * z
        if not LAST:
            v = n * (3 * F) + f[None, :]
            vv = tl.load(mixing + n * (2 * F) + f[None, :], mask=there, other=0.0)
            x += vv * tl.load(gv_in + v, mask=there, other=0.0)
            y += vv * tl.load(gv_in + v + F, mask=there, other=0.0)
            z += vv * tl.load(gv_in + v + 2 * F, mask=there, other=0.0)
        ox += product(x, back, PRECISION)
        oy += product(y, back, PRECISION)
        oz += product(z, back, PRECISION)
    v = n * (3 * F) + all_f[None, :]
    if not LAST:
        ox += tl.load(gv_in + v, mask=there, other=0.0)
        oy += tl.load(gv_in + v + F, mask=there, other=0.0)
        oz += tl.load(gv_in + v + 2 * F, mask=there, other=0.0)
    tl.store(gv_out + v, ox, mask=there)
    tl.store(gv_out + v + F, oy, mask=there)
    tl.store(gv_out + v + 2 * F, oz, mask=there)
