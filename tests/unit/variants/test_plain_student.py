"""What variants are compared with is the student itself, in the precision that it says."""

import torch

from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.systems.batch import Batch
from mlff_distiller.variants.plain_student import fp32_baseline, fp64_reference
from tests.conftest import make_student


def test_the_reference_is_fp64_and_the_baseline_fp32(tmp_path, molecules):
    checkpoint = save_student(tmp_path / "student.safetensors", make_student(n_features=16, mlp_width=8))
    reference, baseline = fp64_reference(checkpoint), fp32_baseline(checkpoint, "cpu")
    assert (reference.dtype, reference.device.type, baseline.dtype) == (torch.float64, "cpu", torch.float32)
    for neighbors in ("native", "auto"):
        same = Batch.from_atoms([molecules["benzene"]], "cpu", torch.float64)
        energy, forces = fp64_reference(checkpoint, neighbors)(*same)
        exact = reference(*same)
        assert torch.allclose(energy, exact[0], rtol=0, atol=1e-12)
        assert torch.allclose(forces, exact[1], rtol=0, atol=1e-12)
