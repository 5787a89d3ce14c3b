"""Every example of docs/ase.md runs as it stands, with the student that ships, and gives what it should."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlff_distiller.calculator import UserError, load

CHECKOUT = Path(__file__).parents[2]
SHIPPED = CHECKOUT / "resources" / "student" / "student.safetensors"
PAGE = (CHECKOUT / "docs" / "ase.md").read_text(encoding="utf-8")


def float32_is_enough(found):
    """The same as with the student in double precision."""
    from ase.build import molecule
    from ase.optimize import BFGS
    from ase.vibrations import Vibrations

    atoms = molecule("H2O")
    atoms.calc = load(str(SHIPPED), dtype="float64")
    BFGS(atoms, logfile=None).run(fmax=1e-5, steps=200)
    exact = Vibrations(atoms, name="exact", delta=0.01)
    exact.run()
    np.testing.assert_allclose(found["frequencies"][-3:].real, exact.get_frequencies()[-3:].real, atol=2)


def stays_in_place(found):
    from ase.build import molecule

    start, atoms = molecule("CH3OH"), found["atoms"]
    np.testing.assert_array_equal(atoms.positions[:2], start.positions[:2])
    start.calc = atoms.calc
    assert start.get_potential_energy() > atoms.get_potential_energy()
    assert np.abs(atoms.get_forces()).max() <= 0.01


def the_umbrella_turns(found):
    energies = [image.get_potential_energy() for image in found["images"]]
    assert 0.05 < found["barrier"] < 1
    assert np.argmax(energies) == 3, "planar in the middle"
    np.testing.assert_allclose(energies, energies[::-1], atol=5e-3)


def the_cell_relaxes(found):
    from ase.build import molecule

    from mlff_distiller.calculator import liquid_box

    atoms = found["atoms"]
    start = liquid_box(molecule("CH4"), n_molecules=8, density=0.3)
    start.calc = atoms.calc
    assert atoms.get_potential_energy() < start.get_potential_energy()
    assert np.abs(atoms.get_stress()).max() < np.abs(start.get_stress()).max()


def the_volume_moves(found):
    from ase.build import molecule

    from mlff_distiller.calculator import liquid_box

    start = liquid_box(molecule("CH4"), n_molecules=8, density=0.3)
    assert found["atoms"].get_volume() != start.get_volume()
    assert 30 < found["atoms"].get_temperature() < 500


def phonons_are_real_and_high_where_co_stretches(found):
    frequencies = found["frequencies"]
    # The antisymmetric stretch of CO2, 2350 1/cm, is 70 THz.
    assert 55 < frequencies.max() < 90
    assert np.isfinite(frequencies).all()


def what_leaves_is_not_counted(found):
    fresh = load(str(SHIPPED))
    atoms = found["atoms"].copy()
    assert found["before"] - found["removed"] == pytest.approx(fresh.get_potential_energy(atoms), abs=1e-3)
    trial = found["trial"].copy()
    if np.isfinite(found["inserted"]):
        expected = fresh.get_potential_energy(trial) - fresh.get_potential_energy(atoms)
        assert found["inserted"] == pytest.approx(expected, abs=1e-3)
    else:
        with pytest.raises(UserError, match="apart"):
            fresh.get_potential_energy(trial)


#: What is true after each example, in the order of the page; None: in a process of its own.
CHECKS = (
    stays_in_place,
    float32_is_enough,
    the_umbrella_turns,
    the_cell_relaxes,
    the_volume_moves,
    phonons_are_real_and_high_where_co_stretches,
    what_leaves_is_not_counted,
    None,
)


def programs():
    found = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == len(CHECKS)
    return [re.sub(r'"results/default/deploy/\w+"', repr(str(SHIPPED)), text) for text in found]


@pytest.mark.parametrize("index", [k for k, check in enumerate(CHECKS) if check], ids=lambda k: CHECKS[k].__name__)
def test_the_example_runs(index, tmp_path, monkeypatch):
    program = programs()[index]
    if "phonopy" in program and importlib.util.find_spec("phonopy") is None:
        pytest.skip("phonopy is not installed: pip install phonopy")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "example.py"
    file.write_text(program, encoding="utf-8")
    CHECKS[index](runpy.run_path(str(file), run_name="__main__"))


def test_processes_that_are_forked_and_spawned_give_the_same(tmp_path):
    file = tmp_path / "example.py"
    file.write_text(programs()[CHECKS.index(None)], encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    energies = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert energies["fork"] == energies["spawn"]
    found = [float(energy) for energy in energies["fork"].strip("[]").split(",")]
    from ase.build import molecule

    expected = load(str(SHIPPED)).get_potential_energy(molecule("CH4"))
    assert found[1] == pytest.approx(expected, abs=1e-3)
