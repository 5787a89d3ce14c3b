"""The stage that runs a variant in each engine: the fp64 student's forces, ASE's trajectory, a speed."""

import importlib
import json

import pytest

from mlff_distiller.cli import main
from mlff_distiller.deploy.engine_runs.measure import bundle_of, start_of
from mlff_distiller.deploy.engine_runs.nve import Plan
from mlff_distiller.deploy.engine_runs.settings import EngineRunSettings
from mlff_distiller.deploy.engines.known import ENGINES
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.errors import UserError
from tests import small_variant
from tests.conftest import MOLECULES
from tests.engines import needed

#: A student with random weights has stiff bonds; a picosecond of it would take long.
SETTINGS = {"steps": 50, "timestep_fs": 0.02, "max_seconds": 60, "drift_mev_per_atom_ps": 5.0}
FORMS = {"lammps": "c", "metatomic": "torchscript"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return small_variant.compiled(tmp_path_factory.mktemp("compiled"))


@pytest.fixture
def box(tmp_path):
    """Skewed, not in the form that engines want, and so small that molecules meet their images."""
    atoms = load_system("caffeine", MOLECULES)
    atoms.info.clear()
    atoms.set_cell([[0.4, 11.5, 0.0], [10.5, 1.1, 0.3], [2.0, -0.5, 7.5]])
    atoms.pbc = True
    atoms.write(tmp_path / "box.extxyz")
    return tmp_path / "box.extxyz"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variant_in_an_engine(compiled, box, tmp_path, engine):
    needed.module(ENGINES[engine].module, engine)
    output, files = tmp_path / "engine.json", compiled.files
    command = ["engine", "--engine", engine, "--variant", str(files.variant), "--checkpoint", str(files.checkpoint)]
    command += ["--equivalence", str(compiled.equivalence), "--box", str(box), "--settings", json.dumps(SETTINGS)]
    command += ["--systems", str(MOLECULES / "water.extxyz"), "--output", str(output)]
    assert main(command) == 0
    rows = json.loads(output.read_text())["records"]
    assert [row["system"] for row in rows] == ["water", "box"]
    for row in rows:
        assert row["status"] == "ok", row["reason"]
        assert row["task"] == engine
        assert row["computed_by"] == FORMS.get(engine, "bundle")
        assert row["equivalent"]
        assert row["n_steps"] == 50
        # A step has a call of the kernel in it, and the clock must see that; the machine may be busy.
        least = 0.1 * min(row["kernel_ms"], row["ase_step_ms"]) if row["computed_by"] == "bundle" else 0
        assert row["step_ms"] > least
        assert row["conserves_energy"]
        assert row["engine_version"]
        # From the same state: another time step would take the energies elsewhere.
        assert row["drift_mev_per_atom_ps"] == pytest.approx(
            row["ase_drift_mev_per_atom_ps"], abs=0.5 * max(1.0, abs(row["ase_drift_mev_per_atom_ps"]))
        )


def runner_of(compiled, folder, engine):
    """The engine as the stage starts it."""
    needed.module(ENGINES[engine].module, engine)
    bundle = bundle_of(compiled.files, folder / "bundle", [load_system("water", MOLECULES)])
    work = folder / "work"
    work.mkdir()
    return importlib.import_module(f"mlff_distiller.deploy.engine_runs.{engine}").Runner(bundle, work, 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_masses_and_velocities_are_those_of_ase(compiled, tmp_path, engine):
    start = start_of(load_system("caffeine", MOLECULES), EngineRunSettings(temperature_k=1000))
    plan = Plan(1, 1, 0.02)
    found = runner_of(compiled, tmp_path, engine)(start, plan)
    # OpenMM's velocities are those of half a step before.
    assert found.totals[0] - found.potential == pytest.approx(start.get_kinetic_energy(), rel=2e-3)
    assert len(found.totals) == 2
    assert len(found.seconds) == 1


def test_what_lammps_refuses_is_the_reason_of_the_record(compiled, tmp_path):
    water = start_of(load_system("water", MOLECULES), EngineRunSettings())
    run = runner_of(compiled, tmp_path, "lammps")
    water.positions[1] = water.positions[0] + 0.1
    with pytest.raises(UserError, match=r"lmp ends with .*closer than anything that the student learned"):
        run(water, Plan(1, 1, 0.5))
