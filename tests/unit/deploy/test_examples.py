"""The examples of engines in a bundle: written for all, tried where the engine is installed."""

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from ase.io import read
from ase.io.lammpsdata import read_lammps_data

from mlff_distiller.deploy.engines import examples
from mlff_distiller.deploy.engines.known import ENGINES
from mlff_distiller.preflight.config import Deploy
from mlff_distiller.sources import ROOT
from mlff_distiller.utils.errors import UserError

CHECKOUT = ROOT.parents[1]


@pytest.fixture
def engine(monkeypatch):
    """An engine that is installed everywhere: Python itself."""

    def make(program, module="json"):
        monkeypatch.setitem(ENGINES, "openmm", replace(ENGINES["openmm"], module=module))
        shown = replace(examples.EXAMPLES["openmm"], run=("python", "example.py"), files={"example.py": program})
        monkeypatch.setitem(examples.EXAMPLES, "openmm", shown)

    return make


def test_the_configuration_knows_the_same_engines():
    (names,) = [choice for choice in get_args(Deploy.model_fields["engines"].annotation) if choice is not Ellipsis]
    assert set(get_args(names)) == set(ENGINES) == set(examples.EXAMPLES)


@pytest.mark.parametrize("name", ENGINES)
def test_each_has_a_page_and_an_extra(name):
    import tomllib

    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    engine = ENGINES[name]
    assert engine.extra in extras
    assert engine.install in (CHECKOUT / "docs" / f"{name}.md").read_text()


def test_an_unknown_engine_is_refused(tmp_path, molecules):
    with pytest.raises(UserError, match="no engine 'openm'; did you mean 'openmm'"):
        examples.write(tmp_path, ["openm"], molecules["water"])


def test_what_is_not_installed_is_unavailable(tmp_path, molecules, engine):
    engine("", module="no_such_engine")
    examples.write(tmp_path, ["openmm"], molecules["water"])
    outcome = examples.attempt(tmp_path, "openmm")
    assert outcome == {
        "status": "unavailable",
        "reason": 'OpenMM is not installed here: pip install ".[openmm]"',
    }
    text = examples.readme({"openmm": outcome})
    assert 'OpenMM | `pip install ".[openmm]"` | `cd engines/openmm && python example.py` | not tried |' in text
    assert (tmp_path / "engines" / "openmm" / "start.pdb").is_file()


def test_an_example_runs_in_a_copy(tmp_path, molecules, engine):
    engine("from pathlib import Path\nPath('written').write_text('x')\nassert Path('../../mine').is_file()\n")
    (tmp_path / "mine").touch()
    examples.write(tmp_path, ["openmm"], molecules["water"])
    assert examples.attempt(tmp_path, "openmm") == {"status": "ok", "reason": ""}
    assert not (tmp_path / "engines" / "openmm" / "written").exists()


def test_a_make_around_it_changes_nothing(tmp_path, molecules, engine, monkeypatch):
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setenv("MAKEFLAGS", "n")
    engine("import os\nassert not [name for name in os.environ if name.startswith('MAKE')]\n")
    examples.write(tmp_path, ["openmm"], molecules["water"])
    assert examples.attempt(tmp_path, "openmm") == {"status": "ok", "reason": ""}


def test_an_example_runs_by_the_interpreter_that_has_the_engine(tmp_path, molecules, engine):
    """Another environment's, to which this one's packages are of no use."""
    other = tmp_path / "other" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other.parents[1]], check=True)
    (packages,) = (other.parents[1] / "lib").glob("python*/site-packages")
    (packages / "an_engine.py").touch()
    program = "import sys, an_engine, mlff_distiller\nassert sys.prefix != sys.base_prefix and 'other' in sys.prefix\n"
    engine(program, module="an_engine")
    examples.write(tmp_path / "bundle", ["openmm"], molecules["water"])
    assert examples.attempt(tmp_path / "bundle", "openmm")["status"] == "unavailable"
    assert examples.attempt(tmp_path / "bundle", "openmm", other) == {"status": "ok", "reason": ""}


def test_an_example_that_fails_says_why(tmp_path, molecules, engine, monkeypatch):
    engine("raise SystemExit('the reason')")
    examples.write(tmp_path, ["openmm"], molecules["water"])
    assert examples.attempt(tmp_path, "openmm")["reason"] == "python example.py ends with 1: the reason"
    monkeypatch.setattr(examples, "LONGEST", 0.1)
    engine("import time; time.sleep(60)")
    examples.write(tmp_path, ["openmm"], molecules["water"])
    outcome = examples.attempt(tmp_path, "openmm")
    assert outcome == {"status": "failed", "reason": "python example.py takes longer than 0.1 s"}
    assert "failed: python example.py takes" in examples.readme({"openmm": outcome})


def test_a_box_stays_a_box_in_its_start_file(tmp_path, molecules):
    from ase.io import read

    box = molecules["water"].copy()
    box.set_cell([9.0, 10.0, 11.0])
    box.pbc = True
    examples.write(tmp_path, ["ipi"], box)
    start = read(tmp_path / "engines" / "ipi" / "start.extxyz")
    assert start.pbc.all()
    assert (start.cell.lengths() == [9, 10, 11]).all()
    examples.write(tmp_path, ["ipi"], molecules["water"])
    start = read(tmp_path / "engines" / "ipi" / "start.extxyz")
    assert not start.pbc.any()
    assert start.cell.volume > 8000


@pytest.mark.parametrize(("pbc", "boundary"), [(False, "m m m"), ((True, True, False), "p p m"), (True, "p p p")])
def test_lammps_gets_a_box_around_what_does_not_repeat(tmp_path, molecules, pbc, boundary):
    """Also where the cell has no vector along that axis."""
    from ase.io.lammpsdata import read_lammps_data

    atoms = molecules["water"].copy()
    atoms.set_cell([9.0 if repeats else 0.0 for repeats in ([pbc] * 3 if isinstance(pbc, bool) else pbc)])
    atoms.pbc = pbc
    examples.write(tmp_path, ["lammps"], atoms)
    folder = tmp_path / "engines" / "lammps"
    text = (folder / "in.molecule").read_text()
    assert f"boundary      {boundary} " in text
    assert "../../c/weights.mlff H O\n" in text
    written = read_lammps_data(folder / "molecule.data", atom_style="atomic")
    assert sorted(written.symbols) == ["H", "H", "O"]
    for length, repeats in zip(written.cell.lengths(), atoms.pbc, strict=True):
        assert length == 9 if repeats else length >= 20


@pytest.mark.parametrize("pbc", [False, (True, True, False), (False, False, True), True])
def test_engines_that_ask_for_a_box_get_the_same_room_along_open_axes(tmp_path, molecules, pbc):
    atoms = molecules["benzene"].copy()
    atoms.set_cell([[7.0, 0, 0], [1.0, 7.5, 0], [0.5, 0, 8.0]])
    atoms.pbc = pbc
    examples.write(tmp_path, ["ipi", "lammps"], atoms)
    start = read(tmp_path / "engines/ipi/start.extxyz")
    data = read_lammps_data(tmp_path / "engines/lammps/molecule.data", atom_style="atomic", units="metal")
    lengths = start.cell.lengths()
    np.testing.assert_allclose(data.cell.lengths(), lengths, atol=1e-5)
    np.testing.assert_allclose(data.get_all_distances(), atoms.get_all_distances(), atol=1e-5)
    for axis in range(3):
        across = start.get_scaled_positions(wrap=False)[:, axis] / np.linalg.norm(np.linalg.inv(start.cell)[:, axis])
        if atoms.pbc[axis]:
            assert lengths[axis] == pytest.approx(atoms.cell.lengths()[axis])
        else:
            assert np.ptp(across) + 20.0 == pytest.approx(
                1 / np.linalg.norm(np.linalg.inv(start.cell)[:, axis]), abs=1e-5
            )
