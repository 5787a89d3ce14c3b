"""Bundles in OpenMM: the calculator's numbers in OpenMM's units, its refusals, and the example of the page. Needs OpenMM-ML."""

import os
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from mlff_distiller.calculator import StudentCalculator
from mlff_distiller.sources import ROOT
from mlff_distiller.systems.read import load_system
from mlff_distiller.utils.errors import UserError
from tests.conftest import MOLECULES
from tests.engines import needed

openmm = needed.module("openmm", "openmm")
openmmml = needed.module("openmmml", "openmm")

from openmm import app, unit  # noqa: E402 (only where there is OpenMM)

from mlff_distiller.deploy.engines.openmm import ANGSTROM  # noqa: E402
from mlff_distiller.deploy.engines.openmm_ml import Factory  # noqa: E402
from mlff_distiller.systems.units import KJ_PER_MOL  # noqa: E402

CHECKOUT = ROOT.parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
NAME = "mlff-distiller"


@pytest.fixture(scope="module", autouse=True)
def registered():
    """As the entry point does where the package is installed."""
    openmmml.MLPotential.registerImplFactory(NAME, Factory())


def topology_of(atoms, charge=None):
    topology = app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    for atom in atoms:
        element = app.Element.getByAtomicNumber(int(atom.number)) if atom.number else None
        topology.addAtom(
            f"{atom.symbol}{atom.index}", element, residue, formalCharge=charge if atom.index == 0 else None
        )
    if atoms.pbc.any():
        topology.setPeriodicBoxVectors(atoms.cell.array / ANGSTROM * unit.nanometer)
    return topology


def context_of(system, atoms):
    context = openmm.Context(system, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / ANGSTROM)
    return context


def computed(system, atoms, **state):
    """Energy in kJ/mol and forces in kJ/mol/nm."""
    found = context_of(system, atoms).getState(energy=True, forces=True, **state)
    return (
        found.getPotentialEnergy().value_in_unit(unit.kilojoules_per_mole),
        found.getForces(asNumpy=True).value_in_unit(unit.kilojoules_per_mole / unit.nanometer),
    )


def system_of(bundle, atoms, **options):
    return openmmml.MLPotential(NAME, bundle=bundle, **options).createSystem(topology_of(atoms))


def caffeine(periodic):
    atoms = load_system("caffeine", MOLECULES)
    if periodic:
        # Reduced, as OpenMM wants it; too short for the molecule to miss its images.
        atoms.set_cell([[11.5, 0, 0], [1.1, 10.5, 0], [-0.5, 2.0, 7.5]])
        atoms.pbc = True
        atoms.positions += [3.0, -17.0, 40.0]
    return atoms


def test_units_are_those_of_the_si():
    electronvolt = (1 * unit.ev * unit.AVOGADRO_CONSTANT_NA).value_in_unit(unit.kilojoules_per_mole)
    assert electronvolt == pytest.approx(1 / KJ_PER_MOL, rel=1e-15)
    assert (1 * unit.nanometer).value_in_unit(unit.angstrom) == ANGSTROM


@pytest.mark.parametrize("periodic", [False, True])
def test_it_equals_the_calculator(bundle, periodic):
    atoms = caffeine(periodic)
    energy, forces = computed(system_of(bundle, atoms), atoms)
    atoms.calc = StudentCalculator.from_bundle(bundle)
    # The student computes in float32, and nm are not exact A.
    assert energy == pytest.approx(atoms.get_potential_energy() / KJ_PER_MOL, abs=1e-2)
    np.testing.assert_allclose(forces, atoms.get_forces() * (ANGSTROM / KJ_PER_MOL), atol=0.5)
    assert np.abs(forces).max() > 1000


def test_some_atoms_of_a_system(bundle):
    """The force is on the chosen atoms alone, in the order in which they were given."""
    water, other = load_system("water", MOLECULES), load_system("water", MOLECULES)
    other.positions += 20
    both = other + water
    topology, chosen = topology_of(both), [4, 3, 5]
    mechanics = openmm.System()
    for atom in both:
        mechanics.addParticle(atom.mass)
    mixed = openmmml.MLPotential(NAME, bundle=bundle).createMixedSystem(topology, mechanics, chosen)
    energy, forces = computed(mixed, both)
    water.calc = StudentCalculator.from_bundle(bundle)
    assert energy == pytest.approx(water.get_potential_energy() / KJ_PER_MOL, abs=1e-2)
    np.testing.assert_allclose(forces[3:], water.get_forces() * (ANGSTROM / KJ_PER_MOL), atol=0.5)
    assert (forces[:3] == 0).all()


def test_a_molecule_across_the_faces_of_a_mixed_systems_box(bundle):
    """One water by the student among waters of TIP3P with PME: whole, or with an atom in the next image."""
    water, box = load_system("water", MOLECULES), 24.0
    atoms = Atoms(cell=[box] * 3, pbc=True)
    for offset in ([0.2, 0.1, 0.3], [12.0, 12.0, 12.0], [4.0, 0.0, 1.0]):
        atoms += Atoms(water.numbers, water.positions - water.positions[0] + offset)
    topology = app.Topology()
    topology.setPeriodicBoxVectors(np.eye(3) * box / ANGSTROM * unit.nanometer)
    chain = topology.addChain()
    for _ in range(3):
        residue = topology.addResidue("HOH", chain)
        oxygen, *hydrogens = [
            topology.addAtom(name, app.Element.getBySymbol(name[0]), residue) for name in ("O", "H1", "H2")
        ]
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    mechanics = app.ForceField("tip3p.xml").createSystem(topology, nonbondedMethod=app.PME, rigidWater=False)
    mixed = openmmml.MLPotential(NAME, bundle=bundle).createMixedSystem(topology, mechanics, range(3))
    energy, forces = computed(mixed, atoms)
    assert np.abs(forces[:3] - computed(mechanics, atoms)[1][:3]).max() > 100, "the student's forces are others"
    wrapped = atoms.copy()
    wrapped.positions[1] += [0, box, 0]
    wrapped.positions[2] -= [box, 0, 2 * box]
    again = computed(mixed, wrapped)
    assert again[0] == pytest.approx(energy, abs=0.05)
    np.testing.assert_allclose(again[1], forces, atol=1)


def test_pressure_is_kept_by_a_barostat(bundle):
    """Its trial moves scale the box that the student sees."""
    atoms = caffeine(True)
    system = system_of(bundle, atoms)
    system.addForce(openmm.MonteCarloBarostat(1, 300, 1))
    context = context_of(system, atoms)
    context.setVelocitiesToTemperature(300, 1)
    context.getIntegrator().setStepSize(1e-5)
    context.getIntegrator().step(60)
    state = context.getState(energy=True, positions=True)
    now = atoms.copy()
    now.cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
    now.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
    assert abs(now.get_volume() / atoms.get_volume() - 1) > 1e-4
    now.calc = StudentCalculator.from_bundle(bundle)
    expected = now.get_potential_energy() / KJ_PER_MOL
    assert state.getPotentialEnergy().value_in_unit(unit.kilojoules_per_mole) == pytest.approx(expected, abs=0.05)


def test_a_system_written_as_xml_finds_its_bundle_again(bundle):
    atoms = caffeine(True)
    system = system_of(bundle, atoms)
    text = openmm.XmlSerializer.serialize(system)
    again, before = computed(openmm.XmlSerializer.deserialize(text), atoms), computed(system, atoms)
    assert again[0] == before[0]
    assert (again[1] == before[1]).all()


def test_a_process_that_knows_openmm_alone_reads_that_xml(bundle, tmp_path):
    file = tmp_path / "system.xml"
    file.write_text(openmm.XmlSerializer.serialize(system_of(bundle, caffeine(True))), encoding="utf-8")
    program = f"import openmm; print(openmm.XmlSerializer.deserialize(open({str(file)!r}).read()).getNumForces())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1


def test_energy_is_conserved(bundle):
    atoms = load_system("water", MOLECULES)
    potential = openmmml.MLPotential(NAME, bundle=bundle)
    context = context_of(potential.createSystem(topology_of(atoms), removeCMMotion=False), atoms)
    context.getIntegrator().setStepSize(1e-5)
    context.setVelocitiesToTemperature(100 * unit.kelvin, 1)

    def total():
        state = context.getState(energy=True)
        return (state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoules_per_mole)

    before = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoules_per_mole)
    start = total()
    context.getIntegrator().step(200)
    after = context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoules_per_mole)
    # Forces of other units would change the sum by as much as the potential energy changes.
    assert abs(after - before) > 1
    assert abs(total() - start) < 0.02 * abs(after - before)


def test_what_the_calculator_refuses_is_refused(bundle):
    fluoride = Atoms("HF", [[0, 0, 0], [0, 0, 0.92]])
    with pytest.raises(UserError, match="atom 1 is F, which the student never learned"):
        system_of(bundle, fluoride)
    assert computed(system_of(bundle, fluoride, allow="elements"), fluoride)[0] != 0
    water = load_system("water", MOLECULES)
    potential = openmmml.MLPotential(NAME, bundle=bundle)
    with pytest.raises(UserError, match="charge"):
        potential.createSystem(topology_of(water, charge=1))
    with pytest.raises(UserError, match="has no element"):
        potential.createSystem(topology_of(Atoms("XH", [[0, 0, 0], [0, 0, 2]])))
    water.positions[1] = water.positions[0] + 0.1
    with pytest.raises(openmm.OpenMMException, match="closer than anything that the student learned"):
        computed(system_of(bundle, water), water)


def test_what_a_potential_is_told(bundle):
    with pytest.raises(UserError, match="needs bundle="):
        openmmml.MLPotential(NAME)
    with pytest.raises(UserError, match="bundel"):
        openmmml.MLPotential(NAME, bundel=bundle)
    with pytest.raises(UserError, match="no bundle"):
        system_of(bundle / "nowhere", caffeine(False))


def test_the_example_runs_where_the_package_is_installed(bundle, tmp_path):
    """As an installed package: its entry points are found by their metadata."""
    metadata = tmp_path / "installed" / "mlff_distiller-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mlff-distiller\nVersion: 0\n")
    points = PROJECT["entry-points"]["openmmml.potentials"]
    lines = [f"{name} = {target}" for name, target in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[openmmml.potentials]", *lines, ""]))
    write(tmp_path / "ligand.pdb", load_system("water", MOLECULES))
    text = (CHECKOUT / "docs" / "openmm.md").read_text()
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace(
        "results/default/deploy/one_molecule", str(bundle)
    )
    path = os.pathsep.join([str(ROOT.parent), str(metadata.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OPENMM_CPU_THREADS": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"-?\d+\.\d+ kJ/mol\n", done.stdout)
