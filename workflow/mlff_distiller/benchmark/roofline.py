"""Arithmetic and memory traffic of one energy + forces evaluation, by formula, for the roofline figure.

The roofline (Williams, Waterman, Patterson, CACM 52(4), 65, 2009) compares the arithmetic rate that was reached
with the two rates that the machine can sustain. The operations counted must not depend on how a variant computes, so they
are counted here, once, from the equations in ``potentials/ANALYTIC_FORCES.md``:

- **FLOP**: multiplications and additions of the matrix products, of the filters, and of the messages, forward and
  reverse. A product of [n, a] and [a, b] counts 2 n a b; the reverse pass repeats each product once, for the gradient
  by the input (weights have none). Every Gaussian counts, also where a kernel skips those that are zero. exp, sqrt and
  silu count nothing.
- **bytes**: the least that a fused implementation can move: positions, forces and weights once, and the features of
  every atom (F scalars, 3 F vectors) written and read once per block and direction; nothing per edge. A variant that
  stores edges moves more, and so lies below the roof; that distance is what the figure shows.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from mlff_distiller.student.config import StudentConfig


class Cost(NamedTuple):
    """Of one evaluation."""

    flop: float
    bytes: float


def energy_forces_cost(config: "StudentConfig", n_parameters: int, n_atoms: int, n_edges: int) -> Cost:
    """FLOP and bytes of energy + forces of ``n_atoms`` atoms with ``n_edges`` (ordered) pairs, in float32."""
    features, width, blocks = int(config.n_features), int(config.mlp_width), int(config.n_blocks)
    # Products per atom: phi of every block but the first (constant per element), U and V, the update's network.
    phi = 2 * features * width + 2 * width * 3 * features
    update = 3 * 2 * features * 2 * features + 2 * 2 * features * width + 2 * width * 3 * features
    readout = 2 * features * int(config.readout_width) + 2 * int(config.readout_width)
    atom = (blocks - 1) * phi + blocks * update + readout
    # Per pair and block: the filter and its slope (3 F sums over the Gaussians each), then the message's products and
    # sums: 3 F for x_j W, 2 * 3 F for each of the two vector terms, F for the sum of scalars; the reverse pass twice that.
    filters = 2 * 2 * int(config.n_radial) * 3 * features
    message = 3 * features + 2 * (2 * 3 * features) + features
    pair = blocks * (filters + 3 * message)
    state = 4 * 4 * features  # bytes of F scalars and 3 F vectors of an atom
    traffic = 4 * n_parameters + n_atoms * (24 + 4 * blocks * state)
    return Cost(flop=float(n_atoms * 2 * atom + n_edges * pair), bytes=float(traffic))


def ceilings(device: torch.device, seconds: float = 0.3) -> dict[str, float]:
    """The rates that this device sustains: a copy (GB/s, both directions counted) and a float32 matrix product (GFLOP/s).

    On a GPU also a product in TF32. Each is the best of the repetitions that fit into ``seconds``.
    """
    on_gpu = device.type == "cuda"
    length, size = (1 << 27, 8192) if on_gpu else (1 << 24, 1024)
    source = torch.ones(length, device=device)
    target = torch.empty_like(source)
    matrix = torch.randn(size, size, device=device)
    out = torch.empty_like(matrix)

    def product(tf32: bool) -> float:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            return 2 * size**3 / _best_seconds(lambda: torch.mm(matrix, matrix, out=out), device, seconds) / 1e9
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    found = {
        "copy_gb_per_s": 8 * length / _best_seconds(lambda: target.copy_(source), device, seconds) / 1e9,
        "float32_gflop_per_s": product(False),
    }
    return found | ({"tf32_gflop_per_s": product(True)} if on_gpu else {})


def _best_seconds(call, device: torch.device, seconds: float) -> float:
    import time

    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    call()
    wait()
    best, stop = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        call()
        wait()
        best = min(best, time.perf_counter() - start)
    return best
