"""What is always trained on: the list, the plan, clusters and liquids, and that all other splits stay as they are."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from rdkit.Chem import AllChem

from mlff_distiller.data import coverage
from mlff_distiller.data.always_trained import outside_test, read_always_trained
from mlff_distiller.data.clusters import arranged, cluster_frames, cluster_size
from mlff_distiller.data.dataset import Dataset, from_lists, summary, write_dataset
from mlff_distiller.data.jobs import GroupJob
from mlff_distiller.data.labeling import PART_WEIGHT, _bounds, _costs
from mlff_distiller.data.liquid_sampling import box_frames, droplet_frames, edge_of
from mlff_distiller.data.molecule_list import ELEMENTS, flat_smiles, read_molecule_list
from mlff_distiller.data.molecules import molecule_from_smiles
from mlff_distiller.data.monte_carlo import RigidMolecules, turn
from mlff_distiller.data.read import read_dataset
from mlff_distiller.data.sampling import plan, sample
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.data.species import Species, make_species
from mlff_distiller.systems.units import BOLTZMANN
from mlff_distiller.training.expected import sample_identity
from mlff_distiller.utils.errors import UserError

LIST, ALWAYS = "resources/molecule_list.csv", "resources/always_trained.csv"
#: ASE's own toy potential for H, C, N, O.
EMT = {"calculator": "ase.calculators.emt:EMT"}
USUAL = {
    "molecules": 700,
    "configurations": 7000,
    "max_atoms": 24,
    "fractions": {"val": 0.03, "test": 0.04},
    "larger": {"molecules": 4, "configurations": 20, "max_atoms": 40},
}
EVERY_KIND = {"molecules": 10, "clusters": 60, "solvation": 60, "droplets": 56, "boxes": 14, "held_out": 0.2}


@pytest.fixture(scope="module")
def molecules():
    return read_molecule_list(LIST)


@pytest.fixture(scope="module")
def always():
    return read_always_trained(ALWAYS)


@pytest.fixture(scope="module")
def plans(molecules, always):
    """The jobs of the same settings without and with coverage."""
    folder = "resources/molecules"
    before, _ = plan(molecules, SamplingSettings.from_mapping(USUAL), EMT, folder)
    after, _ = plan(molecules, SamplingSettings.from_mapping(USUAL | {"coverage": EVERY_KIND}), EMT, folder, always)
    return before, after


def species_of(smiles):
    return make_species(smiles, 1, 0, json.dumps(EMT))


def names_in(job):
    return {flat_smiles(s) for s in (job.species if isinstance(job, GroupJob) else (job.smiles, *job.partners))}


def of_split(jobs, split):
    return [replace(job, settings="") for job in jobs if job.split == split]


def test_the_list_has_the_hydrides_of_all_elements_and_what_was_held_out_by_chance(always):
    smiles = {entry.molecule.smiles for entry in always}
    assert {"[H][H]", "C", "N", "O", "F", "P", "S", "Cl", "Br"} <= smiles
    assert {"O=C=O", "[N-]=[N+]=O", "O=NO", "S=C=S", "O=S(=O)(F)F", "NCl", "C#N", "N=C=O", "O=C=S"} <= smiles
    present = {atom.GetSymbol() for s in smiles for atom in molecule_from_smiles(s).GetAtoms()}
    assert present == set(ELEMENTS)
    density = {entry.molecule.name: entry.density for entry in always}
    assert density["water"] == pytest.approx(1.0, abs=0.01)
    assert density["hydrogen"] is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("ammonium,[NH4+],hydride,", "charged"),
        ("methyl,[CH3],hydride,", "unpaired"),
        ("oxygen,[O][O],hydride,", "unpaired"),
        ("silane,[SiH4],hydride,", "holds Si"),
        ("steam,O,hydride,", "same molecule as water"),
        ("ammonia,N,hydride,light", "density_g_cm3 is 'light', expected a number"),
        ("ammonia,N,hydride,-1", "density_g_cm3 is '-1'"),
    ],
)
def test_ions_radicals_and_senseless_rows_are_refused(tmp_path, row, message):
    path = tmp_path / "list.csv"
    path.write_text(f"name,smiles,class,density_g_cm3\nwater,O,hydride,0.997\n{row}\n")
    with pytest.raises(UserError, match=message):
        read_always_trained(path)


def test_a_list_without_densities_says_which_column_is_missing():
    with pytest.raises(UserError, match="no column density_g_cm3; the columns are name,smiles,class,density_g_cm3"):
        read_always_trained(LIST)


@pytest.mark.parametrize("split", ["train", "test", "larger", "benchmark"])
def test_the_jobs_of_other_splits_are_the_same_and_come_first(plans, split):
    before, after = plans
    here = of_split(before, split)
    assert len(here) > 3
    assert of_split(after, split)[: len(here)] == here


def test_only_val_loses_what_is_always_trained(plans, always):
    before, after = (of_split(jobs, "val") for jobs in plans)
    trained = {flat_smiles(entry.molecule.smiles) for entry in always}
    gone = {job.smiles for job in before} - {job.smiles for job in after}
    assert {"O=C=O", "[N-]=[N+]=O", "O=NO", "S=C=S", "O=S(=O)(F)F", "NCl"} <= gone
    assert all(flat_smiles(smiles) in trained for smiles in gone)
    assert not set().union(*map(names_in, after)) & trained
    stayed = {job.smiles: job for job in before}
    for job in after:
        was = stayed[job.smiles]
        assert (job.seed, job.counts, len(job.partners)) == (was.seed, was.counts, len(was.partners))


def test_no_molecule_that_is_held_out_is_trained_on(plans):
    _, after = plans
    held_out = set().union(*(names_in(job) for job in after if job.split in ("val", "test", "larger")))
    trained = set().union(*(names_in(job) for job in after if job.split in ("train", "coverage")))
    assert not held_out & trained
    assert {"O", "C", "c1ccccc1"} <= trained


def test_every_kind_gets_its_configurations_and_a_share_measures_it(plans, always):
    _, after = plans
    new = after[-sum(isinstance(job, GroupJob) for job in after) :]
    assert all(isinstance(job, GroupJob) for job in new)
    for kind, section in coverage.SECTIONS.items():
        jobs = [job for job in new if job.counts[0][0] == kind]
        assert sum(job.counts[0][1] for job in jobs) == EVERY_KIND[section]
        assert sum(job.counts[0][1] for job in jobs if job.split == "coverage") == round(0.2 * EVERY_KIND[section])
    alone = [job for job in after[: -len(new)] if job.split == "coverage"]
    assert [sum(n for _, n in job.counts) for job in alone] == [2] * len(always)
    assert len({job.seed for job in after}) == len(after) - sum(job.split == "benchmark" for job in after) + 1


def test_what_another_run_measures_was_not_trained_on(molecules, always, plans):
    """A run that trains nothing makes the held-out part alone, of the numbers that the training did not have."""
    measure = USUAL | {"splits": ["test"], "coverage": EVERY_KIND | {"held_out": 1.0}}
    jobs, _ = plan(molecules, SamplingSettings.from_mapping(measure), EMT, None, always)
    assert {job.split for job in jobs} == {"test", "larger", "coverage"}
    trained = {job.seed for job in plans[1] if job.split == "train"}
    assert not trained & {job.seed for job in jobs if job.split == "coverage"}
    part, _ = plan(
        molecules,
        SamplingSettings.from_mapping(USUAL | {"splits": ["test"], "coverage": EVERY_KIND}),
        EMT,
        None,
        always,
    )
    assert {job.split for job in part} == {"test", "larger", "coverage"}


def test_groups_are_of_the_size_and_density_asked_for(plans, always):
    mass = {
        e.molecule.smiles: sum(a.GetMass() for a in molecule_from_smiles(e.molecule.smiles).GetAtoms()) for e in always
    }
    density = {e.molecule.smiles: e.density for e in always}
    _, after = plans
    for job in (job for job in after if isinstance(job, GroupJob)):
        kind, atoms = job.counts[0][0], sum(molecule_from_smiles(s).GetNumAtoms() for s in job.species)
        if kind == "solvation":
            assert 2 <= len(job.species) <= 13
            assert len(set(job.species[1:])) == 1
            assert job.species[1] in ("O", "N", "CO")
        elif kind == "small_molecule_cluster":
            assert 2 <= len(job.species) <= 20
            assert atoms <= 60
        else:
            volume = sum(mass[s] / (density[s] * 0.602214) for s in job.species)
            assert 0.85 <= volume / job.edge**3 <= 1.15
            assert atoms >= 198 if kind == "droplet" else 9.8 <= job.edge < 12
            assert not job.dynamics
        assert not (job.dynamics and atoms > 36)


def test_what_is_in_test_is_left_out_and_named(molecules, always, tmp_path):
    fractions = {"val": 0.0, "test": 0.4}
    taken, left_out = outside_test(always, fractions, 3)
    assert 20 < len(left_out) < 80
    assert {"water", "methane", "benzene"} <= {entry.molecule.name for entry in taken}
    settings = USUAL | {"fractions": fractions, "seed": 3, "coverage": {"molecules": 3, "clusters": 60}}
    jobs, _ = plan(molecules, SamplingSettings.from_mapping(settings), EMT, None, always)
    trained = set().union(*(names_in(job) for job in jobs if job.split in ("train", "coverage")))
    assert not trained & {flat_smiles(e.molecule.smiles) for e in always if e.molecule.name in left_out}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clusters": -1}, "coverage.clusters: expected whole number >= 0, got -1"),
        ({"hydrides": 5}, "coverage: unknown key 'hydrides'"),
        ({"densities": [1.1, 0.9]}, "densities: 1.1 is more than 0.9; the smaller comes first"),
        ({"liquids": []}, "coverage.liquids: expected list"),
        ({"liquids": ["water + methanol"]}, "coverage.liquids.0"),
    ],
)
def test_senseless_settings_are_refused(given, message):
    with pytest.raises(UserError, match=message):
        SamplingSettings.from_mapping({"coverage": given})


@pytest.mark.parametrize(
    ("given", "teacher", "message"),
    [
        ({"solvation": 6, "solvents": ["watr"]}, EMT, "solvents: 'watr' is not in .*; did you mean 'water'"),
        ({"solvation": 6, "solute_atoms": 2}, EMT, "solute_atoms: no training molecule is so small"),
        ({"droplets": 8, "liquids": ["water+hydrogen"]}, EMT, "hydrogen has no density in molecules.always_trained"),
        ({"boxes": 2}, None, "Ask for droplets instead"),
        ({"boxes": 2}, {"arguments": {"verbosity": 0}}, "Ask for droplets instead"),
    ],
)
def test_what_cannot_be_made_says_what_to_do(molecules, always, given, teacher, message):
    settings = SamplingSettings.from_mapping({"molecules": 20, "coverage": given})
    alkanes = [m for m in molecules if m.family == "alkane"]
    with pytest.raises(UserError, match=message):
        plan(alkanes, settings, teacher, None, always)


def test_without_the_file_it_is_asked_for(molecules):
    with pytest.raises(UserError, match=r"give --always-trained resources/always_trained\.csv"):
        plan(molecules, SamplingSettings.from_mapping({"coverage": {"molecules": 1}}), EMT, None)


def test_settings_without_coverage_are_those_from_before_there_was_any():
    assert "coverage" not in SamplingSettings.from_mapping({"coverage": {"cluster_atoms": 30}}).to_mapping()
    assert SamplingSettings.from_mapping({"coverage": {"boxes": 1}}).to_mapping()["coverage"]["boxes"] == 1
    card = {"sampling": {"settings": {"seed": 1}, "molecule_list_sha256": "0"}}
    other = {"sampling": card["sampling"] | {"always_trained_sha256": "1"}}
    assert sample_identity(card) != sample_identity(other)


def test_monte_carlo_samples_the_boltzmann_distribution():
    """Two atoms in a box: their mean energy, against the integral over all distances."""
    atom = Species("[Ar]", np.array([6]), np.array([12.0]), np.zeros((1, 3)), np.zeros((0, 1, 3)), np.zeros(1),
                   np.array([3.4]), np.array([0.03]))  # fmt: skip
    edge, temperature, rng = 7.6, 200.0, np.random.default_rng(0)
    pair = RigidMolecules.on_lattice([atom, atom], edge, temperature, rng)
    pair.sweep(300)
    sampled = []
    for _ in range(4000):
        pair.sweep(1)
        sampled.append(pair.energy())
    line = (np.arange(60) + 0.5) / 60 * edge / 2
    distance = np.sqrt((np.stack(np.meshgrid(line, line, line)) ** 2).sum(axis=0)).ravel()
    core = 0.55 * 3.4
    near = np.maximum(distance, core)
    energy = 4 * 0.03 * ((3.4 / near) ** 12 - (3.4 / near) ** 6) + 40 * np.maximum(core - distance, 0) / core
    energy[distance >= edge / 2] = 0.0
    weight = np.exp(-energy / (BOLTZMANN * temperature))
    assert np.mean(sampled) == pytest.approx((energy * weight).sum() / weight.sum(), rel=0.12)
    assert (energy * weight).sum() / weight.sum() < -0.004


def test_two_waters_are_joined_by_a_hydrogen_bond():
    water = species_of("O")
    assert water.charges == pytest.approx([-0.86, 0.43, 0.43], abs=0.02)
    distances = []
    for seed in range(4):
        pair = arranged([water, water], np.random.default_rng(seed))
        pair.sweep(40)
        distances.append(np.linalg.norm(pair.positions[0] - pair.positions[3]))
    assert 2.5 < np.median(distances) < 3.2
    assert pair.energy() < -0.1


def test_a_partner_has_the_teachers_geometry_and_not_that_of_the_classical_force_field():
    """MMFF94 puts the atoms of N2 1.46 A apart."""
    from ase.calculators.emt import EMT as Toy

    forces = {}
    for steps in (0, 100):
        partner = make_species("N#N", 1, steps, json.dumps(EMT))
        atoms = Atoms(partner.numbers, partner.body, calculator=Toy())
        forces[steps] = (atoms.get_distance(0, 1), np.abs(atoms.get_forces()).max())
    assert forces[0][0] == pytest.approx(1.46, abs=0.01)
    assert forces[0][1] > 1
    assert forces[100][0] == pytest.approx(1.0, abs=0.02)
    assert forces[100][1] < 0.03


@pytest.mark.parametrize("smiles", ["O=[O+][O-]", "ClP(Cl)(Cl)(Cl)Cl"])
def test_a_partner_for_which_mmff94_has_no_parameters(smiles):
    """UFF gives geometry and modes, Gasteiger the charges, and where he has none, either, there are none."""
    partner, mol = species_of(smiles), molecule_from_smiles(smiles)
    assert not AllChem.MMFFHasAllMoleculeParams(mol)
    AllChem.EmbedMolecule(mol, randomSeed=1)
    mol.GetConformer().SetPositions(partner.body)
    if "P" not in smiles:  # RDKit's UFF has no minimum for five bonds
        assert np.abs(AllChem.UFFGetMoleculeForceField(mol).CalcGrad()).max() < 0.1  # kcal/mol/A
    assert partner.charges.sum() == pytest.approx(0, abs=1e-9)
    if "P" in smiles:
        assert not partner.charges.any()
    else:
        # The middle gives, those around it take.
        assert partner.charges[1] == partner.charges.max() > 0.1
        assert np.delete(partner.charges, 1).max() < 0
    moved = partner.vibrated(300.0, np.random.default_rng(0))
    shapes = [np.linalg.norm(body[:, None] - body, axis=-1) for body in (partner.body, moved)]
    assert 0.001 < np.abs(shapes[1] - shapes[0]).max() < 1
    pair = arranged([species_of("O"), partner], np.random.default_rng(0))
    assert np.isfinite(pair.energy())
    apart = np.linalg.norm(pair.positions[:3, None] - pair.positions[None, 3:], axis=-1)
    assert 1.5 < apart.min() < 5


def test_a_turned_molecule_keeps_its_shape_and_a_frame_its_molecules():
    from scipy.spatial.transform import Rotation

    for smiles in ("CCO", "O=C=O", "[H][H]"):
        species = species_of(smiles)
        arms = Rotation.random(rng=np.random.default_rng(1)).apply(species.body)
        matrix = turn(species.body, arms)
        assert np.allclose(species.body @ matrix.T, arms, atol=1e-9)
        assert np.linalg.det(matrix) == pytest.approx(1.0)
    water = species_of("O")
    box = RigidMolecules.on_lattice([water] * 8, 6.5, 300.0, np.random.default_rng(2))
    box.sweep(3)
    bonds = box.frame(1.0).reshape(8, 3, 3)
    assert np.allclose(np.linalg.norm(bonds[:, 1:] - bonds[:, :1], axis=-1), 0.969, atol=0.02)


def test_boxes_have_the_density_of_the_liquid_and_no_overlap():
    water = species_of("O")
    edge = edge_of([18.015] * 20, [0.997] * 20, 1.0)
    assert edge == pytest.approx((20 * 30.0) ** (1 / 3), abs=0.02)
    frames = box_frames([water] * 20, edge, 2, 300.0, np.random.default_rng(0))
    for positions in frames:
        box = Atoms("OH2" * 20, positions, cell=[edge] * 3, pbc=True)
        distance = box.get_all_distances(mic=True)
        apart = np.arange(60)[:, None] // 3 != np.arange(60)[None] // 3
        assert distance[apart].min() > 1.2
        oxygens = distance[::3, ::3][np.triu_indices(20, 1)]
        assert 2.4 < oxygens.min() < 3.0
    assert not np.allclose(frames[0], frames[1], atol=0.1)
    with pytest.raises(UserError, match=r"do not fit into a box of 3\.50 A"):
        box_frames([water] * 20, 3.5, 1, 300.0, np.random.default_rng(0))


def test_a_droplet_is_the_molecules_nearest_to_its_middle():
    ammonia, water = species_of("N"), species_of("O")
    species = [water, ammonia] * 12
    edge = edge_of([18.0, 17.0] * 12, [1.0, 0.68] * 12, 1.0)
    for numbers, positions, smiles in droplet_frames(species, edge, 3, (14, 30), 300.0, np.random.default_rng(5)):
        sizes = [{"O": 3, "N": 4}[s] for s in smiles]
        assert len(numbers) == len(positions) == sum(sizes)
        assert 10 <= len(numbers) <= 30
        assert list(numbers[np.cumsum([0, *sizes[:-1]])]) == [{"O": 8, "N": 7}[s] for s in smiles]
        parts = np.split(positions, np.cumsum(sizes)[:-1])
        centers = np.array([part.mean(axis=0) for part in parts])
        assert np.allclose(centers[0], 0.0)
        assert (np.diff(np.linalg.norm(centers, axis=1)) >= 0).all()
        assert max(np.ptp(part, axis=0).max() for part in parts) < 2.5


def test_clusters_are_sampled_in_all_their_ways():
    from ase.calculators.emt import EMT as Toy

    species = [species_of("CO"), species_of("O")]
    frames, notes = cluster_frames(species, 8, 300.0, Toy(), 2, np.random.default_rng(0))
    assert (len(frames), notes) == (8, [])
    assert {f.shape for f in frames} == {(9, 3)}
    sizes = [cluster_size(SamplingSettings().coverage, 3, np.random.default_rng(i)) for i in range(300)]
    assert (min(sizes), max(sizes)) == (2, 20)
    assert np.median(sizes) < 9


def small_plan(tmp_path, listed, always, name, cores=1, **covers):
    chosen = [m for m in listed if m.family in ("alcohol", "alkane", "amine") and m.n_atoms <= 12]
    few = [e for e in always if e.molecule.name in ("water", "ammonia", "methane", "methanol", "carbon_dioxide")]
    settings = {"molecules": 16, "configurations": 80, "max_atoms": 12, "larger": {"molecules": 0}, "md_molecules": 1.0,
                "relax_steps": 2, "fractions": {"val": 0.1, "test": 0.3}, "coverage": covers}  # fmt: skip
    return sample(chosen, SamplingSettings.from_mapping(settings), EMT, tmp_path / name, cores, None, few)


def test_the_test_split_has_the_same_bytes_with_and_without_coverage(tmp_path, molecules, always):
    covers = {"molecules": 4, "clusters": 8, "solvation": 6, "droplets": 2, "boxes": 2, "held_out": 0.3,
              "liquids": ["water+methane"], "droplet_atoms": [12, 20], "box_edge": 6.0}  # fmt: skip
    before, _ = small_plan(tmp_path, molecules, always, "before")
    after, card = small_plan(tmp_path, molecules, always, "after", **covers)
    old, new = before.of_split("test"), after.of_split("test")
    assert len(old) > 10
    for field in ("numbers", "positions", "offsets", "method"):
        assert getattr(old, field).tobytes() == getattr(new, field).tobytes()
    assert [old.molecules[i] for i in old.molecule] == [new.molecules[i] for i in new.molecule]
    assert before.cells is None
    box = after.method == after.methods.index("box")
    assert box.sum() == 2
    assert (after.pbc.all(axis=1) == box).all()
    assert (after.cells[box][:, 0, 0] >= 6.0).all()
    assert not after.cells[~box].any()
    found = summary(after)
    assert found["periodic"]["configurations"] == 2
    assert found["by_method"]["solvation"] == 6
    left_out = {note.partition(":")[0] for note in card["notes"] if "in the split test" in note}
    assert left_out <= {"ammonia", "methanol", "carbon_dioxide"}
    assert card["molecules_by_class"]["always trained"] == 5 - len(left_out)
    parts = sorted((tmp_path / "after").glob("*.npz"))
    for part in (parts[20], parts[-1]):
        part.unlink()
    again, _ = small_plan(tmp_path, molecules, always, "after", cores=2, **covers)
    assert again.positions.tobytes() == after.positions.tobytes()


def test_the_card_names_the_benchmark_molecules_that_are_trained_on():
    def card(*entries):
        names, splits = zip(*entries, strict=True)
        atoms = [np.array([8])] * len(names)
        return summary(from_lists(atoms, [np.zeros((1, 3))] * len(names), names, splits, ["given"] * len(names)))

    trained = [("N.O.O", "train"), ("C", "train"), ("CC", "train")]
    seven = [("O", "benchmark"), ("C", "benchmark"), ("c1ccccc1", "benchmark")]
    assert card(*trained, *seven)["by_split"]["benchmark"]["also_trained_on"] == ["C", "O"]
    assert card(("CC", "train"), *seven)["by_split"]["benchmark"]["also_trained_on"] == []
    assert "also_trained_on" not in card(*seven)["by_split"]["benchmark"]


def waters(edges):
    """A water dimer for each edge, in a periodic box unless that is 0."""
    pair = species_of("O").body
    positions = np.concatenate([pair, pair + np.array([2.9, 0.4, 0.3])])
    boxes = np.array(edges)[:, None, None] * np.eye(3)
    numbers = np.array([8, 1, 1, 8, 1, 1])
    return from_lists(
        [numbers] * len(edges),
        [positions] * len(edges),
        ["O.O"] * len(edges),
        ["train"] * len(edges),
        ["box" if edge else "small_molecule_cluster" for edge in edges],
        cells=boxes,
        pbc=np.array([[edge > 0] * 3 for edge in edges]),
    )


def test_boxes_are_labeled_with_their_images_and_the_others_without(tmp_path):
    mixed = waters([0.0, 7.0, 0.0, 200.0])
    alone = replace(waters([0.0]), cells=None, pbc=None)
    labels = [_labeled(tmp_path, name, data) for name, data in (("mixed", mixed), ("alone", alone))]
    (open_one, boxed, open_again, far), (single,) = (found.energies for found in labels)
    assert open_one == open_again == single
    assert far == pytest.approx(single, abs=1e-4)
    assert abs(boxed - single) > 0.005
    assert labels[0].cells[1, 0, 0] == 7.0
    assert labels[0].pbc.any(axis=1).tolist() == [False, True, False, True]
    assert np.abs(labels[0].forces.reshape(4, 6, 3).sum(axis=1)).max() < 1e-4


def _labeled(folder, name, dataset: Dataset):
    write_dataset(folder / f"{name}.h5", dataset)
    command = [sys.executable, "-m", "mlff_distiller", "label", "--configurations", str(folder / f"{name}.h5")]
    command += ["--output", str(folder / f"{name}_labels.h5"), "--card", str(folder / f"{name}.json")]
    command += ["--settings", json.dumps({"teacher": {"arguments": {"method": "GFN1-xTB"}}})]
    environment = {**os.environ, "PYTHONPATH": "workflow", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return read_dataset(folder / f"{name}_labels.h5")


def test_a_periodic_box_is_a_larger_part_of_the_labels_work():
    assert _bounds(_costs(waters([0.0] * 50)), PART_WEIGHT) == [0, 50]
    assert _bounds(_costs(waters([5.0] * 50)), PART_WEIGHT) == [0, 33, 50]
