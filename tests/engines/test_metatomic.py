"""Students as metatomic models: the fp64 student's numbers in metatomic's own calculator, its refusals, the page's example."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.deploy.engines import examples
from mlff_distiller.sources import ROOT
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.errors import UserError
from tests.conftest import MOLECULES
from tests.engines import needed

metatomic_ase = needed.module("metatomic_ase", "metatomic")

from metatensor.torch import Labels  # noqa: E402 (only where there is metatomic)
from metatomic.torch import ModelOutput  # noqa: E402

from mlff_distiller.deploy.engines.metatomic import export  # noqa: E402


@pytest.fixture(scope="module")
def model(bundle, tmp_path_factory):
    return export(bundle, tmp_path_factory.mktemp("model") / "student.pt")


def plain(name, periodic=False):
    atoms = load_system(name, MOLECULES)
    atoms.info.clear()
    if periodic:
        # Too short for the molecule to miss its images.
        atoms.set_cell([[11.5, 0.4, 0], [1.1, 10.5, 0], [-0.5, 2.0, 7.5]])
        atoms.pbc = True
        atoms.positions += [3.0, -17.0, 40.0]
    return atoms


def calculator_of(model):
    return metatomic_ase.MetatomicCalculator(model, device="cpu", check_consistency=True)


@pytest.mark.parametrize("periodic", [False, True])
def test_it_equals_the_fp64_student(bundle, model, periodic):
    atoms = plain("caffeine", periodic)
    exact = atoms.copy()
    exact.calc = StudentCalculator.from_checkpoint(bundle / "student.safetensors", dtype="float64")
    atoms.calc = calculator_of(model)
    assert atoms.get_potential_energy() == pytest.approx(exact.get_potential_energy(), abs=1e-4)
    # The network computes in float32.
    np.testing.assert_allclose(atoms.get_forces(), exact.get_forces(), atol=1e-3)
    assert np.abs(exact.get_forces()).max() > 1
    if periodic:
        np.testing.assert_allclose(atoms.get_stress(), exact.get_stress(), atol=1e-5)
        assert np.abs(exact.get_stress()).max() > 1e-3


def test_energies_of_atoms_and_of_some_of_them(model):
    calculator, systems = calculator_of(model), [plain("water"), plain("methane")]

    def computed(kind, selected=None):
        outputs = {"energy": ModelOutput(unit="eV", sample_kind=kind)}
        return calculator.run_model(systems, outputs, selected)["energy"].block()

    whole, atoms = computed("system"), computed("atom")
    assert atoms.samples.values.tolist() == [*([0, k] for k in range(3)), *([1, k] for k in range(5))]
    torch.testing.assert_close(whole.values[0, 0], atoms.values[:3].sum())
    torch.testing.assert_close(whole.values[1, 0], atoms.values[3:].sum())
    chosen = Labels(["system", "atom"], torch.tensor([[0, 2], [1, 0], [1, 4]], dtype=torch.int32))
    some = computed("atom", chosen)
    torch.testing.assert_close(some.values[:, 0], atoms.values[[2, 3, 7], 0])
    summed = computed("system", chosen)
    torch.testing.assert_close(summed.values[:, 0], torch.stack([atoms.values[2, 0], atoms.values[[3, 7], 0].sum()]))


def test_what_the_calculator_refuses_is_refused(bundle, model, tmp_path):
    fluoride, close = plain("water"), plain("water")
    fluoride.numbers[1] = 9
    fluoride.calc = calculator_of(model)
    with pytest.raises(ValueError, match="does not support the atomic type '9'"):
        fluoride.get_potential_energy()
    close.positions[1] = close.positions[0] + 0.3
    close.calc = calculator_of(model)
    with pytest.raises(
        torch.jit.Error, match=r"atoms [01] and [01] \(elements .*closer than anything that the student learned"
    ):
        close.get_potential_energy()
    insisting = calculator_of(export(bundle, tmp_path / "insisting.pt", allow=("elements", "distances")))
    for atoms in (fluoride, close):
        atoms.calc = insisting
        assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(UserError, match=r"metatomic models are files \*.pt"):
        export(bundle, tmp_path / "student.bin")
    with pytest.raises(UserError, match="no bundle"):
        export(tmp_path, tmp_path / "student.pt")
    with pytest.raises(UserError, match="allow: cannot be 'element'; did you mean 'elements'"):
        export(bundle, tmp_path / "student.pt", allow=("element",))


def test_the_file_needs_nothing_of_this_package(model):
    program = (
        "import sys; sys.path[:] = [p for p in sys.path if not p.rstrip('/').endswith('workflow')]\n"
        "from metatomic_ase import MetatomicCalculator\nfrom ase.build import molecule\n"
        f"water = molecule('H2O'); water.calc = MetatomicCalculator({str(model)!r}, device='cpu')\n"
        "print(water.get_potential_energy()); assert not any(name.startswith('mlff') for name in sys.modules)"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0


def test_the_example_runs_and_is_that_of_the_page(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    examples.write(copy, ["metatomic"], plain("water"))
    assert examples.attempt(copy, "metatomic") == {"status": "ok", "reason": ""}
    page = (ROOT.parents[1] / "docs" / "metatomic.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    program = program.replace("results/default/deploy/one_molecule", str(bundle))
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "student.pt").is_file()
