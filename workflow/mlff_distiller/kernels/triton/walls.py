"""The short-range walls of all pairs (:mod:`mlff_distiller.student.wall`), once for all blocks."""

import triton
import triton.language as tl


@triton.jit
def wall(d, end, strength, REST: tl.constexpr):
    """Of pairs at d [E] whose walls begin at ``end`` and have this ``strength``, four [E].

    The distance that the network sees and its derivative; the repulsion and its derivative. From ``end`` on they are exactly
    d, 1, 0 and 0.
    """
    x = d / end
    t = tl.maximum(end - d, 0.0) / end
    # As a plain constant REST would be rounded to fp32.
    rest = tl.full(t.shape, REST, t.dtype)
    s = tl.minimum(t / rest, 1.0)
    seen = d + end * (t - rest * (s - s * s * s * (1.0 - 0.5 * s)))
    repulsion = strength * (t * t * t) / x
    return seen, 1.0 - s * s * (3.0 - 2.0 * s), repulsion, -strength / end * (t * t) * (1.0 + 2.0 * x) / (x * x)


@triton.jit
def meet_walls(
    numbers,  # [N] int32
    neighbors,  # [N, capacity] int32
    geometry,  # [N, capacity, 4] unit vector from i to j, distance (A)
    counts,  # [N] int32
    table,  # [elements^2, 2] where each pair's wall begins (A) and its strength (eV)
    walls,  # [N, capacity, 3] the distance that the network sees (A), its derivative, the repulsion's (eV/A), out
    repulsion,  # [N] eV, half of that of the atom's pairs, out
    capacity,
    elements,
    REST: tl.constexpr,
    BE: tl.constexpr,
):
    """One program: one atom; BE neighbors at a time."""
    i = tl.program_id(0).to(tl.int64)
    count = tl.minimum(tl.load(counts + i), capacity)
    row = tl.load(numbers + i) * elements
    total = tl.zeros([BE], dtype=table.dtype.element_ty)
    for e0 in range(0, count, BE):
        e = e0 + tl.arange(0, BE)
        there = e < count
        at = i * capacity + e
        j = tl.load(neighbors + at, mask=there, other=0)
        pair = table + 2 * (row + tl.load(numbers + j, mask=there, other=0))
        end = tl.load(pair, mask=there, other=1.0)
        strength = tl.load(pair + 1, mask=there, other=0.0)
        d = tl.load(geometry + 4 * at + 3, mask=there, other=1.0)
        seen, seen_slope, energy, slope = wall(d, end, strength, REST)
        tl.store(walls + 3 * at, seen, mask=there)
        tl.store(walls + 3 * at + 1, seen_slope, mask=there)
        tl.store(walls + 3 * at + 2, slope, mask=there)
        total += energy
    # Each pair is in two rows, and gives half to each of its atoms.
    tl.store(repulsion + i, 0.5 * tl.sum(total, axis=0))
