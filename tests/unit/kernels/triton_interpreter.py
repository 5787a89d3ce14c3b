"""The kernels under Triton's interpreter: run as a program, it compares them with the student in fp64 and prints JSON.

A program of its own, because Triton decides at its first import whether to interpret.
"""

import copy
import json
import sys

from tests.unit import interpreted  # noqa: F401


def products() -> dict:
    """Of ``linear``: the largest error as a part of the sum of absolute terms, that of silu, and rows not finite."""
    import torch

    from mlff_distiller.kernels.split import SplitMatrix
    from mlff_distiller.kernels.triton.linear import LinearTiles, linear

    torch.manual_seed(0)
    # Tiles that are not full along any side, and values that half precision could not hold.
    x, weight, bias = torch.randn(37, 40) * 1e6, torch.randn(21, 40) * 1e-6, torch.randn(21)
    x[3], x[4] = 0.0, 1e-5 * x[4]
    base, hidden = torch.randn(37, 21), torch.randn(37, 21)
    terms = x.double().abs() @ weight.double().abs().T + bias.abs() + base.abs()
    slope = torch.sigmoid(hidden.double()) * (1 + hidden.double() * (1 - torch.sigmoid(hidden.double())))
    wanted = (x.double() @ weight.double().T + bias + base) * slope
    split, tiles = SplitMatrix.of(weight).T, LinearTiles(rows=16, columns=16, inner=16, warps=1, stages=1)
    out, active = base.clone(), torch.empty_like(base)
    linear(x, split, out, bias=bias, base=out, active=active, slope_of=hidden, tiles=tiles)
    found = {
        "error": float(((out - wanted).abs() / terms).max()),
        "active": float((active - torch.nn.functional.silu(out)).abs().max()),
    }
    x[5, 0], x[6, 39] = float("inf"), float("nan")
    linear(x, split, out, tiles=tiles)
    return found | {"lost": (~torch.isfinite(out)).all(dim=1).nonzero().flatten().tolist()}


def small_cell_error(potential, exact, name: str, dtype) -> float:
    """The largest error of forces, as a part of the largest pull, on rows of neighbors with images of one atom in them."""
    import torch

    from mlff_distiller.kernels.triton.program import Program
    from tests.unit.potentials.small_cells import counted_edges, right_answer, small_cell

    numbers, positions, _, cell, pbc = arguments = small_cell(name)
    receivers, senders, translations = counted_edges(positions, cell[0], pbc[0].tolist(), exact.cutoff)
    capacity = int(torch.bincount(receivers).max())
    program = Program(potential.packed, len(numbers), 1, capacity, potential.precision)
    program.numbers.copy_(numbers)
    program.starts.copy_(torch.tensor([0, len(numbers)]))
    program.counts.copy_(torch.bincount(receivers))
    for atom in range(len(numbers)):
        own = receivers == atom
        vectors = (positions[senders[own]] - positions[atom] + translations[own]).to(dtype)
        distances = vectors.norm(dim=1, keepdim=True)
        program.neighbors[atom, : len(vectors)] = senders[own].to(torch.int32)
        program.geometry[atom, : len(vectors)] = torch.cat([vectors / distances, distances], dim=1)
    # The kernels search no periodic systems: the rest of them must be right all the same.
    program.find_neighbors = lambda: None
    program.launch()
    _, forces, pull = right_answer(exact, *arguments)
    return float((program.forces - forces).abs().max()) / max(1.0, pull)


def deviations(potential, reference, numbers, positions, batch) -> dict:
    """The largest errors of energies and forces, and how large those are; ``positions`` in float64."""
    import torch

    positions = positions.to(potential.dtype)
    energies, forces = reference(numbers, positions.to(torch.float64), batch)
    found, found_forces = potential(numbers, positions, batch)
    only = potential.energy(numbers, positions, batch)
    receivers, senders, _ = potential.neighbors(positions, batch)
    wanted = reference.neighbors(positions.to(torch.float64), batch)
    return {
        "energy": float((found - energies).abs().max()),
        "energy_only": float((only - energies).abs().max()),
        "height": float(energies.abs().max()),
        "force": float((found_forces - forces).abs().max()),
        "scale": float(forces.abs().max()),
        "same_edges": torch.equal(receivers, wanted[0]) and torch.equal(senders, wanted[1]),
    }


def room(student) -> dict:
    """Whether an atom that is lost makes its system NaN, and that alone, and how much room for neighbors is left behind."""
    import torch

    from mlff_distiller.potentials import triton as potentials

    potentials.FIRST_CAPACITY = potentials.ALWAYS_ENOUGH = 16
    potential = potentials.TritonPotential(student, precision="ieee")
    numbers, batch = torch.ones([20], dtype=torch.int64), torch.tensor([0] * 18 + [1] * 2)
    positions = 3.0 * torch.arange(60, dtype=student.dtype).reshape(20, 3).cos() + 9.0 * torch.arange(20)[:, None]
    right = potential(numbers, positions, batch)
    positions[17, 1] = torch.nan
    energies, forces = potential(numbers, positions, batch)
    found = {
        "lost": bool(energies[0].isnan() and forces[:18].isnan().all()),
        "others": torch.equal(energies[1], right[0][1]) and torch.equal(forces[18:], right[1][18:]),
        "kept": potential.capacity,
    }
    potential(numbers, positions.nan_to_num() * 0.02, batch)
    found["crowded"] = potential.capacity
    potential.release()
    return found | {"released": potential.capacity}


def main() -> None:
    """Print the largest deviations of energies and forces for the sizes given, e.g. ``float64 3,5 20``."""
    import torch

    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.potentials.triton import TritonPotential
    from mlff_distiller.student import wall
    from mlff_distiller.student.painn import StudentConfig, StudentForceField
    from tests.unit.student.test_wall import squeezed

    dtype = getattr(torch, sys.argv[1])
    torch.manual_seed(0)
    config = StudentConfig(n_features=32, mlp_width=24, readout_width=12, n_radial=20, norm_epsilon=0.02)
    exact = StudentForceField(config).to(torch.float64).requires_grad_(False)
    with torch.no_grad():
        exact.network.embedding.weight.mul_(3.0)
        exact.network.readout_out.weight.mul_(20.0)
        # Walls that begin beyond the bonds, so that molecules meet them.
        exact.network.wall.copy_(wall.pair_table(1.1 * wall.bond_lengths(config.max_atomic_number)))
    exact.reference_energies.normal_()
    potential = TritonPotential(copy.deepcopy(exact).to(dtype), precision="ieee")
    reference = AutogradPotential(exact)
    rows = []
    for sizes in sys.argv[2:]:
        sizes = [int(size) for size in sizes.split(",")]
        n_atoms = sum(sizes)
        numbers = torch.randint(1, 10, [n_atoms])
        batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        for spread in (1.3, 2.2):  # the second call of the same topology: atoms have crossed the cutoff
            positions = torch.randn(n_atoms, 3, dtype=torch.float64) * spread * max(sizes) ** (1 / 3)
            rows.append({"sizes": sizes} | deviations(potential, reference, numbers, positions, batch))
    walls = [
        {"share": share} | deviations(potential, reference, *squeezed(exact, share)) for share in (0.3, 0.6, 0.8, 0.95)
    ]
    images = [
        small_cell_error(potential, exact, name, dtype)
        for name in ("H in 2.4 A", "graphene", "N2 along x in 3.8 A", "chain")
    ]
    # A position that is not a number must show, also where the atom is alone.
    lost = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [float("nan"), 0.0, 0.0]], dtype=dtype)
    numbers, batch = torch.tensor([1, 8, 1]), torch.tensor([0, 0, 1])
    _, forces = potential(numbers, lost, batch)
    nan = {"own": bool(forces[2].isnan().any()), "others": bool(forces[:2].isnan().any())}
    print(
        json.dumps(
            {"rows": rows, "walls": walls, "images": images, "nan": nan}
            | {"products": products(), "room": room(potential.student)}
        )
    )


if __name__ == "__main__":
    main()
