"""What the preflight refuses: molecules that the student cannot know."""

import pytest
from ase import Atoms
from ase.build import molecule

from mlff_distiller.preflight.inputs import check_elements
from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.student.painn import StudentConfig, StudentForceField
from mlff_distiller.utils.errors import UserError

XENON = Atoms("XeH", [[0, 0, 0], [0, 0, 1.6]])


@pytest.fixture
def checkpoint(tmp_path):
    def write(card, **sizes):
        student = StudentForceField(StudentConfig(n_features=8, n_blocks=1, mlp_width=8, readout_width=8, **sizes))
        return save_student(tmp_path / "student.safetensors", student, card)

    return write


def test_an_element_that_was_not_in_the_training_data_is_refused(checkpoint):
    path = checkpoint({"data": {"atoms_by_atomic_number": {"1": 10, "6": 5, "8": 2}}})
    check_elements({"ethanol": molecule("CH3CH2OH")}, path)
    with pytest.raises(UserError, match=r"strange: .* knows nothing of Xe; it was trained on H, C, O"):
        check_elements({"ethanol": molecule("CH3CH2OH"), "strange": XENON}, path)


def test_without_a_card_the_size_of_the_embedding_decides(checkpoint):
    check_elements({"strange": XENON}, checkpoint({}))
    with pytest.raises(UserError, match="knows nothing of Xe; it was trained on atomic numbers up to 20"):
        check_elements({"strange": XENON}, checkpoint({}, max_atomic_number=20))
