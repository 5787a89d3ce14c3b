"""Runs in engines: their length, their drift, what is judged, and the stage where an engine is missing. ASE runs for real."""

import json

import numpy as np
import pytest
from ase import Atoms

from mlff_distiller.cli import main
from mlff_distiller.deploy.engine_runs import measure
from mlff_distiller.deploy.engine_runs.ase import verlet
from mlff_distiller.deploy.engine_runs.nve import FEWEST_STEPS, WINDOWS, Nve, Plan, plan_of, with_room
from mlff_distiller.deploy.engine_runs.settings import EngineRunSettings
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.variants.plain_student import fp32_baseline
from tests import small_variant
from tests.conftest import MOLECULES

#: In no form that an engine takes: not triangular, far from rectangular.
LEFT_HANDED = [[0.3, 6.0, 0.0], [6.2, 4.5, 0.2], [5.0, 0.4, 6.4]]
SETTINGS = EngineRunSettings(steps=40, max_seconds=60.0, timestep_fs=0.05)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return small_variant.compiled(tmp_path_factory.mktemp("compiled"))


@pytest.mark.parametrize(
    ("steps", "seconds", "expected"),
    [(1000, 0.001, (WINDOWS, 20)), (1000, 0.05, (WINDOWS, 2)), (1000, 0.5, (10, 1)), (1000, 60, (FEWEST_STEPS, 1))],
)
def test_a_slow_engine_takes_fewer_steps(steps, seconds, expected):
    plan = plan_of(steps, 5.0, seconds, 0.5)
    assert (plan.windows, plan.every) == expected
    assert plan.steps <= steps


def test_a_molecule_gets_room_and_a_crystal_stays():
    molecule = with_room(Atoms("H2", [[0, 0, 0], [0, 0, 1]]))
    assert np.allclose(molecule.cell.lengths(), [20, 20, 21])
    crystal = Atoms("H", cell=[3, 3, 3], pbc=True)
    assert (with_room(crystal).cell == crystal.cell).all()


def totals(slope, noise, seed):
    """Energies of 24 atoms over 1 ps, eV, that rise by ``slope`` meV/atom/ps."""
    random = np.random.default_rng(seed)
    return (24e-3 * (slope * np.linspace(0, 1, 101) + noise * random.standard_normal(101))).tolist()


@pytest.mark.parametrize(
    ("own", "ase", "noise", "conserved"),
    [
        (0.0, 0.0, 0.01, True),
        (5.0, 0.0, 0.01, False),
        (5.0, 5.0, 0.01, True),  # as it is in ASE
        (-5.0, 5.0, 0.01, False),
        (0.0, 5.0, 0.01, True),
        (0.0, 0.0, 2.0, None),  # nobody can tell
    ],
)
def test_a_drift_is_held_against_that_of_ase(own, ase, noise, conserved):
    plan = Plan(100, 20, 0.5)
    runs = [Nve(0.0, np.zeros((24, 3)), totals(slope, noise, seed)) for seed, slope in enumerate((own, ase))]
    found = measure.drifts(*runs, plan, 24, EngineRunSettings())
    error = 4 * noise
    assert found["drift_mev_per_atom_ps"] == pytest.approx(own, abs=error)
    assert found["ase_drift_mev_per_atom_ps"] == pytest.approx(ase, abs=error)
    assert found["beyond_ase_drift_mev_per_atom_ps"] == pytest.approx(own - ase, abs=2 * error)
    assert found["conserves_energy"] is conserved


def test_what_both_runs_have_in_common_is_no_error_of_the_difference():
    """A run too short for a drift of its own, which goes as that of ASE."""
    plan, shared = Plan(100, 20, 0.5), totals(0.0, 2.0, 0)
    runs = [Nve(0.0, np.zeros((24, 3)), list(shared)) for _ in range(2)]
    found = measure.drifts(*runs, plan, 24, EngineRunSettings())
    assert found["drift_stderr_mev_per_atom_ps"] > 0.1
    assert found["beyond_ase_drift_mev_per_atom_ps"] == 0
    assert found["conserves_energy"] is True


def test_energies_that_are_not_finite_are_an_error():
    broken, sound = (Nve(0.0, np.zeros((24, 3)), [*totals(0, 0.1, 0)[:-1], last]) for last in (float("nan"), 0.0))
    for own, ase, where in ((broken, sound, "the engine"), (sound, broken, "ASE")):
        with pytest.raises(FloatingPointError, match=f"not finite in {where}"):
            measure.drifts(own, ase, Plan(100, 20, 0.5), 24, EngineRunSettings())


def test_a_short_run_has_no_drift():
    short = Nve(0.0, np.zeros((24, 3)), [0.0] * 11)
    assert set(measure.drifts(short, short, Plan(10, 1, 0.5), 24, EngineRunSettings()).values()) == {None}


def test_runs_of_ase_equal_the_student(compiled, molecules):
    """The stage's own measure, with ASE in the place of an engine: same forces, same energies, no drift of its own."""
    box = molecules["methane"].copy()
    box.set_cell(LEFT_HANDED)
    box.pbc = True
    systems = {"water": molecules["water"]}
    rows = list(measure.measure("ase", compiled.files, SETTINGS, systems, [box]))
    assert [row["system"] for row in rows] == ["water", "methane"]
    for row in rows:
        assert row.get("status", "ok") == "ok", row
        assert row["equivalent"]
        assert row["n_steps"] == 40
        assert row["ase_force_max_mev_per_a"] == 0
        assert row["drift_mev_per_atom_ps"] == row["ase_drift_mev_per_atom_ps"]
        assert row["steps_per_s"] == pytest.approx(1e3 / row["step_ms"])
        assert row["kernel_ms"] > 0


def test_the_start_is_turned_with_its_cell(molecules, compiled):
    box = molecules["methane"].copy()
    box.set_cell(LEFT_HANDED)
    box.pbc = True
    still = EngineRunSettings(amplitude=0.0)
    start = measure.start_of(box, still)
    (ax, *above), (bx, by, beyond), (cx, cy, _) = start.cell.array
    assert np.allclose([*above, beyond], 0)
    assert start.cell.handedness == 1
    assert max(abs(bx), abs(cx)) <= ax / 2
    assert abs(cy) <= by / 2
    assert start.get_volume() == pytest.approx(box.get_volume())
    before, after = box.copy(), start.copy()
    for atoms in (before, after):
        atoms.calc = PotentialCalculator(fp32_baseline(compiled.files.checkpoint, "cpu"))
    assert after.get_potential_energy() == pytest.approx(before.get_potential_energy(), abs=1e-4)


def test_wrong_forces_fail(compiled, molecules):
    judge = measure.Judge(compiled.files.checkpoint, "cpu")
    start = measure.start_of(molecules["water"], SETTINGS)
    right = verlet(start, PotentialCalculator(fp32_baseline(compiled.files.checkpoint, "cpu")), Plan(1, 1, 0.05))
    assert judge(start, right)["equivalent"]
    # One part in a thousand: an engine with other units.
    wrong = judge(start, Nve(right.potential, right.forces * 1.001))
    assert wrong["status"] == "failed"
    assert "force RMSE against fp64" in wrong["reason"]
    assert "energy error" in judge(start, Nve(right.potential + 0.01, right.forces))["reason"]
    assert not judge(start, Nve(right.potential, right.forces * np.nan))["equivalent"]


def stage(compiled, folder, *more):
    output = folder / "engine.json"
    command = ["engine", "--engine", "openmm", "--variant", str(compiled.files.variant), "--systems"]
    command += [str(MOLECULES / "water.extxyz"), "--checkpoint", str(compiled.files.checkpoint)]
    assert main([*command, "--output", str(output), *more]) == 0
    return json.loads(output.read_text())["records"]


def test_an_engine_that_is_not_installed_is_unavailable(compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: None)
    (row,) = stage(compiled, tmp_path, "--equivalence", str(compiled.equivalence))
    assert row["kind"] == "engine"
    assert row["task"] == "openmm"
    assert row["status"] == "unavailable"
    assert "`make engines` installs" in row["reason"]


def test_a_variant_that_is_not_equivalent_is_not_run(compiled, monkeypatch, tmp_path):
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: True)
    document = json.loads(compiled.equivalence.read_text())
    document["records"][0] |= {"status": "failed", "reason": "forces are off", "equivalent": False}
    (tmp_path / "equivalence.json").write_text(json.dumps(document))
    (row,) = stage(compiled, tmp_path, "--equivalence", str(tmp_path / "equivalence.json"))
    assert row["status"] == "failed"
    assert "forces are off" in row["reason"]
