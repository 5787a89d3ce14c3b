"""The wheel holds what a user of a bundle needs, and runs far from the checkout."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest

from mlff_distiller.sources import ROOT

CHECKOUT = ROOT.parents[1]
VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
#: Of the workflow, not of who runs a bundle: slow to import, and not among the package's dependencies.
HEAVY = ("h5py", "jinja2", "matplotlib", "pandas", "rdkit", "rich", "snakemake", "tblite", "yaml")
PROGRAM = f"""
import sys
sys.path.insert(0, sys.argv[1])
from mlff_distiller.calculator import StudentCalculator
from ase import Atoms
atoms = Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]])
atoms.calc = StudentCalculator.from_checkpoint(sys.argv[2])
print(atoms.get_potential_energy())
print(*sorted(set(sys.modules) & set({HEAVY})))
print(sys.modules["mlff_distiller"].__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy: setuptools would put into it what an earlier build left in the checkout."""
    copy = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    shutil.copytree(ROOT, copy / "workflow" / ROOT.name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "--wheel-dir", "dist"], cwd=copy, check=True, timeout=120, capture_output=True)
    (made,) = (copy / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The wheel in a folder of its own; what it needs is in this Python."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", folder, wheel]
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    information = f"mlff_distiller-{VERSION}.dist-info"
    assert {name.partition("/")[0] for name in names} == {"mlff_distiller", information}
    assert f"{information}/licenses/LICENSE" in names
    files = {path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.suffix for path in files} >= {".py", ".h", ".cpp", ".hpp", ".cu", ".cuh", ".j2"}
    assert {path.relative_to(ROOT.parent).as_posix() for path in files} <= names


def test_it_asks_for_versions_as_wide_as_they_were_tried(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"mlff_distiller-{VERSION}.dist-info/METADATA").decode()
    required = re.findall(r"(?m)^Requires-Dist: ([\w-]+)([^;\n]*)$", metadata)
    assert {name for name, _ in required} == {"ase", "numpy", "pydantic", "safetensors", "scipy", "torch", "vesin"}
    assert all(re.fullmatch(r"(>=[\d.]+)?", versions) for _, versions in required)


def test_it_computes_far_from_the_checkout_and_imports_nothing_heavy(installed, tmp_path):
    checkpoint = CHECKOUT / "resources" / "student" / "student.safetensors"
    command = [sys.executable, "-I", "-c", PROGRAM, installed, checkpoint]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    energy, heavy, file = done.stdout.splitlines()
    assert -140 < float(energy) < -130
    assert heavy == ""
    assert file == str(installed / "mlff_distiller" / "__init__.py")


def test_the_command_is_installed(installed, tmp_path):
    command = [installed / "bin" / "mlff-distiller", "validate", "--help"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--amplitude" in done.stdout
