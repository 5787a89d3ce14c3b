"""Functions used in several kernels."""

import triton
import triton.language as tl


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """a [M, K] @ b [K, N]. PRECISION: "ieee", "tf32x3", "tf32", "bf16" (rounded inputs) or "fp64" (plain sums)."""
    if PRECISION == "fp64":
        return tl.sum(a[:, :, None] * b[None, :, :], axis=1)
    elif PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16))
    else:
        return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def silu_slope(x):
    """The derivative of x sigmoid(x)."""
    y = sigmoid(x)
    return y * (1.0 + x * (1.0 - y))


@triton.jit
def gaussians(d, k, radial):
    """exp(c (d - center_k)^2) for d [E] and k [K]: [E, K]; and the derivative by d."""
    exponent = tl.load(radial + 1)
    offset = d[:, None] - tl.load(radial + 3 + k)[None, :]
    value = tl.exp(exponent * offset * offset)
    return value, 2.0 * exponent * offset * value


@triton.jit
def envelope(d, inside, radial):
    """The cosine cutoff of d [E] and its derivative; zero if ``inside`` is false. NaN stays NaN."""
    rate = tl.load(radial + 2)
    beyond = d >= tl.load(radial)
    value = tl.where(inside, tl.where(beyond, 0.0, 0.5 * (tl.cos(d * rate) + 1.0)), 0.0)
    slope = tl.where(inside, tl.where(beyond, 0.0, tl.sin(d * rate) * -0.5 * rate), 0.0)
    return value, slope
