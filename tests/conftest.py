"""What the tests share: the benchmark molecules, and students with random but fixed weights."""

import argparse
import os
import subprocess
from pathlib import Path

import pytest

# Threads of OpenMP that wait for work keep cores busy: where two tests share two cores, each then takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

EMULATION = Path(__file__).parent / "cuda"
MOLECULES = Path(__file__).parent.parent / "resources" / "molecules"


@pytest.fixture(scope="session")
def molecules():
    """The benchmark molecules by name, as ase.Atoms."""
    from mlff_distiller.systems.read import read_systems

    return read_systems(sorted(MOLECULES.glob("*.extxyz")))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """PyTorch in one thread: small tensors gain nothing from more, and results repeat exactly."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def small_numbers():
    """No test may leave the process rounding small numbers to zero, as libraries compiled with -ffast-math do."""
    yield
    if 1e-310 * 1.0 == 0.0:
        import torch

        torch.set_flush_denormal(False)
        pytest.fail("numbers below 2e-308 are rounded to zero since this test")


@pytest.fixture(scope="session")
def student():
    """A student of the default size, fp32, random weights that give forces of chemical size."""
    return make_student()


@pytest.fixture(scope="session")
def student64():
    """The same weights in fp64."""
    import torch

    return make_student().to(torch.float64)


def make_student(**config):
    """A student with fixed random weights; ``config`` as for StudentConfig, ``neighbors`` too."""
    import torch

    from mlff_distiller.student import wall
    from mlff_distiller.student.painn import StudentConfig, StudentForceField

    neighbors = config.pop("neighbors", "native")
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = StudentForceField(StudentConfig(**config), neighbors=neighbors)
        # The default initialization of the readout gives forces of meV/A; errors would hide in them.
        with torch.no_grad():
            made.network.readout_out.weight.mul_(30.0)
        made.reference_energies[1:20] = -torch.linspace(10.0, 2000.0, 19, dtype=torch.float64)
        # Walls that begin beyond the bonds, so that whatever is computed of a molecule meets them.
        made.network.wall.copy_(wall.pair_table(1.1 * wall.bond_lengths(made.config.max_atomic_number)))
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def emulate(tmp_path_factory):
    """The folder with the kernels as libraries for the CPU, of a student's sizes and with one form of the molecule kernel."""
    from mlff_distiller.kernels.cuda.build import FORMS, SOURCE, definitions

    made = {}

    def compile_one(config, name, form):
        if (config, name, form) not in made:
            library = tmp_path_factory.mktemp("emulated") / f"{name}.so"
            flags = ["-O2", "-std=c++17", "-shared", "-fPIC", "-DCUDA_EMULATION", f"-I{SOURCE}", *definitions(config)]
            flags += FORMS[form].flags if form else []
            command = ["g++", *flags, str(EMULATION / f"{name}_emulated.cpp"), "-o", str(library)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            made[config, name, form] = library
        return made[config, name, form]

    def build(config, form="clusters"):
        folder = compile_one(config, "molecule", form).parent
        if not (folder / "neighbor_matrix.so").exists():
            (folder / "neighbor_matrix.so").symlink_to(compile_one(config, "neighbor_matrix", None))
        return folder

    return build


@pytest.fixture(scope="session")
def emulated(emulate):
    """The kernels of the default sizes as libraries for the CPU, by name."""
    from mlff_distiller.student.painn import StudentConfig

    folder = emulate(StudentConfig())
    return {name: folder / f"{name}.so" for name in ("molecule", "neighbor_matrix")}


def run_stage(module, **arguments):
    """Run a stage as the command line does, with defaults for what is not given."""
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    words = []
    for name, value in arguments.items():
        words += [f"--{name.replace('_', '-')}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    assert module.run(parser.parse_args(words)) == 0
