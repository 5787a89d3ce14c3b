"""Bundles in i-PI: the calculator's numbers in i-PI's units, beads in one call, its refusals, the example of the page."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.io import read, write

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.deploy.engines import examples
from mlff_distiller.sources import ROOT
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.errors import UserError
from tests.conftest import MOLECULES
from tests.engines import needed

ipi = needed.module("ipi", "ipi")

from ipi.pes import load_pes  # noqa: E402 (only where there is i-PI)
from ipi.utils.units import unit_to_internal, unit_to_user  # noqa: E402

from mlff_distiller.deploy.engines.ipi import StudentDriver  # noqa: E402

#: i-PI's programs lie beside its package, also where that was installed into a folder of its own.
PROGRAMS = [Path(sys.executable).parent, Path(ipi.__file__).parents[1] / "bin"]


def program(name):
    return next(str(folder / name) for folder in PROGRAMS if (folder / name).is_file())


def caffeine(periodic):
    atoms = load_system("caffeine", MOLECULES)
    atoms.info.clear()
    atoms.center(vacuum=10.0)
    if periodic:
        # Triangular, as i-PI wants it; too short for the molecule to miss its images.
        atoms.set_cell([[11.5, 0, 0], [1.1, 10.5, 0], [-0.5, 2.0, 7.5]])
        atoms.pbc = True
    return atoms


def driver_of(bundle, atoms, folder, **options):
    write(folder / "start.extxyz", atoms)
    return StudentDriver(folder / "start.extxyz", bundle, **options)


def bohr(atoms):
    """Cell, with vectors in columns, and positions as i-PI hands them over."""
    return unit_to_internal("length", "angstrom", atoms.cell.array.T), unit_to_internal(
        "length", "angstrom", atoms.positions
    )


@pytest.mark.parametrize("periodic", [False, True])
def test_it_equals_the_calculator(bundle, tmp_path, periodic):
    atoms = caffeine(periodic)
    energy, forces, virial, extras = driver_of(bundle, atoms, tmp_path)(*bohr(atoms))
    atoms.calc = StudentCalculator.from_bundle(bundle)
    assert unit_to_user("energy", "electronvolt", energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
    np.testing.assert_allclose(unit_to_user("force", "ev/ang", forces), atoms.get_forces(), atol=1e-4)
    assert np.abs(atoms.get_forces()).max() > 1
    assert extras == ""
    if periodic:
        expected = -atoms.get_stress(voigt=False) * atoms.get_volume()
        np.testing.assert_allclose(unit_to_user("energy", "electronvolt", virial).T, expected, atol=1e-3)
        assert np.abs(expected).max() > 1
    else:
        assert np.isnan(virial).all()


def test_beads_in_one_call_are_as_one_by_one(bundle, tmp_path):
    atoms, random = caffeine(True), np.random.default_rng(0)
    driver = driver_of(bundle, atoms, tmp_path)
    cell, positions = bohr(atoms)
    cells = [cell * scale for scale in (1.0, 1.02, 0.99, 1.0)]
    beads = [positions + 0.1 * random.standard_normal(positions.shape) for _ in cells]
    together = driver(cells, beads)
    assert isinstance(together, list)
    assert len({float(answer[0]) for answer in together}) == 4
    for given_cell, bead, (energy, forces, virial, _) in zip(cells, beads, together, strict=True):
        alone = driver(given_cell, bead)
        assert energy == pytest.approx(alone[0], abs=1e-5)
        np.testing.assert_allclose(forces, alone[1], atol=1e-5)
        np.testing.assert_allclose(virial, alone[2], atol=1e-4)


def test_what_the_calculator_refuses_is_refused(bundle, tmp_path):
    water = load_system("water", MOLECULES)
    water.info["charge"] = 1
    with pytest.raises(UserError, match="charge"):
        driver_of(bundle, water, tmp_path)
    assert driver_of(bundle, water, tmp_path, allow="charge spin")
    water.info.clear()
    water.numbers[1] = 9
    with pytest.raises(UserError, match="atom 1 is F, which the student never learned"):
        driver_of(bundle, water, tmp_path)
    water.numbers[1] = 1
    driver = driver_of(bundle, water, tmp_path)
    cell, positions = bohr(water)
    with pytest.raises(UserError, match=r"i-PI has 2 atoms, .*start.extxyz has 3"):
        driver(cell, positions[:2])
    close = positions.copy()
    close[1] = close[0] + 0.3
    with pytest.raises(UserError, match=r"system 1 of the batch: atoms 0 .* closer than anything"):
        driver([cell, cell], [positions, close])
    with pytest.raises(UserError, match="unknown key 'bundel'"):
        StudentDriver(tmp_path / "start.extxyz", bundle, bundel=1)
    with pytest.raises(UserError, match="no bundle"):
        StudentDriver(tmp_path / "start.extxyz", tmp_path)


def test_constant_pressure_of_a_molecule_is_refused(bundle, tmp_path):
    atoms = caffeine(False)
    driver = driver_of(bundle, atoms, tmp_path)
    cell, positions = bohr(atoms)
    driver(cell, positions)
    with pytest.raises(UserError, match=r"the cell changes, but .* is a molecule, which has no pressure"):
        driver(1.001 * cell, positions)


@pytest.fixture
def example(bundle, tmp_path):
    """The folder of the example in a copy of the bundle, of one water."""
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    examples.write(copy, ["ipi"], load_system("water", MOLECULES))
    return copy / examples.FOLDER / "ipi"


def run(example, text, name="input.xml"):
    """Run i-PI with an input; the columns of its output, and what it printed."""
    (example / name).write_text(text)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, program("i-pi"), name]
    done = subprocess.run(
        command, cwd=example, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return (None if done.returncode else np.loadtxt(example / "beads.out")), done


def changed(text, *changes):
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def test_the_example_runs_and_one_call_for_all_beads_changes_nothing(example):
    text = (example / "input.xml").read_text()
    together, done = run(example, text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(together) == 11
    assert {"driver", "start", "beads"} & {path.stem for path in example.iterdir()}
    (example / "beads.out").unlink()
    one_by_one, _ = run(example, changed(text, ("<batch_size>8", "<batch_size>1")))
    np.testing.assert_allclose(together[:2, 5], one_by_one[:2, 5], atol=1e-5)
    # The start is where the calculator has it, too.
    water = read(example / "start.extxyz")
    water.calc = StudentCalculator.from_bundle(example.parents[1])
    assert together[0, 5] == pytest.approx(water.get_potential_energy(), abs=1e-4)


def test_energy_is_conserved(example):
    text = changed(
        (example / "input.xml").read_text(),
        ("mode='nvt'", "mode='nve'"),
        ("<thermostat mode='pile_g'><tau units='femtosecond'>100</tau></thermostat>", ""),
        # The student of the test has random weights, and stiff bonds.
        ("'femtosecond'>0.25", "'femtosecond'>0.01"),
    )
    columns, done = run(example, text)
    assert done.returncode == 0, done.stdout + done.stderr
    conserved, potential = columns[:, 2], columns[:, 5]
    # Forces of other units would change the sum by as much as the potential energy changes.
    assert np.ptp(potential) > 0.01
    assert np.ptp(conserved) < 0.02 * np.ptp(potential)


def test_a_driver_in_another_process_gives_the_same(example):
    text = (example / "input.xml").read_text()
    direct, _ = run(example, text)
    address = f"mlff-test-{os.getpid()}"
    (example / "beads.out").unlink()
    start, end = text.index("<ffdirect"), text.index("</ffdirect>")
    socket = f"<ffsocket name='student' mode='unix'><address>{address}</address></ffsocket>"
    served = text[:start] + socket + text[end + len("</ffdirect>") :]
    command = [sys.executable, program("i-pi-driver-py"), "-m", "custom", "-P", "student_driver.py"]
    command += ["-o", "template=start.extxyz", "-u", "-a", address]
    script = (
        "import subprocess, sys, time, os\n"
        f"server = subprocess.Popen([{sys.executable!r}, {program('i-pi')!r}, 'served.xml'])\n"
        "for _ in range(300):\n"
        f"    if os.path.exists('/tmp/ipi_{address}'): break\n"
        "    time.sleep(0.1)\n"
        f"client = subprocess.Popen({command!r})\n"
        "code = server.wait(200)\n"
        "client.terminate(); client.wait()\n"
        "sys.exit(code)\n"
    )
    (example / "served.xml").write_text(served)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=example,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    np.testing.assert_allclose(np.loadtxt(example / "beads.out")[:2, 5], direct[:2, 5], atol=1e-5)


def test_i_pi_stops_with_the_words_of_a_refusal(example):
    text = (example / "input.xml").read_text()
    start = read(example / "start.extxyz")
    start.positions[1] = start.positions[0] + 0.2
    write(example / "start.extxyz", start)
    _, done = run(example, text)
    assert done.returncode != 0
    assert (
        "system 0 of the batch: atoms 0 (O) and 1 (H) are 0.346 A apart, closer than anything"
        in done.stdout + done.stderr
    )


def test_the_page_shows_what_the_bundle_has():
    page = (ROOT.parents[1] / "docs" / "ipi.md").read_text()
    shown = re.search(r"```xml\n(.*?)```", page, re.DOTALL)[1]
    assert shown.strip() in examples.EXAMPLES["ipi"].files["input.xml"]


def test_the_file_of_the_example_is_a_driver_for_i_pi(example):
    assert issubclass(load_pes("custom", str(example / "student_driver.py")), StudentDriver)
    assert importlib.util.find_spec("ipi").origin == ipi.__file__
