"""Matrix products of many atoms with what follows them: as exact as float32 on the tensor cores, by three TF32 products."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from mlff_distiller.kernels.triton.common import product, sigmoid, silu_slope


@triton.jit(do_not_specialize=["rows"])
def linear_kernel(
    x,  # [rows, INNER]
    weight,
    bias,  # [columns]; not read without BIAS
    base,  # [rows, columns] added to the product; not read without BASE
    hidden,  # [rows, columns] for SLOPE
    out,  # [rows, columns], out
    active,  # [rows, columns] silu of out, with ACTIVATE
    rows,
    columns,
    step_inner,  # from one row of the product's inner index to the next in ``weight``
    step_column,
    INNER: tl.constexpr,
    BIAS: tl.constexpr,
    BASE: tl.constexpr,
    ACTIVATE: tl.constexpr,
    SLOPE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """out = x weight + bias + base; or that times the slope of silu at ``hidden``."""
    m = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    total = tl.zeros([BM, BN], dtype=x.dtype.element_ty)
    for k0 in range(0, INNER, BK):
        inner = k0 + k
        a = tl.load(
            x + m[:, None] * INNER + inner[None, :], mask=(m[:, None] < rows) & (inner[None, :] < INNER), other=0.0
        )
        at = weight + inner[:, None] * step_inner + n[None, :] * step_column
        b = tl.load(at, mask=(inner[:, None] < INNER) & (n[None, :] < columns), other=0.0)
        total += product(a, b, PRECISION)
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
    """Sizes of a program's tile, chosen by measurement on an H200."""

    rows: int = 64
    columns: int = 64
    inner: int = 32
    warps: int = 4
    stages: int = 3


def linear(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    base: Tensor | None = None,
    active: Tensor | None = None,
    slope_of: Tensor | None = None,
    precision: str = "tf32x3",
    tiles: LinearTiles | None = None,
) -> None:
    """out = x @ weight (+ bias) (+ base), times the slope of silu at ``slope_of``; ``active`` gets silu(out).

    Args:
        x: [M, K], contiguous.
        weight: [K, N], of any strides: a transposed view serves.
        out, base, active, slope_of: [M, N], contiguous; ``out`` may be ``base`` or ``slope_of``.
        bias: [N].
        precision: see :func:`mlff_distiller.kernels.triton.common.product`.
    """
    tiles = tiles or LinearTiles()
    rows, inner = x.shape
    columns = weight.shape[1]
    grid = (-(-rows // tiles.rows), -(-columns // tiles.columns))
    linear_kernel[grid](
        x,
        weight,
        out if bias is None else bias,
        out if base is None else base,
        out if slope_of is None else slope_of,
        out,
        out if active is None else active,
        rows,
        columns,
        weight.stride(0),
        weight.stride(1),
        INNER=inner,
        BIAS=bias is not None,
        BASE=base is not None,
        ACTIVATE=active is not None,
        SLOPE=slope_of is not None,
        BM=tiles.rows,
        BN=tiles.columns,
        BK=tiles.inner,
        PRECISION="fp64" if x.dtype == torch.float64 else precision,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
    )
