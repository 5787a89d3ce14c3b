"""Bundles in TorchSim: the calculator's numbers for batches, its refusals, MD and optimisation, the example of the page."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.deploy.engines import examples
from mlff_distiller.sources import ROOT
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.errors import UserError
from tests.conftest import MOLECULES
from tests.engines import needed

ts = needed.module("torch_sim", "torchsim")

from mlff_distiller.deploy.engines.torchsim import StudentModel  # noqa: E402 (only where there is TorchSim)

INTEGRATORS = getattr(ts, "Integrator", ts)  # ts.nve in TorchSim 0.3
OPTIMIZERS = getattr(ts, "Optimizer", ts.optimizers)
NAMES = ("water", "caffeine", "methane")


def plain(name):
    atoms = load_system(name, MOLECULES)
    atoms.info.clear()
    return atoms


def box(scale=1.0):
    atoms = plain("caffeine")
    atoms.set_cell([[11.5, 0.4, 0], [1.1, 10.5, 0], [-0.5, 2.0, 7.5]])
    atoms.pbc = True
    atoms.set_cell(scale * atoms.cell, scale_atoms=True)
    return atoms


def state_of(model, systems):
    return ts.io.atoms_to_state(systems, model.device, model.dtype)


def with_extra(state, key, value):
    """A state that says more of its systems, as models of charged systems ask for it."""
    if hasattr(ts.SimState, "from_state"):
        return ts.SimState.from_state(state, **{key: value})
    copy = state.clone()
    setattr(copy, key, value)
    return copy


def equal_the_calculator(bundle, found, systems, force_error=1e-3):
    calculator, start = StudentCalculator.from_bundle(bundle), 0
    for system, atoms in enumerate(systems):
        atoms.calc = calculator
        assert float(found["energy"][system]) == pytest.approx(atoms.get_potential_energy(), abs=1e-2)
        forces = found["forces"][start : start + len(atoms)].double().numpy()
        np.testing.assert_allclose(forces, atoms.get_forces(), atol=force_error)
        if "stress" in found:
            np.testing.assert_allclose(
                found["stress"][system].double().numpy(), atoms.get_stress(voigt=False), atol=1e-4
            )
        start += len(atoms)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_batches_equal_the_calculator(bundle, dtype):
    model, systems = StudentModel(bundle, dtype=dtype), [plain(name) for name in NAMES]
    found = model(state_of(model, systems))
    # A student with random weights amplifies the rounding of float32 positions.
    equal_the_calculator(bundle, found, systems, 1e-3 if dtype == torch.float64 else 5e-2)
    assert found["energy"].dtype == torch.float64
    assert found["forces"].dtype == dtype
    assert set(found) == {"energy", "forces"}


def test_boxes_have_a_stress(bundle):
    model = StudentModel(bundle, compute_stress=True)
    systems = [box(), box(1.05)]
    found = model(state_of(model, systems))
    assert found["stress"].shape == (2, 3, 3)
    equal_the_calculator(bundle, found, systems)
    assert found["stress"].abs().max() > 1e-3


def test_a_slab_is_periodic_along_two_axes(bundle):
    slab = box()
    slab.pbc = [True, True, False]
    model = StudentModel(bundle)
    state = state_of(model, [slab])
    if isinstance(state.pbc, bool):
        pytest.skip("TorchSim 0.3 has one periodicity for all axes, and takes the slab for a molecule")
    equal_the_calculator(bundle, model(state), [slab])


def test_what_the_calculator_refuses_is_refused(bundle):
    model = StudentModel(bundle)
    fluoride, close = Atoms("HF", [[0, 0, 0], [0, 0, 0.92]]), plain("water")
    with pytest.raises(UserError, match="is F, which the student never learned"):
        model(state_of(model, [plain("water"), fluoride]))
    insisting = StudentModel(bundle, allow="elements")
    assert insisting(state_of(insisting, [fluoride]))["energy"].isfinite().all()
    close.positions[1] = close.positions[0] + 0.3
    with pytest.raises(UserError, match=r"system 1 of the batch: atoms 0 .* closer than anything"):
        model(state_of(model, [plain("water"), close]))
    state = state_of(model, [plain("water"), plain("water")])
    for key, value in (("charge", [0, -1]), ("spin", [1, 3])):
        with pytest.raises(UserError, match=f"system 1 of the batch: info\\['{key}'\\] is"):
            model(with_extra(state, key, torch.tensor(value)))
    assert model(with_extra(state, "charge", torch.tensor([0.0, 0.0])))
    with pytest.raises(UserError, match="a molecule has no stress"):
        StudentModel(bundle, compute_stress=True)(state)
    with pytest.raises(UserError, match="no 'n_atom'; did you mean 'n_atoms'"):
        StudentModel(bundle, memory_scales_with="n_atom")
    with pytest.raises(UserError, match=r"dtype: expected torch.float64 or torch.float32, got torch.float16"):
        StudentModel(bundle, dtype=torch.float16)


def test_energy_is_conserved(bundle, tmp_path):
    model = StudentModel(bundle)
    # The student of the test has random weights, and stiff bonds.
    files = [str(tmp_path / f"{name}.h5md") for name in ("water", "methane")]
    kinetic = getattr(ts, "calc_kinetic_energy", None) or ts.quantities.calc_kinetic_energy
    calculators = {
        1: {
            "potential": lambda state: state.energy,
            "kinetic": lambda state: kinetic(masses=state.masses, momenta=state.momenta),
        }
    }
    ts.integrate(
        system=[plain("water"), plain("methane")],
        model=model,
        integrator=INTEGRATORS.nve,
        n_steps=100,
        temperature=100,
        timestep=1e-5,
        trajectory_reporter={"filenames": files, "prop_calculators": calculators, "state_frequency": 100},
    )
    for file in files:
        with ts.TorchSimTrajectory(file) as trajectory:
            potential, moving = (trajectory.get_array(name).ravel() for name in ("potential", "kinetic"))
        assert len(potential) >= 100
        # Forces of other units would change the sum by as much as the potential energy changes.
        assert np.ptp(potential) > 0.01
        assert np.ptp(potential + moving) < 0.02 * np.ptp(potential)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_optimizer_goes_down_in_batches_of_its_own_making(bundle, dtype):
    model = StudentModel(bundle, dtype=dtype, memory_scales_with="n_atoms")
    systems = [plain(name) for name in NAMES]
    before = model(state_of(model, systems))["energy"]
    final = ts.optimize(
        system=systems,
        model=model,
        optimizer=OPTIMIZERS.fire,
        max_steps=20,
        autobatcher=ts.InFlightAutoBatcher(model, memory_scales_with=model.memory_scales_with, max_memory_scaler=30),
    )
    assert (final.energy < before).all()
    assert final.energy.dtype == torch.float64
    assert StudentModel(bundle).memory_scales_with == "n_atoms_x_density"


def test_its_own_check_of_models(bundle):
    testing = pytest.importorskip("torch_sim.testing", reason="this TorchSim has no checks for models of others")
    calculator = StudentCalculator.from_bundle(bundle)
    for atoms, stress in ((plain("caffeine"), False), (box(), True)):
        model = StudentModel(bundle, compute_stress=stress)
        testing.assert_model_calculator_consistency(
            model, calculator, state_of(model, [atoms]), energy_atol=1e-3, force_atol=1e-3, stress_atol=1e-4
        )


def test_the_example_runs(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    examples.write(copy, ["torchsim"], plain("water"))
    assert examples.attempt(copy, "torchsim") == {"status": "ok", "reason": ""}


def test_the_program_of_the_page_runs(bundle, tmp_path):
    text = (ROOT.parents[1] / "docs" / "torchsim.md").read_text()
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace(
        "results/default/deploy/many_molecules", str(bundle)
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert re.match(r"tensor\(\[-\d+", done.stdout)
