"""What the tests of an engine need. Where it is not installed they are skipped, or, in `make test-engines`, fail."""

import importlib
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

from mlff_distiller.deploy.engines.known import ENGINES

#: Set where all engines must be there.
ALL = "TEST_ENGINES"
#: Programs lie beside the interpreter, or wherever the shell finds them.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def module(name, of):
    """The module ``name`` of the engine ``of``; without it, the module of tests that calls this ends here."""
    if importlib.util.find_spec(name) is None:
        _missing(of)
    return importlib.import_module(name)


def program(name, of):
    """The path of the program ``name`` of the engine ``of``; without it as :func:`module`."""
    found = shutil.which(name, path=PATH)
    if found is None:
        _missing(of)
    return found


def _missing(of):
    engine = ENGINES[of]
    words = f"{engine.title} is not installed: {engine.install}"
    if os.environ.get(ALL):
        pytest.fail(words, pytrace=False)
    pytest.skip(words, allow_module_level=True)
