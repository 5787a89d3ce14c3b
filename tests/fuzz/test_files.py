"""Damaged checkpoints, structures, labels, bundles and configurations are read, or refused with what to do; no traceback.

``make fuzz`` tries more: a tenth of its N calls. A failure says where the file is kept.
"""

import os
import warnings

import numpy as np
import pytest

from mlff_distiller.utils.errors import UserError
from tests.fuzz.readers import damaged, readers

SEED = int(os.environ.get("FUZZ_SEED", "0"))
FILES = max(500, int(os.environ.get("FUZZ_CALLS", "0")) // 10)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("sound"))


@pytest.mark.parametrize("what", ["checkpoint", "structure", "labels", "bundle", "configuration"])
def test_sound_files_are_read(known, tmp_path_factory, what):
    folder = tmp_path_factory.getbasetemp() / "sound0"
    reader = known[what]
    path = (folder / "bundle" if what == "bundle" else folder) / reader.name
    path.write_bytes(reader.sound)
    reader.read(path)


@pytest.mark.timeout(0)
def test_damaged_files_are_refused_by_name(known, tmp_path_factory):
    sound = tmp_path_factory.getbasetemp() / "sound0"
    kept = tmp_path_factory.mktemp("damaged")
    refused = 0
    for number in range(FILES):
        what = list(known)[number % len(known)]
        reader = known[what]
        path = (sound / "bundle" if what == "bundle" else sound) / reader.name
        contents = damaged(reader.sound, np.random.default_rng([SEED, number]))
        path.write_bytes(contents)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                reader.read(path)
            except UserError:
                refused += 1
            except BaseException as error:
                (kept / reader.name).write_bytes(contents)
                pytest.fail(
                    f"{what} {number} of seed {SEED}: {type(error).__name__}: {error}\nkept: {kept / reader.name}"
                )
            finally:
                path.write_bytes(reader.sound)
    assert refused > FILES / 3
