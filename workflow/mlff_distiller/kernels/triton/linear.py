"""Linear layers of many atoms on tensor cores: a float32 product as three float16 products of split matrices."""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from mlff_distiller.kernels.split import SplitMatrix
from mlff_distiller.kernels.triton.common import sigmoid, silu_slope


@triton.jit(do_not_specialize=["rows"])
def linear_kernel(
    x,  # [rows, INNER]
    weight_hi,
    weight_lo,
    weight_unit,
    bias,  # [columns]; not read without BIAS
    base,  # [rows, columns] added to the product; not read without BASE
    hidden,  # [rows, columns] for SLOPE
    out,  # [rows, columns], out
    active,  # [rows, columns] silu of out, with ACTIVATE
    rows,
    columns,
    step_inner,  # stride of the weights along the inner index
    step_column,  # stride of the weights along the columns
    INNER: tl.constexpr,
    BIAS: tl.constexpr,
    BASE: tl.constexpr,
    ACTIVATE: tl.constexpr,
    SLOPE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """out = x weight + bias + base; or that times the slope of silu at ``hidden``."""
    # Consecutive programs share rows of x, which are then read from memory once.
    across = tl.cdiv(columns, BN)
    m = (tl.program_id(0) // across * BM + tl.arange(0, BM)).to(tl.int64)
    n = tl.program_id(0) % across * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    total = tl.zeros([BM, BN], dtype=tl.float32)
    for k0 in range(0, INNER, BK):
        inner = k0 + k
        a = tl.load(
            x + m[:, None] * INNER + inner[None, :], mask=(m[:, None] < rows) & (inner[None, :] < INNER), other=0.0
        )
        at = inner[:, None] * step_inner + n[None, :] * step_column
        within = (inner[:, None] < INNER) & (n[None, :] < columns)
        b_hi = tl.load(weight_hi + at, mask=within, other=0.0)
        b_lo = tl.load(weight_lo + at, mask=within, other=0.0)
        # Scale each row by the power of two below its largest element, so that float16 can hold it; NaN and infinity
        # stay.
        peak = tl.max(tl.abs(a), axis=1).to(tl.int32, bitcast=True) & 0x7F800000
        unit = tl.minimum(peak, 0x7E800000)
        a = a * (0x7F000000 - unit).to(tl.float32, bitcast=True)[:, None]
        a_hi = a.to(tl.float16)
        a_lo = (a - a_hi.to(tl.float32)).to(tl.float16)
        part = tl.dot(a_lo, b_hi)
        part = tl.dot(a_hi, b_lo, part)
        part = tl.dot(a_hi, b_hi, part)
        total += part * (unit.to(tl.float32, bitcast=True) * weight_unit)[:, None]
    there = (m[:, None] < rows) & (n[None, :] < columns)
    at = m[:, None] * columns + n[None, :]
    if BIAS:
        total += tl.load(bias + n, mask=n < columns, other=0.0)[None, :]
    if BASE:
        total += tl.load(base + at, mask=there, other=0.0)
    if SLOPE:
        total = total * silu_slope(tl.load(hidden + at, mask=there, other=0.0))
    tl.store(out + at, total, mask=there)
    if ACTIVATE:
        tl.store(active + at, total * sigmoid(total), mask=there)


@dataclass(frozen=True)
class LinearTiles:
    """Sizes of the tile of one program; defaults measured on an H200."""

    rows: int = 64
    columns: int = 128
    inner: int = 64
    warps: int = 4
    stages: int = 2


def linear(
    x: Tensor,
    weight: SplitMatrix,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    base: Tensor | None = None,
    active: Tensor | None = None,
    slope_of: Tensor | None = None,
    tiles: LinearTiles | None = None,
) -> None:
    """out = x @ weight (+ bias) (+ base), times the slope of silu at ``slope_of``; ``active`` gets silu(out).

    Args:
        x: [M, K] float32, contiguous.
        weight: [K, N], of any strides, so a transposed view works.
        out, base, active, slope_of: [M, N], contiguous; ``out`` may be ``base`` or ``slope_of``.
        bias: [N].
    """
    tiles = tiles or LinearTiles()
    rows, inner = x.shape
    columns = weight.shape[1]
    grid = (triton.cdiv(rows, tiles.rows) * triton.cdiv(columns, tiles.columns),)
    linear_kernel[grid](
        x,
        weight.hi,
        weight.lo,
        weight.unit,
        out if bias is None else bias,
        out if base is None else base,
        out if slope_of is None else slope_of,
        out,
        out if active is None else active,
        rows,
        columns,
        weight.hi.stride(0),
        weight.hi.stride(1),
        INNER=inner,
        BIAS=bias is not None,
        BASE=base is not None,
        ACTIVATE=active is not None,
        SLOPE=slope_of is not None,
        BM=tiles.rows,
        BN=tiles.columns,
        BK=tiles.inner,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
