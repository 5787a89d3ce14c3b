"""Fuzzing of one reader, guided by which lines of this package and of ASE its inputs reach.

pip install atheris
PYTHONPATH=workflow:. python tests/fuzz/with_atheris.py labels -max_total_time=3600
"""

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mlff_distiller", "ase.io"]):
    import mlff_distiller.data.read
    import mlff_distiller.deploy.bundle
    import mlff_distiller.preflight.config_checks
    import mlff_distiller.systems.read  # noqa: F401 (imported here to be instrumented)
    from mlff_distiller.utils.errors import UserError
    from tests.fuzz.readers import readers


def main() -> None:
    """``with_atheris.py READER [options of libFuzzer]``"""
    what = sys.argv.pop(1)
    folder = Path(tempfile.mkdtemp())
    reader = readers(folder)[what]
    corpus = folder / "corpus"
    corpus.mkdir()
    (corpus / reader.name).write_bytes(reader.sound)
    path = (folder / "bundle" if what == "bundle" else folder) / reader.name

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(UserError):
            reader.read(path)

    warnings.simplefilter("ignore")
    atheris.Setup([*sys.argv, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
