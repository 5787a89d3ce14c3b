"""What is handed over is refused where its stress alone is wrong, and where it has none nothing is asked of it."""

import pytest

from mlff_distiller.deploy.proof import not_equivalent
from mlff_distiller.potentials.analytic import AnalyticPotential
from mlff_distiller.potentials.base import Potential
from mlff_distiller.student.checkpoint import load_student, save_student
from tests.conftest import make_student


class Scaled(AnalyticPotential):
    """Right but for its stress, which is a thousandth too large."""

    def with_stress(self, *args):
        energies, forces, stresses = super().with_stress(*args)
        return energies, forces, stresses * 1.001


class WithoutStress(AnalyticPotential):
    with_stress = Potential.with_stress


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    small = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    return save_student(tmp_path_factory.mktemp("student") / "student.safetensors", small)


@pytest.mark.parametrize(
    ("potential", "complaint"),
    [
        (AnalyticPotential, ""),
        (WithoutStress, ""),
        (Scaled, "on small cell: error of stress times volume against fp64"),
    ],
)
def test_a_wrong_stress_is_refused(checkpoint, molecules, potential, complaint):
    found = not_equivalent(potential(load_student(checkpoint)), checkpoint, "float32", [molecules["water"]])
    assert found.startswith(complaint) if complaint else found == ""
