"""A bundle that must not be run: refused where an engine takes it, in the same words whatever the engine."""

import json
import shutil

import pytest

from mlff_distiller.student.checkpoint import save_student
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.errors import UserError
from tests.conftest import MOLECULES, make_student
from tests.engines import needed


def water():
    atoms = load_system("water", MOLECULES)
    atoms.info.clear()
    return atoms


def by_openmm(bundle, folder):
    needed.module("openmmml", "openmm")
    from mlff_distiller.deploy.engine_runs.openmm import Runner, topology_of

    # The force is made with the system.
    Runner(bundle, folder, 1).potential.createSystem(topology_of(water()))


def by_ipi(bundle, folder):
    needed.module("ipi", "ipi")
    from mlff_distiller.deploy.engines.ipi import StudentDriver

    water().write(folder / "start.extxyz")
    StudentDriver(folder / "start.extxyz", bundle)


def by_torchsim(bundle, folder):
    needed.module("torch_sim", "torchsim")
    from mlff_distiller.deploy.engines.torchsim import StudentModel

    StudentModel(bundle)


def by_metatomic(bundle, folder):
    needed.module("metatomic_ase", "metatomic")
    from mlff_distiller.deploy.engines.metatomic import export

    export(bundle, folder / "student.pt")


ENGINES = [by_openmm, by_ipi, by_torchsim, by_metatomic]


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def edited(copy, **fields):
    file = copy / "bundle.json"
    document = json.loads(file.read_text())
    document["records"][0] |= fields
    file.write_text(json.dumps(document))


@pytest.mark.parametrize("taken", ENGINES)
def test_one_of_a_newer_version(copy, tmp_path, taken):
    edited(copy, bundle_version=99)
    with pytest.raises(UserError, match=r"bundle of version 99; this program reads 1 to \d+: update it"):
        taken(copy, tmp_path)


@pytest.mark.parametrize("taken", ENGINES)
def test_one_with_the_weights_of_another_student(copy, tmp_path, taken):
    save_student(copy / "student.safetensors", make_student(n_features=16, n_blocks=1))
    with pytest.raises(
        UserError, match=r"student.safetensors has another hash than its metadata says; the bundle is damaged"
    ):
        taken(copy, tmp_path)


@pytest.mark.parametrize("taken", ENGINES)
def test_one_that_says_why_there_is_none(copy, tmp_path, taken):
    edited(copy, status="unavailable", reason="no variant is faster")
    with pytest.raises(UserError, match="there is no winner to load: no variant is faster"):
        taken(copy, tmp_path)
