"""What a bundle is told, before anything of it is read."""

import pytest

from mlff_distiller.deploy.bundle import load_bundle
from mlff_distiller.utils.errors import UserError


def test_text_for_the_choice_to_build_again_is_refused(tmp_path):
    with pytest.raises(UserError, match="rebuild: expected True or False, got 'false'"):
        load_bundle(tmp_path, rebuild="false")
