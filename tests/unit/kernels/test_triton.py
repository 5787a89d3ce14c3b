"""The Triton kernels under Triton's interpreter; on a GPU also as compiled."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]


def interpret(dtype: str, *sizes: str) -> dict:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'workflow'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "triton_interpreter.py"), dtype, *sizes],
        capture_output=True,
        text=True,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 5e-6)])
def test_energies_and_forces_equal_autograd(dtype, tolerance):
    """One molecule, several of different size in one batch, a single atom, and a tile that is not full; atoms in walls."""
    found = interpret(dtype, "3", "5,1,2", "18")
    assert len(found["rows"]) == 6
    assert len(found["walls"]) == 4
    for row in found["rows"] + found["walls"]:
        assert row["same_edges"], row
        # In a wall energies are tens to hundreds of eV.
        assert row["energy"] < tolerance * max(10.0, row["height"]), row
        assert row["energy_only"] == row["energy"], row
        assert row["force"] < tolerance * max(1.0, row["scale"]), row
    assert any(row["scale"] > 0.05 for row in found["rows"])
    assert max(found["images"]) < tolerance * 10
    assert found["nan"] == {"own": True, "others": False}
    assert found["room"] == {"lost": True, "others": True, "kept": 16, "crowded": 32, "released": 16}
    assert found["products"]["error"] < 3e-7
    assert found["products"]["active"] < 1e-5
    assert found["products"]["lost"] == [5, 6]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32x3", 1e-4), ("ieee", 1e-4), ("tf32", 1e-1), ("bf16", 1.0)])
@pytest.mark.parametrize("graph", [True, False])
def test_compiled_kernels_equal_autograd(student, student64, precision, tolerance, graph):
    from mlff_distiller.potentials.autograd import AutogradPotential
    from mlff_distiller.potentials.triton import TritonPotential
    from tests.unit.student.test_wall import squeezed

    potential = TritonPotential(copy.deepcopy(student).to("cuda"), precision=precision, graph=graph)
    reference = AutogradPotential(student64)
    generator = torch.Generator().manual_seed(1)

    def check(numbers, positions, batch):
        energies, forces = reference(numbers, positions.double(), batch)
        found, found_forces = potential(numbers.to("cuda"), positions.to("cuda"), batch.to("cuda"))
        scale = forces.abs().max().item()
        assert (found_forces.cpu() - forces).abs().max() < tolerance * max(scale, 1.0)
        # Atoms that are thrown at random can be so close that their repulsion is most of the energy.
        atoms = reference.student.reference_energies[numbers]
        height = energies.index_add(0, batch, -atoms).abs().max().item()
        assert (found.cpu() - energies).abs().max() < tolerance * max(len(numbers), height)

    for share in (0.3, 0.6, 0.8, 0.95):
        numbers, positions, batch = squeezed(student64, share)
        check(numbers, positions.float(), batch)
    for sizes in ([3], [24, 5, 1], [102], [300]):
        n_atoms = sum(sizes)
        numbers = torch.randint(1, 10, [n_atoms], generator=generator)
        batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        for spread in (1.3, 2.2, 1.0):
            check(numbers, torch.randn(n_atoms, 3, generator=generator) * spread * max(sizes) ** (1 / 3), batch)
