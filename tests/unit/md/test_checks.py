"""The MD checks on systems whose answer is known, and against physical_validation's."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.morse import MorsePotential

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.cli import main
from mlff_distiller.md import reference, thermostat
from mlff_distiller.md.langevin import Samples, ase_langevin, kinetic_energies, run_langevin
from mlff_distiller.md.measures import Slope, angles_of, bonds_of, drift_beyond, statistical_inefficiency
from mlff_distiller.md.nve import NveSamples, SimulationFailed, judge, run_nve
from mlff_distiller.md.settings import NveSettings
from mlff_distiller.md.simulate import read_reference
from mlff_distiller.md.spectra import WAVENUMBERS, bond_angles, bond_lengths, compare, halves, vibrational_spectrum
from mlff_distiller.md.spectra_settings import SpectraSettings
from mlff_distiller.md.start import set_thermal_velocities
from mlff_distiller.md.thermostat import compare_with_gamma
from mlff_distiller.md.thermostat_settings import ThermostatSettings
from mlff_distiller.md.timestep import convergence_ratios, energies_per_timestep, fluctuation
from mlff_distiller.md.timestep_settings import TimestepSettings
from mlff_distiller.potentials.ase import PotentialCalculator
from mlff_distiller.potentials.autograd import AutogradPotential
from mlff_distiller.records import schema
from mlff_distiller.student.checkpoint import load_student, save_student
from mlff_distiller.systems.liquid import liquid_box
from mlff_distiller.systems.read import read_system
from mlff_distiller.utils.compilers import no_compiler
from mlff_distiller.utils.errors import UserError

RESOURCES = Path(__file__).parents[3] / "resources"
WATER = RESOURCES / "molecules" / "water.extxyz"
TIMESTEPS = [1.0, 0.5, 0.25]


def morse_cluster(calculator=MorsePotential):
    """Four argon-like atoms in a smooth potential, moving."""
    atoms = Atoms("Ar4", positions=[[0, 0, 0], [1.1, 0, 0], [0, 1.1, 0], [0, 0, 1.1]])
    atoms.calc = calculator(epsilon=1.0, rho0=6.0, r0=1.1, rcut1=8.0, rcut2=9.0)
    set_thermal_velocities(atoms, 300.0, seed=0)
    return atoms


class WrongForces(MorsePotential):
    """Right energies, forces 3 % too large."""

    def calculate(self, *arguments, **options):
        super().calculate(*arguments, **options)
        self.results["forces"] = 1.03 * self.results["forces"]


def test_halving_the_time_step_divides_the_fluctuation_by_four():
    import physical_validation.util.integrator as physical

    energies = energies_per_timestep(morse_cluster(), TIMESTEPS, window_fs=100.0, windows=3, equilibration_fs=50.0)
    ratios = convergence_ratios(TIMESTEPS, [fluctuation(energies[timestep]) for timestep in TIMESTEPS])
    assert ratios == pytest.approx([4.0, 4.0], abs=0.25)
    series = {str(timestep): (e - e.mean(axis=1, keepdims=True)).ravel() for timestep, e in energies.items()}
    theirs = physical.check_convergence(series, physical.max_deviation, verbose=False, screen=False, filename=None)
    assert theirs == pytest.approx(max(abs(1 - ratio / 4) for ratio in ratios), rel=1e-6)


def test_the_student_is_smooth_enough_for_the_integrator(molecules):
    """Water, whose vectors pass zero at every vibration: a kink there is what no time step resolves."""
    student = load_student(RESOURCES / "student" / "student.safetensors", dtype=torch.float64)
    atoms = molecules["water"].copy()
    atoms.calc = StudentCalculator(AutogradPotential(student))
    set_thermal_velocities(atoms, 300.0, seed=0)
    energies = energies_per_timestep(atoms, [0.5, 0.25], window_fs=100.0, windows=3, equilibration_fs=100.0)
    (ratio,) = convergence_ratios([0.5, 0.25], [fluctuation(energies[timestep]) for timestep in (0.5, 0.25)])
    assert ratio == pytest.approx(4.0, abs=0.25)


def test_forces_that_are_not_those_of_the_energy_do_not_converge():
    atoms = morse_cluster(WrongForces)
    energies = energies_per_timestep(atoms, TIMESTEPS, window_fs=50.0, windows=2, equilibration_fs=50.0)
    ratios = convergence_ratios(TIMESTEPS, [fluctuation(energies[timestep]) for timestep in TIMESTEPS])
    assert abs(ratios[-1] - 4) > 1.0


def test_ratios_are_scaled_to_a_halving():
    assert convergence_ratios([1.0, 0.25], [16.0, 1.0]) == pytest.approx([4.0])


def autoregressive(n, memory, seed=0):
    noise = np.random.default_rng(seed).normal(size=n)
    series = np.zeros(n)
    for step in range(1, n):
        series[step] = memory * series[step - 1] + noise[step]
    return series


def test_statistical_inefficiency_of_correlated_noise():
    found = [statistical_inefficiency(autoregressive(20000, 0.8, seed)) for seed in range(5)]
    assert np.mean(found) == pytest.approx((1 + 0.8) / (1 - 0.8), rel=0.15)
    assert statistical_inefficiency(np.ones(100)) == 1.0
    assert statistical_inefficiency(np.random.default_rng(0).normal(size=5000)) == pytest.approx(1.0, abs=0.15)


def test_canonical_kinetic_energies_pass_and_hot_ones_do_not():
    import physical_validation.util.kinetic_energy as theirs

    kt = units.kB * 300.0
    kinetic = np.random.default_rng(0).gamma(36.0, kt, size=500)
    right, hot = compare_with_gamma([kinetic], 72, 300.0), compare_with_gamma([1.05 * kinetic], 72, 300.0)
    assert right["p_value"] > 0.01
    assert right["mean_temperature_k"] == pytest.approx(300.0, abs=3 * right["temperature_stderr_k"])
    assert hot["p_value"] < 1e-3
    thinned = kinetic[:: len(kinetic) // right["independent_samples"]]
    p = theirs.check_distribution(
        kin=thinned,
        temp=300.0,
        ndof=72,
        kb=units.kB,
        verbosity=0,
        screen=False,
        filename=None,
        ene_unit=None,
        temp_unit=None,
        data_is_uncorrelated=True,
    )
    assert right["p_value"] == pytest.approx(p, rel=1e-6)


def test_a_wrong_width_is_seen_at_the_right_mean():
    kt = units.kB * 300.0
    kinetic = np.random.default_rng(1).gamma(36.0, kt, size=2000)
    narrow = 36 * kt + 0.7 * (kinetic - 36 * kt)
    assert compare_with_gamma([narrow], 72, 300.0)["p_value"] < 1e-3


def test_langevin_dynamics_is_canonical():
    settings = ThermostatSettings(steps=4000, sample_every=20, equilibration_steps=500)
    atoms = morse_cluster()
    samples = run_langevin(atoms, settings)
    assert samples.positions.shape == (200, 4, 3)
    assert samples.interval_fs == 10.0
    kinetic = kinetic_energies(samples, atoms.get_masses())
    assert kinetic[-1] == pytest.approx(atoms.get_kinetic_energy(), rel=1e-6)
    found = compare_with_gamma([kinetic], 12, 300.0)
    assert found["p_value"] > 1e-3
    assert found["mean_temperature_k"] == pytest.approx(300.0, abs=4 * found["temperature_stderr_k"])


@pytest.mark.parametrize(("doubt", "trajectories"), [(0.0, 1), (1.1, 2)])
def test_a_doubtful_p_value_calls_for_a_second_seed_and_both_are_judged(monkeypatch, doubt, trajectories):
    started = []

    def cluster_at(atoms, potential, settings):
        started.append(settings.seed)
        atoms.calc = morse_cluster().calc
        return ase_langevin(atoms, settings)

    monkeypatch.setattr(thermostat, "DOUBT", doubt)
    monkeypatch.setattr(thermostat.artifact, "load_variant", lambda files: SimpleNamespace(potential=None))
    monkeypatch.setattr("mlff_distiller.md.dynamics.thermostat", cluster_at)
    settings = ThermostatSettings(steps=2000, sample_every=20, equilibration_steps=100, seed=7)
    found = thermostat.measure(None, morse_cluster(), settings)
    assert found["seeds"] == started == [7, 1007][:trajectories]
    assert found["n_steps"] == 2000 * trajectories
    assert ("first_p_value" in found) == (trajectories == 2)
    if trajectories == 2:
        assert found["p_value"] != found["first_p_value"]
        assert found["gates"]["kinetic_energy_p"]["value"] == found["p_value"]


def vibrating_water(molecules, wavenumber, amplitude=0.05, bend=0.0):
    """Water whose first O-H bond vibrates harmonically at ``wavenumber`` (1/cm), seen every 2 fs for 4 ps."""
    water = molecules["water"]
    oxygen, hydrogen = water.numbers.argmax(), int(np.flatnonzero(water.numbers == 1)[0])
    axis = water.positions[hydrogen] - water.positions[oxygen]
    axis /= np.linalg.norm(axis)
    times = 2.0 * np.arange(2000)
    angular = 2 * np.pi * 2.99792458e-5 * wavenumber
    positions = np.repeat(water.positions[None], len(times), axis=0)
    positions[:, hydrogen] += (amplitude * np.sin(angular * times))[:, None] * axis + bend
    velocities = np.zeros_like(positions)
    velocities[:, hydrogen] = (amplitude * angular * np.cos(angular * times))[:, None] * axis
    return water, Samples(2.0, positions, velocities, 1.0)


@pytest.mark.parametrize("wavenumber", [500.0, 1600.0, 3700.0])
def test_the_spectrum_peaks_where_the_molecule_vibrates(molecules, wavenumber):
    water, samples = vibrating_water(molecules, wavenumber)
    spectrum = vibrational_spectrum(samples, water.get_masses())
    assert WAVENUMBERS[spectrum.argmax()] == pytest.approx(wavenumber, abs=17)
    assert spectrum.sum() * (WAVENUMBERS[1] - WAVENUMBERS[0]) == pytest.approx(1.0)


def test_the_same_trajectory_differs_by_nothing(molecules):
    water, samples = vibrating_water(molecules, 3700.0)
    found = compare(water, samples, samples)
    assert found == pytest.approx(
        {"bond_distance_a": 0.0, "angle_distance_deg": 0.0, "spectrum_difference": 0.0}, abs=1e-9
    )
    first, second = halves(samples)
    assert len(first.positions) == len(second.positions) == 1000


def test_differences_between_trajectories_are_measured(molecules):
    water, one = vibrating_water(molecules, 3700.0)
    longer = Samples(2.0, one.positions * 1.01, one.velocities, 1.0)
    found = compare(water, one, longer)
    assert found["bond_distance_a"] == pytest.approx(0.01 * bond_lengths(water, one).mean(), rel=1e-6)
    assert found["angle_distance_deg"] == pytest.approx(0.0, abs=1e-6)
    _, elsewhere = vibrating_water(molecules, 1600.0)
    assert compare(water, one, elsewhere)["spectrum_difference"] > 0.95


def test_angles_of_molecules(molecules):
    water = molecules["water"]
    assert len(angles_of(water)) == 1
    assert len(angles_of(molecules["methane"])) == 6
    assert len(angles_of(molecules["benzene"])) == 18
    still = Samples(1.0, water.positions[None], np.zeros((1, 3, 3)), 1.0)
    assert bond_angles(water, still)[0, 0] == pytest.approx(water.get_angle(*angles_of(water)[0]))


def seen_with_drift(slope):
    """An NVE run of 1 ps whose energy drifts by ``slope`` meV/atom/ps under a fast vibration."""
    seen = NveSamples(n_bonds=1)
    for step in range(201):
        time_fs = 5.0 * step
        seen.times_fs.append(time_fs)
        seen.energies.append(-1000.0 + slope * time_fs / 1000 + 1e-3 * np.sin(step))
        seen.temperatures_k.append(300.0)
        seen.momenta.append(1e-9)
    seen.force_errors.append(np.zeros((3, 3)))
    seen.elapsed = 1.0
    return seen


@pytest.mark.parametrize(("slope", "tier"), [(0.0, "good"), (0.05, "acceptable"), (0.5, "bad")])
def test_a_drift_is_good_acceptable_or_bad(slope, tier):
    found = judge(seen_with_drift(slope), NveSettings.from_mapping({}))
    assert found["drift_tier"] == tier
    assert found["passed"] is (tier != "bad")
    assert "drift_beyond_fp64_mev_per_atom_ps" not in found["gates"]


def test_a_drift_that_fp64_does_not_have_fails():
    settings = NveSettings.from_mapping({})
    alike = judge(seen_with_drift(0.05), settings, Slope(0.05, 1e-4))
    assert alike["drift_like_fp64"]
    assert alike["passed"]
    other = judge(seen_with_drift(0.05), settings, Slope(0.0, 1e-4))
    assert not other["drift_like_fp64"]
    assert not other["passed"]
    assert not other["gates"]["drift_beyond_fp64_mev_per_atom_ps"]["passed"]


def test_an_uncertain_reference_excuses_no_drift():
    settings = NveSettings.from_mapping({})
    assert judge(seen_with_drift(0.2), settings, Slope(0.2, 1e-4))["passed"]
    noisy = judge(seen_with_drift(0.2), settings, Slope(0.2, 0.1))
    assert noisy["drift_like_fp64"]
    assert not noisy["gates"]["drift_mev_per_atom_ps"]["passed"]


def test_drifts_within_their_errors_cannot_be_told_apart():
    assert drift_beyond(Slope(0.3, 0.2), Slope(0.0, 0.1)) == 0.0
    assert drift_beyond(Slope(0.5, 0.1), Slope(0.0, 0.0)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        (
            ThermostatSettings,
            {"friction": 1.0},
            r"md\.nvt\.settings: unknown key 'friction'; did you mean 'friction_per_fs'",
        ),
        (ThermostatSettings, {"steps": 300}, "15 samples; 20 are needed"),
        (SpectraSettings, {"gates": {"bond": 1.0}}, r"md\.spectra\.settings\.gates: unknown key 'bond'"),
        (TimestepSettings, {"timesteps_fs": [1.0, 0.3]}, "0.3 does not divide window_fs, 100"),
        (TimestepSettings, {"timesteps_fs": [1.0]}, r"timesteps_fs: expected list \(2 or more\) of number > 0, got"),
        (TimestepSettings, {"timesteps_fs": [1.0, 0.5, 0.5]}, "timesteps_fs: 0.5 stands there twice"),
    ],
)
def test_a_wrong_setting_of_a_check_is_named(kind, given, words):
    with pytest.raises(UserError, match=words):
        kind.from_mapping(given)


@pytest.fixture
def small_liquid(molecules):
    return liquid_box(molecules["methane"], 6, density=0.3, seed=1)


def test_a_periodic_box_conserves_energy(small_liquid, student64):
    settings = NveSettings.from_mapping(
        {"timestep_fs": 0.1, "steps": 40, "equilibration_steps": 5, "temperature_k": 20.0, "sample_every": 2}
    )
    start = small_liquid.positions.copy()
    potential = AutogradPotential(student64)
    seen = run_nve(small_liquid, potential, settings, potential)
    assert np.array_equal(small_liquid.positions, start)
    assert seen.times_fs[-1] == pytest.approx(4.0)
    found = judge(seen, settings)
    # The student's weights are random, its forces stiff: what counts is that energy is kept and nothing is torn.
    assert found["max_energy_excursion_mev_per_atom"] < 1.0
    assert found["max_momentum"] < 1e-8
    assert found["force_rmse_mev_per_a"] < 1e-9
    assert found["bonds_broken"] == 0


def test_forces_that_are_not_those_of_the_energy_fail_the_gates(small_liquid, student64):
    class Heating(AutogradPotential):
        def __call__(self, *batch):
            energies, forces = super().__call__(*batch)
            return energies, 1.5 * forces

    settings = NveSettings.from_mapping(
        {"timestep_fs": 0.1, "steps": 40, "equilibration_steps": 0, "temperature_k": 20.0, "sample_every": 2}
    )
    found = judge(run_nve(small_liquid, Heating(student64), settings, AutogradPotential(student64)), settings)
    assert not found["passed"]
    assert not found["gates"]["force_rmse_mev_per_a"]["passed"]


def test_a_simulation_that_goes_astray_keeps_its_frames(student64, molecules):
    class Breaking(AutogradPotential):
        calls = 0

        def __call__(self, *batch):
            energies, forces = super().__call__(*batch)
            self.calls += 1
            return energies, forces * (float("nan") if self.calls > 30 else 1.0)

    settings = NveSettings.from_mapping(
        {"steps": 60, "equilibration_steps": 2, "sample_every": 2, "force_check_every": 10}
    )
    with pytest.raises(SimulationFailed, match="not a finite position") as error:
        run_nve(molecules["water"], Breaking(student64), settings, AutogradPotential(student64))
    assert len(error.value.samples.frames) == 3
    assert all("nan" not in frame for frame in error.value.samples.frames)


@pytest.mark.parametrize("run", ["nve", "langevin"])
def test_an_energy_that_no_physics_gives_ends_a_simulation(student64, molecules, run):
    """Finite all the while, as where an atom has fallen into a hole of the network."""

    class Falling(AutogradPotential):
        calls = 0

        def __call__(self, *batch):
            energies, forces = super().__call__(*batch)
            self.calls += 1
            return energies - (1e5 if self.calls > 12 else 0.0), forces

    water = molecules["water"].copy()
    if run == "nve":
        settings = NveSettings.from_mapping({"steps": 60, "equilibration_steps": 2, "sample_every": 2})
        with pytest.raises(SimulationFailed, match=r"eV an atom after .* which no physics gives"):
            run_nve(water, Falling(student64), settings)
        return
    water.calc = PotentialCalculator(Falling(student64))
    settings = ThermostatSettings.from_mapping({"steps": 60, "equilibration_steps": 2, "sample_every": 2})
    with pytest.raises(FloatingPointError, match=r"potential energy is .* which no physics gives"):
        run_langevin(water, settings)


def test_the_fp64_reference_gives_a_drift_with_or_without_a_compiler(tmp_path, student, monkeypatch):
    checkpoint, settings = tmp_path / "student.safetensors", {"steps": 40, "equilibration_steps": 2, "sample_every": 2}
    save_student(checkpoint, student)
    arguments = ["--checkpoint", str(checkpoint), "--system", str(WATER), "--settings", json.dumps(settings)]
    found = []
    for family, reason in (("eager", None), ("cpp", None), ("cpp", "no compiler")):
        if reason:
            monkeypatch.setattr(reference, "no_compiler", lambda reason=reason: reason)
        output = tmp_path / f"{len(found)}.json"
        assert main(["md-reference", *arguments, "--family", family, "--output", str(output)]) == 0
        found.append(schema.read(output)[0])
    assert [entry["family"] for entry in found] == ["eager", "cpp" if no_compiler() is None else "eager", "eager"]
    for entry in found:
        assert entry["drift_mev_per_atom_ps"] == pytest.approx(found[0]["drift_mev_per_atom_ps"], rel=1e-4)
    kept = read_reference(tmp_path / "0.json")
    assert kept.drift.value == found[0]["drift_mev_per_atom_ps"]
    assert kept.energy_trace["time_fs"][-1] == 40 * 0.5
    assert kept.energy_trace["total_mev_per_atom"][0] == 0 != max(map(abs, kept.energy_trace["total_mev_per_atom"]))


def test_the_box_that_ships_is_whole_methanol():
    box = read_system(RESOURCES / "liquids" / "methanol_64.extxyz")
    assert box.pbc.all()
    assert box.get_chemical_formula() == "C64H256O64"
    first, _, lengths = bonds_of(box)
    assert len(first) == 64 * 5
    assert lengths.max() < 1.6
    density = box.get_masses().sum() / box.get_volume() * 1.66053907
    assert density == pytest.approx(0.791, abs=1e-3)


def test_a_drift_that_fp64_has_too_is_not_the_variants():
    found = judge(seen_with_drift(0.5), NveSettings.from_mapping({}), Slope(0.5, 1e-4))
    assert found["passed"]
    assert found["drift_tier"] == "bad"
