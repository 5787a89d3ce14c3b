"""The neighbor matrix: for every atom the other atoms of its system within the cutoff, in ascending order."""

import triton
import triton.language as tl


@triton.jit
def fill_neighbor_matrix(
    positions,  # [N, 3] A
    first,  # [N] int32, first atom of the system of each atom
    last,  # [N] int32, one past its last atom
    neighbors,  # [N, capacity] int32, out
    geometry,  # [N, capacity, 4] unit vector from i to j, distance (A), out
    radial,  # cutoff, ...
    counts,  # [N] int32, out: all neighbors, can be more than capacity
    capacity,
    BLOCK: tl.constexpr,
):
    """One program per atom tests all atoms of its system (not periodic)."""
    i = tl.program_id(0)
    start = tl.load(first + i)
    end = tl.load(last + i)
    x = tl.load(positions + 3 * i)
    y = tl.load(positions + 3 * i + 1)
    z = tl.load(positions + 3 * i + 2)
    cutoff = tl.load(radial)
    count = 0
    for j0 in range(start, end, BLOCK):
        j = j0 + tl.arange(0, BLOCK)
        other = (j < end) & (j != i)
        dx = tl.load(positions + 3 * j, mask=other, other=0.0) - x
        dy = tl.load(positions + 3 * j + 1, mask=other, other=0.0) - y
        dz = tl.load(positions + 3 * j + 2, mask=other, other=0.0) - z
        squared = dx * dx + dy * dy + dz * dz
        # NaN counts as a neighbor, so that energy and forces become NaN.
        flag = tl.where(squared >= cutoff * cutoff, 0, tl.where(other, 1, 0))
        slot = count + tl.cumsum(flag, 0) - 1
        keep = (flag > 0) & (slot < capacity)
        at = i.to(tl.int64) * capacity + slot
        d = tl.sqrt(squared)
        tl.store(neighbors + at, j, mask=keep)
        tl.store(geometry + 4 * at, dx / d, mask=keep)
        tl.store(geometry + 4 * at + 1, dy / d, mask=keep)
        tl.store(geometry + 4 * at + 2, dz / d, mask=keep)
        tl.store(geometry + 4 * at + 3, d, mask=keep)
        count += tl.sum(flag, 0)
    tl.store(counts + i, count)
