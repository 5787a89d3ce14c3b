"""Final sums: forces of atoms over their pairs, energies of systems over their atoms."""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["n_atoms"])
def forces_and_energies(
    positions,  # [N, 3]
    neighbors,  # [N, capacity]
    geometry,  # [N, capacity, 4]
    walls,  # [N, capacity, 3], the last of them the derivative of the pair's repulsion
    counts,  # [N]
    pull,  # [PARTS, N, capacity, 3]
    atomic,  # [N] eV
    repulsion,  # [N] eV
    numbers,  # [N]
    references,  # [elements] eV, float64
    starts,  # [B + 1] first atom of each system
    forces,  # [N, 3], out
    energies,  # [B] float64, out
    n_atoms,
    capacity,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    BE: tl.constexpr,
    BN: tl.constexpr,
):
    """Programs 0..N-1: one atom each; programs N..N+B-1: one system each.

    pull(j, i), in row j, is dE/dr of the message from j to i with r = x_j - x_i; so F_j = sum_i pull(i, j) - pull(j, i).
    pull(i, j) is in row i, in the slot with neighbor j, the opposite unit vector and the same distance (j can have several
    images there, in one direction too). The repulsion of a pair pulls j along u in full: it is in no pull.
    """
    pid = tl.program_id(0)
    if pid < n_atoms:
        j = pid.to(tl.int64)
        rows = j * 0 + n_atoms  # in 64 bits
        count = tl.minimum(tl.load(counts + j), capacity)
        e = tl.arange(0, BE)
        t = tl.arange(0, WIDTH)
        # x - x is zero, or NaN for a position that is not finite, also of an atom without neighbors.
        x = tl.load(positions + 3 * j)
        y = tl.load(positions + 3 * j + 1)
        z = tl.load(positions + 3 * j + 2)
        fx = x - x
        fy = y - y
        fz = z - z
        for e0 in range(0, count, BE):
            slot = e0 + e
            there = slot < count
            at = j * capacity + slot
            i = tl.load(neighbors + at, mask=there, other=0).to(tl.int64)
            ux = tl.load(geometry + 4 * at, mask=there, other=0.0)
            uy = tl.load(geometry + 4 * at + 1, mask=there, other=0.0)
            uz = tl.load(geometry + 4 * at + 2, mask=there, other=0.0)
            d = tl.load(geometry + 4 * at + 3, mask=there, other=0.0)
            back = i[:, None] * capacity + t[None, :]
            filled = tl.minimum(tl.load(counts + i, mask=there, other=0), capacity)
            valid = there[:, None] & (t[None, :] < filled[:, None])
            same = valid & (tl.load(neighbors + back, mask=valid, other=-1) == j)
            same = same & (tl.load(geometry + 4 * back, mask=same, other=0.0) == -ux[:, None])
            same = same & (tl.load(geometry + 4 * back + 1, mask=same, other=0.0) == -uy[:, None])
            same = same & (tl.load(geometry + 4 * back + 2, mask=same, other=0.0) == -uz[:, None])
            same = same & (tl.load(geometry + 4 * back + 3, mask=same, other=0.0) == d[:, None])
            repulsion_slope = tl.load(walls + 3 * at + 2, mask=there, other=0.0)
            fx += tl.sum(repulsion_slope * ux, axis=0)
            fy += tl.sum(repulsion_slope * uy, axis=0)
            fz += tl.sum(repulsion_slope * uz, axis=0)
            for part in range(PARTS):
                own = pull + 3 * (part * rows * capacity + at)
                their = pull + 3 * (part * rows * capacity + back)
                fx += tl.sum(tl.sum(tl.load(their, mask=same, other=0.0), axis=1), axis=0)
                fy += tl.sum(tl.sum(tl.load(their + 1, mask=same, other=0.0), axis=1), axis=0)
                fz += tl.sum(tl.sum(tl.load(their + 2, mask=same, other=0.0), axis=1), axis=0)
                fx -= tl.sum(tl.load(own, mask=there, other=0.0), axis=0)
                fy -= tl.sum(tl.load(own + 1, mask=there, other=0.0), axis=0)
                fz -= tl.sum(tl.load(own + 2, mask=there, other=0.0), axis=0)
        tl.store(forces + 3 * j, fx)
        tl.store(forces + 3 * j + 1, fy)
        tl.store(forces + 3 * j + 2, fz)
    else:
        system = pid - n_atoms
        start = tl.load(starts + system)
        end = tl.load(starts + system + 1)
        total = tl.zeros([BN], dtype=tl.float64)
        for n0 in range(start, end, BN):
            n = n0 + tl.arange(0, BN)
            there = n < end
            element = tl.load(numbers + n, mask=there, other=0)
            total += tl.load(atomic + n, mask=there, other=0.0).to(tl.float64)
            total += tl.load(repulsion + n, mask=there, other=0.0).to(tl.float64)
            total += tl.load(references + element, mask=there, other=0.0)
        tl.store(energies + system, tl.sum(total, axis=0))
