"""A bundle of a small student, for all engines."""

import pytest

from mlff_distiller.student.checkpoint import save_student
from tests.conftest import make_student
from tests.fuzz.readers import write_small_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    student = make_student(n_features=16, mlp_width=16, readout_width=8, n_blocks=2)
    card = {"data": {"atoms_by_atomic_number": {"1": 4, "6": 2, "7": 1, "8": 3}}}
    return write_small_bundle(folder / "small", save_student(folder / "student.safetensors", student, card)).parent
