"""The C++ kernel under the address and undefined-behavior sanitizers, on the test molecules and on hostile input."""

import os
import subprocess
from pathlib import Path

import pytest

from mlff_distiller.kernels.cpu.build import HERE
from mlff_distiller.utils.compilers import find_compiler

MOLECULES = sorted((Path(__file__).parents[2] / "resources" / "molecules").glob("*.extxyz"))
# Small widths that fill no whole vector, so that padding is at work, and the default ones.
ODD = {"FEATURES": 37, "MLP": 13, "READOUT": 5, "LAYERS": 2, "RADIAL": 20}
DEFAULT = {"FEATURES": 128, "MLP": 80, "READOUT": 96, "LAYERS": 3, "RADIAL": 20}


@pytest.mark.parametrize(
    ("real", "sizes", "processor", "more"),
    [
        ("float", ODD, "x86-64", []),
        ("double", ODD, "native", ["-DMLFF_SCALAR"]),
        ("float", DEFAULT, "native", []),
    ],
    ids=["float-on-a-plain-processor", "double-without-vectors", "default-sizes"],
)
def test_the_kernel_is_clean_under_sanitizers(tmp_path, real, sizes, processor, more):
    driver = tmp_path / "driver"
    if processor == "x86-64" and os.uname().machine != "x86_64":
        pytest.skip("x86-64 code on another processor")
    command = [
        *find_compiler(),
        "-std=c++17",
        "-O1",
        "-g",
        "-fopenmp",
        f"-march={processor}",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        *more,
        f"-DMLFF_REAL={real}",
        *[f"-DMLFF_{name}={value}" for name, value in sizes.items()],
        f"-I{HERE}",
        str(Path(__file__).with_name("driver.cpp")),
        "-o",
        str(driver),
    ]
    subprocess.run(command, check=True, timeout=400)
    done = subprocess.run([driver, *MOLECULES], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"{len(MOLECULES) + 100} systems passed\n"
    assert "runtime error" not in done.stderr
