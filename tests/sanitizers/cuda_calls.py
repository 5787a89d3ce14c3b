"""Calls of the CUDA kernels at their edges, for NVIDIA's compute-sanitizer on a machine with a GPU (``sanitize_cuda.sh``).

``cuda_calls.py [NAME ...]``: only these calls.
"""

import sys

import torch
from ase import Atoms
from ase.build import graphene

from mlff_distiller.calculator import Batch
from mlff_distiller.potentials.cuda import CudaPotential
from tests.conftest import make_student


def molecule(n_atoms, seed):
    """``n_atoms`` of nine elements, some 2 A apart."""
    generator = torch.Generator().manual_seed(seed)
    sites = torch.randperm(7**3, generator=generator)[:n_atoms]
    grid = torch.stack([sites // 49, sites // 7 % 7, sites % 7], 1) * 2.0
    return Atoms(torch.randint(1, 10, [n_atoms], generator=generator).numpy(), grid.numpy())


def main():
    """One call of each kind, with forces."""
    potential = CudaPotential(make_student().to("cuda"))
    flat = graphene(a=2.46, vacuum=None, size=(1, 1, 1))
    flat.cell[2, 2], flat.pbc = 12.0, True
    thin = Atoms("CO", [[0, 0, 0], [1.2, 0, 0]], cell=[[2.4, 0, 0], [0.7, 9, 0], [0, 1, 14]], pbc=True)
    calls = {f"{n} atoms": [molecule(n, n)] for n in (1, 24, 105, 106, 120)}
    calls |= {"a batch": [molecule(n, n) for n in (3, 24, 41, 1, 60)], "graphene": [flat], "a thin cell": [thin]}
    for name in sys.argv[1:] or calls:
        systems = calls[name]
        energies, forces = potential(*Batch.from_atoms(systems, "cuda"))
        torch.cuda.synchronize()
        print(f"{name}: {energies.tolist()[0]:.3f} eV, at most {forces.abs().max():.3f} eV/A", flush=True)


if __name__ == "__main__":
    main()
