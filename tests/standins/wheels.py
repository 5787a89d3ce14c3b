"""Small torch-cluster packages, made on the spot: wheels in pure Python, and source archives with one C++ file.

The Python in them is a working torch_cluster as far as this project's own check goes: ``radius()`` from ``torch.cdist``
and the operator ``cuda_version``. It serves the tests of choosing, fetching, building and keeping, which the real
package (minutes to build) would make slow; that the real one works is shown by the integration tests.
"""

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

VERSION = "1.6.3"
WORKING = """
import torch
__version__ = "{version}"
MARK = "{mark}"
_library = torch.library.Library("torch_cluster", "DEF")
_library.define("cuda_version() -> int")
_library.impl("cuda_version", lambda: -1, "CompositeExplicitAutograd")


def radius(x, y, r, batch_x, batch_y):
    near = (torch.cdist(y, x) <= r) & (batch_y[:, None] == batch_x[None, :])
    return near.nonzero().t()
"""
#: Imports, and finds no pairs at all.
WRONG = WORKING.replace("near.nonzero()", "(near & False).nonzero()")
#: Fails as an extension for another torch does.
FOREIGN = 'raise ImportError("_radius_cpu.so: undefined symbol: _ZN3c1017RegisterOperatorsD1Ev")\n'
_SETUP = """
import time
from setuptools import Extension, setup
time.sleep({seconds})
setup(name="torch_cluster", version="{version}", packages=["torch_cluster"],
      ext_modules=[Extension("torch_cluster._tiny_cpu", ["csrc/tiny.cpp"])])
"""
_CPP = """
#include <Python.h>
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_tiny_cpu", nullptr, -1, nullptr};
PyMODINIT_FUNC PyInit__tiny_cpu() { return PyModule_Create(&definition); }
"""


def make_wheel(folder: Path, label: str = "", tag: str = "py3-none-any", code: str = WORKING) -> Path:
    """A wheel ``torch_cluster-1.6.3[+label]-tag.whl`` in ``folder``; ``torch_cluster.MARK`` is its label."""
    version = f"{VERSION}+{label}" if label else VERSION
    source = code.replace("{version}", VERSION).replace("{mark}", label or "unlabeled")
    info = f"torch_cluster-{version}.dist-info"
    files = {
        "torch_cluster/__init__.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: torch-cluster\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}"
        for name, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"torch_cluster-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def make_source_archive(folder: Path, cpp: str = _CPP, seconds: float = 0) -> tuple[Path, str]:
    """A source archive ``torch_cluster-1.6.3.tar.gz`` in ``folder`` whose set-up takes ``seconds`` more, and the lock
    line that pins it."""
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: torch-cluster\nVersion: {VERSION}\n",
        "setup.py": _SETUP.format(seconds=seconds, version=VERSION),
        "csrc/tiny.cpp": cpp,
        "torch_cluster/__init__.py": "from torch_cluster import _tiny_cpu\n"
        + WORKING.replace("{version}", VERSION).replace("{mark}", "built"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"torch_cluster-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"torch_cluster-{VERSION}/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, f"torch-cluster=={VERSION} --hash=sha256:{digest}\n"
