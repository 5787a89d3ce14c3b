"""The molecule list, its growth, its splits, and the geometries that are sampled."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mlff_distiller.data.always_trained import read_always_trained
from mlff_distiller.data.dataset import METHODS, content_hash
from mlff_distiller.data.geometry import (
    closest,
    make_shape,
    put_together,
    radii,
    stretch,
    thermal_modes,
    twist,
    vibrate,
)
from mlff_distiller.data.jobs import GroupJob
from mlff_distiller.data.molecule_list import (
    ELEMENTS,
    benchmark_smiles,
    flat_smiles,
    grow,
    objection,
    read_molecule_list,
    split_of,
)
from mlff_distiller.data.molecules import BENCHMARK_MOLECULES, molecule_from_smiles
from mlff_distiller.data.sampling import plan, sample
from mlff_distiller.data.sampling_settings import SamplingSettings, Shares
from mlff_distiller.systems.units import BOLTZMANN
from mlff_distiller.utils.errors import UserError

LIST = "resources/molecule_list.csv"
#: ASE's own toy potential for H, C, N, O: fast, and enough to see that sampling works.
EMT_TEACHER = {"calculator": "ase.calculators.emt:EMT"}
FULL = {"molecules": 3000, "configurations": 60000, "max_atoms": 44, "larger": {"molecules": 20, "max_atoms": 75}}


@pytest.fixture(scope="module")
def molecules():
    return read_molecule_list(LIST)


@pytest.fixture(scope="module")
def grown(molecules):
    return grow(molecules, 300, seed=7, max_atoms=30)


def test_the_list_is_long_broad_and_sound(molecules):
    assert len(molecules) >= 300
    assert len({molecule.name for molecule in molecules}) == len(molecules)
    families = {molecule.family for molecule in molecules}
    assert len(families) >= 20
    present = {atom.GetSymbol() for m in molecules for atom in molecule_from_smiles(m.smiles).GetAtoms()}
    assert present == set(ELEMENTS)


def test_no_benchmark_molecule_is_in_the_list_or_grown(molecules, grown):
    names = {flat_smiles(molecule.smiles) for molecule in [*molecules, *grown]}
    assert len(benchmark_smiles()) == 7
    assert not names & benchmark_smiles()


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("C1CC", "cannot read"),
        ("[NH4+]", "charged"),
        ("[CH3]", "unpaired"),
        ("C[Si](C)(C)C", "holds Si"),
        ("C.C", "more than one"),
        ("[NH3+]CC(=O)[O-]", "zwitterion"),
        ("O", "benchmark molecule"),
        ("Cn1c(=O)c2c(ncn2C)n(C)c1=O", "benchmark molecule"),
        ("CC1(C)S[C@H]2[C@@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O", "benchmark molecule"),
    ],
)
def test_objections(smiles, reason):
    assert reason in objection(smiles)


@pytest.mark.parametrize("smiles", ["C[N+](=O)[O-]", "C=[N+]=[N-]", "CN=[N+]=[N-]", "[C-]#[O+]", "C[N+](C)(C)[O-]"])
def test_charges_that_cancel_inside_a_group_are_fine(smiles):
    assert objection(smiles) == ""


def test_a_bad_list_names_its_bad_rows(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("name,smiles,class\nethane,CC,alkane\nsodium,[Na+],salt\nethane again,C-C,alkane\n")
    with pytest.raises(UserError, match=r"2 of 3 rows(.|\n)*line 3, sodium(.|\n)*line 4.*same molecule as ethane"):
        read_molecule_list(path)
    path.write_text("title,smiles\nethane,CC\n")
    with pytest.raises(UserError, match="no column class, name"):
        read_molecule_list(path)
    with pytest.raises(UserError, match="no such molecule list"):
        read_molecule_list(tmp_path / "absent.csv")


def test_growth_is_reproducible_new_sound_and_within_size(molecules, grown):
    assert grown == grow(molecules, 300, seed=7, max_atoms=30)
    assert grown != grow(molecules, 300, seed=8, max_atoms=30)
    assert len(grown) == 300
    assert max(m.n_atoms for m in grown) <= 30
    assert {m.family for m in grown} == {"substituted", "peptide", "recombined"}
    flat = [flat_smiles(m.smiles) for m in grown]
    assert len(set(flat)) == 300
    assert not set(flat) & {flat_smiles(m.smiles) for m in molecules}
    assert [m.smiles for m in grown if objection(m.smiles)] == []


def test_growth_of_large_molecules(molecules):
    large = grow(molecules, 20, seed=1, max_atoms=70, min_atoms=45)
    assert len(large) == 20
    assert all(45 <= m.n_atoms <= 70 for m in large)


def test_growth_does_not_depend_on_the_hash_seed():
    code = (
        "from mlff_distiller.data.molecule_list import *;"
        f"print([m.smiles for m in grow(read_molecule_list({LIST!r}), 40, 3, 28)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "workflow"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_both_hands_share_a_split_and_the_shares_are_kept(molecules, grown):
    fractions = {"val": 0.1, "test": 0.2}
    assert split_of("C[C@H](N)C(=O)O", fractions, 5) == split_of("C[C@@H](N)C(=O)O", fractions, 5)
    found = [split_of(m.smiles, fractions, 5) for m in [*molecules, *grown]]
    assert 0.06 < found.count("val") / len(found) < 0.14
    assert 0.15 < found.count("test") / len(found) < 0.25
    assert {split_of("CC", {"val": 0.0, "test": 0.0}, s) for s in range(20)} == {"train"}


def test_training_covers_the_chemistry_of_the_seven(molecules):
    """What the benchmark molecules are made of occurs in training molecules, several times, under the full settings."""
    from rdkit import Chem

    jobs, _ = plan(molecules, SamplingSettings.from_mapping(FULL), EMT_TEACHER, None)
    train = [Chem.MolFromSmiles(job.smiles) for job in jobs if job.split == "train"]
    wanted = {
        "purine dione (caffeine)": "O=c1[nX3]c(=O)c2[nX3]c[nX2]c2[nX3]1",
        "N-methyl imide": "O=C[NX3](C)C=O",
        "beta-lactam": "O=C1CCN1",
        "penam": "O=C1CC2SCCN12",
        "gem-dimethyl thioether": "CC(C)S",
        "phenylacetamide": "c1ccccc1CC(=O)N",
        "carboxylic acid": "C(=O)[OH]",
        "alanine dipeptide": "CC(=O)NC(C)C(=O)NC",
        "two peptide units": "NC(C)C(=O)NC(C)C(=O)",
        "decalin": "C1CCC2CCCCC2C1",
        "hydrindane": "C1CCC2CCCC2C1",
        "cyclohexene, trisubstituted": "C1CCCC(C)(C)C1=CC",
        "cyclohexanol": "OC1CCCCC1",
        "isoalkane chain": "CC(C)CCCC",
        "benzene ring": "c1ccccc1",
    }
    counts = {
        name: sum(m.HasSubstructMatch(Chem.MolFromSmarts(smarts)) for m in train) for name, smarts in wanted.items()
    }
    assert min(counts.values()) >= 3, counts


def test_other_draws_leave_the_split_as_it_is(molecules):
    sizes = {"molecules": 860, "configurations": 900, "split_seed": 2025, "benchmark_configurations": 0}
    drawn = []
    for seed in (2025, 7):
        settings = SamplingSettings.from_mapping(sizes | {"seed": seed, "larger": {"molecules": 0}})
        jobs, _ = plan(molecules, settings, EMT_TEACHER, None)
        drawn.append({job.smiles: (job.split, job.seed) for job in jobs})
    first, second = drawn
    shared = first.keys() & second.keys()
    assert len(shared) > 500
    assert len(second.keys() - first.keys()) > 10
    assert all(first[smiles][0] == second[smiles][0] for smiles in shared)
    assert all(first[smiles][1] != second[smiles][1] for smiles in shared)
    assert all(split == split_of(smiles, {"val": 0.1, "test": 0.1}, 2025) for smiles, (split, _) in second.items())


def test_larger_molecules_are_larger_than_any_trained_and_splits_do_not_overlap(molecules):
    jobs, _ = plan(molecules, SamplingSettings.from_mapping(FULL), EMT_TEACHER, None)
    size = {split: [] for split in ("train", "val", "test", "larger")}
    names = {split: set() for split in size}
    for job in jobs:
        size[job.split].append(molecule_from_smiles(job.smiles).GetNumAtoms())
        names[job.split] |= {flat_smiles(s) for s in (job.smiles, *job.partners)}
    assert min(size["larger"]) > max(size["train"] + size["val"] + size["test"])
    assert len(size["larger"]) == 20
    for one in names:
        assert not names[one] & benchmark_smiles()
        for other in names:
            assert one == other or not names[one] & names[other]
    planned = sum(n for job in jobs for _, n in job.counts if job.split != "larger")
    assert planned == FULL["configurations"]


def test_small_training_molecules_get_their_least_and_no_other_changes(molecules):
    def planned(settings):
        jobs, _ = plan(molecules, SamplingSettings.from_mapping(settings), EMT_TEACHER, None)
        return {
            job.smiles: (job.split, sum(n for _, n in job.counts), job.counts, job.seed, job.partners) for job in jobs
        }

    small = {m.smiles for m in molecules if m.n_atoms <= 6}
    usual = {"molecules": 300, "configurations": 3000, "max_atoms": 24, "fractions": {"val": 0.1, "test": 0.1}}
    before, after = planned(usual), planned(usual | {"small": {"max_atoms": 6, "configurations": 40}})
    raised = {smiles for smiles, (split, *_) in after.items() if smiles in small and split == "train"}
    assert len(raised) > 10
    assert {after[smiles][1] for smiles in raised} == {40}
    assert {k: v for k, v in after.items() if k not in raised} == {k: v for k, v in before.items() if k not in raised}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"configuration": 5}, "student.sampling: unknown key 'configuration'; did you mean 'configurations'"),
        ({"shares": {"mdd": 1}}, "student.sampling.shares: unknown key 'mdd'"),
        ({"shares": 0.5}, "shares: expected mapping, got 0.5"),
        ({"molecules": "many"}, "molecules: expected whole number >= 0, got 'many'"),
        ({"molecules": 2.5}, "molecules: expected whole number >= 0, got 2.5"),
        ({"molecules": -3}, "molecules: expected whole number >= 0, got -3"),
        ({"relax_steps": True}, "relax_steps: expected whole number >= 0, got True"),
        ({"md_temperatures": 300}, r"md_temperatures: expected list \(1 or more\) of number > 0, got 300"),
        ({"splits": ["tests"]}, "splits.0: cannot be 'tests'; did you mean 'test'"),
        ({"max_atoms": 40}, "larger.max_atoms: 30 is not more than max_atoms, 40"),
        ({"fractions": {"val": 0.6, "test": 0.5}}, "nothing to train on"),
        ({"fractions": {"val": 1.5}}, "fractions.val: expected number >= 0 and <= 1, got 1.5"),
        ({"configurations": 0}, "configurations: expected whole number >= 1, got 0"),
        ({"shares": dict.fromkeys(Shares.model_fields, 0)}, "at least one must be positive"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SamplingSettings.from_mapping(settings)


def test_thermal_modes_obey_equipartition():
    """Half kT of potential energy a mode in the force field they come from, at a temperature where it is harmonic."""
    from rdkit.Chem import AllChem

    shape = make_shape("OCC=O", 1, seed=0)
    modes = thermal_modes(shape, shape.starts[0])
    assert modes.shape == (3 * 8 - 6, 8, 3)
    properties = AllChem.MMFFGetMoleculeProperties(shape.mol)
    rng, temperature, energies = np.random.default_rng(0), 20.0, []

    def energy(positions):
        shape.mol.GetConformer(0).SetPositions(positions)
        return AllChem.MMFFGetMoleculeForceField(shape.mol, properties, confId=0).CalcEnergy() * 0.0433641

    lowest = energy(shape.starts[0])
    for _ in range(200):
        energies.append(energy(vibrate(shape.starts[0], modes, temperature, rng)) - lowest)
    # Modes softer than 150 cm^-1 are held at that stiffness and carry less.
    assert 0.75 < np.mean(energies) / (len(modes) * BOLTZMANN * temperature / 2) < 1.1


def test_linear_molecules_keep_their_bending_modes():
    shape = make_shape("O=C=O", 1, seed=0)
    assert len(thermal_modes(shape, shape.starts[0])) == 4


def test_stretch_changes_one_bond_and_twist_none():
    shape, rng = make_shape("CCOC", 1, seed=0), np.random.default_rng(1)
    start = shape.starts[0]
    length = np.linalg.norm(start[shape.bonds[:, 0]] - start[shape.bonds[:, 1]], axis=1)
    for _ in range(20):
        moved = stretch(shape, start, rng)
        ratio = np.linalg.norm(moved[shape.bonds[:, 0]] - moved[shape.bonds[:, 1]], axis=1) / length
        assert (np.abs(ratio - 1) > 1e-6).sum() == 1
        assert ratio.min() > 0.77
        assert ratio.max() < 1.51
        turned = twist(shape, start, rng)
        assert np.allclose(np.linalg.norm(turned[shape.bonds[:, 0]] - turned[shape.bonds[:, 1]], axis=1), length)
    assert not np.allclose(turned, start, atol=0.05)


@pytest.mark.parametrize("closeness", [0.6, 1.0, 1.3])
def test_molecules_put_together_touch_at_the_distance_asked_for(closeness):
    rng = np.random.default_rng(3)
    bodies = [(shape.numbers, shape.starts[0]) for shape in (make_shape(s, 1, 0) for s in ("CCO", "CC(=O)N", "S"))]
    for _ in range(10):
        numbers, positions = put_together(bodies[:2], closeness, rng)
        n = len(bodies[0][0])
        distance = np.linalg.norm(positions[:n, None] - positions[None, n:], axis=-1)
        assert (distance / (radii(numbers[:n])[:, None] + radii(numbers[n:])[None])).min() == pytest.approx(closeness)
    numbers, positions = put_together(bodies, closeness, rng)
    assert len(numbers) == sum(len(z) for z, _ in bodies)
    assert closest(positions) > 0.5


def sampled(tmp_path, molecules, cores=2, **settings):
    chosen = [m for m in molecules if m.family in ("alcohol", "alkane", "amine") and m.n_atoms <= 12]
    small = {"molecules": 8, "configurations": 120, "max_atoms": 12, "larger": {"molecules": 0}, "md_molecules": 1.0}
    return sample(chosen, SamplingSettings.from_mapping(small | settings), EMT_TEACHER, tmp_path / "parts", cores)


def test_sampling_uses_every_method_and_resumes_to_the_same_result(tmp_path, molecules):
    dataset, card = sampled(tmp_path, molecules)
    assert len(dataset) == 120
    assert set(card["molecules_by_class"]) == {"alcohol", "alkane", "amine"}
    used = {METHODS[i] for i in dataset.method}
    assert used >= {"conformer", "normal_modes", "random", "stretch", "torsion", "md", "cluster", "contact"}
    assert (
        min(closest(dataset.positions[a:b]) for a, b in zip(dataset.offsets, dataset.offsets[1:], strict=False)) > 0.45
    )
    for i, name in enumerate(dataset.molecules):
        assert len(set(dataset.split[dataset.molecule == i])) == 1
        expected = sorted(z for part in name.split(".") for z in _numbers(part))
        row = int(np.flatnonzero(dataset.molecule == i)[0])
        assert sorted(dataset.numbers[dataset.offsets[row] : dataset.offsets[row + 1]].tolist()) == expected
    parts = sorted((tmp_path / "parts").glob("*.npz"))
    parts[0].unlink()
    before = parts[1].stat().st_mtime_ns
    again, _ = sampled(tmp_path, molecules, cores=1)
    assert content_hash(again) == content_hash(dataset)
    assert parts[1].stat().st_mtime_ns == before


def test_the_benchmark_split_starts_from_the_shipped_geometries(molecules):
    jobs, _ = plan(molecules, SamplingSettings.from_mapping({}), EMT_TEACHER, "resources/molecules")
    benchmark = [job for job in jobs if job.split == "benchmark"]
    assert [job.smiles for job in benchmark] == [molecule.smiles for molecule in BENCHMARK_MOLECULES]
    assert [len(job.geometry) for job in benchmark] == [molecule.n_atoms for molecule in BENCHMARK_MOLECULES]


def test_the_commands_sample_and_label_make_a_dataset_with_its_card(tmp_path):
    """The two stages as the workflow calls them, with the real teacher, on a handful of molecules."""
    settings = {
        "sampling": {
            "molecules": 4,
            "configurations": 12,
            "max_atoms": 7,
            "md_molecules": 1.0,
            "relax_steps": 3,
            "larger": {"molecules": 0},
            "benchmark_configurations": 0,
        }
    }
    environment = {**os.environ, "PYTHONPATH": "workflow", "OMP_NUM_THREADS": "1"}

    def call(*arguments):
        command = [sys.executable, "-m", "mlff_distiller", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    configurations, dataset = tmp_path / "configurations.h5", tmp_path / "dataset.h5"
    call("sample", "--molecules", LIST, "--settings", json.dumps(settings), "--output", configurations,
         "--card", tmp_path / "sampling.json", "--cores", 2)  # fmt: skip
    said = call("label", "--configurations", configurations, "--output", dataset, "--card", tmp_path / "card.json",
                "--sample-card", tmp_path / "sampling.json", "--cores", 2)  # fmt: skip
    assert "labeled configurations" in said
    assert not list(tmp_path.glob("*.parts"))
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["labels_tried"] == 12
    assert card["configurations"] + sum(card["left_out"].values()) == 12
    assert card["teacher"] == "tblite.ase:TBLite(method=GFN2-xTB)"
    assert card["sampling"]["settings"]["max_atoms"] == 7
    assert len(card["file_sha256"]) == 64
    from mlff_distiller.data.read import read_dataset

    labeled = read_dataset(dataset)
    assert content_hash(labeled) == card["content_sha256"]
    # Total energies: a few tens of eV an atom below zero for GFN2-xTB, and forces without a net force.
    assert (labeled.energies / labeled.n_atoms < -10).all()
    net = np.add.reduceat(labeled.forces.astype(float), labeled.offsets[:-1])
    assert np.abs(net).max() < 1e-3


def _numbers(smiles):
    return [atom.GetAtomicNum() for atom in molecule_from_smiles(smiles).GetAtoms()]


def test_further_draws_are_of_other_seeds_and_trained_on_alone(molecules):
    base = {"molecules": 90, "configurations": 300, "seed": 11, "larger": {"molecules": 2}}
    alone = SamplingSettings.from_mapping(base)
    further = {"draws": 2, "molecules": 80, "configurations": 200, "relax_steps": 3}
    settings = SamplingSettings.from_mapping(base | {"further": further})
    jobs, families = plan(molecules, settings, EMT_TEACHER, "resources/molecules")
    first, _ = plan(molecules, alone, EMT_TEACHER, "resources/molecules")
    outcomes = [(job.smiles, job.split, job.seed, job.counts, job.partners) for job in jobs]
    assert outcomes[: len(first)] == [(job.smiles, job.split, job.seed, job.counts, job.partners) for job in first]
    drawn = jobs[len(first) :]
    assert {job.split for job in drawn} == {"train"}
    assert {json.loads(job.settings)["settings"]["relax_steps"] for job in drawn} == {3}
    held_out = {job.smiles for job in first if job.split != "train"}
    assert not held_out & {name for job in drawn for name in (job.smiles, *job.partners)}
    for number in (1, 2):
        own = base | {"split_seed": 11, "seed": 11 + number, "splits": ["train"], "benchmark_configurations": 0}
        own |= {"larger": {"molecules": 0}, "relax_steps": 3, "molecules": 80, "configurations": 200}
        same, _ = plan(molecules, SamplingSettings.from_mapping(own), EMT_TEACHER, None)
        assert [(j.smiles, j.seed, j.counts, j.partners) for j in same] == [
            (j.smiles, j.seed, j.counts, j.partners)
            for j in drawn
            if json.loads(j.settings)["settings"]["seed"] == 11 + number
        ]
    assert sum(families.values()) > len({job.smiles for job in first})
    assert "further" not in alone.to_mapping()
    assert settings.to_mapping()["further"] == further


def test_what_is_always_trained_on_goes_with_further_draws(molecules):
    """Where the first draw is for validation and test alone."""
    always = read_always_trained("resources/always_trained.csv")
    given = {
        "molecules": 60,
        "configurations": 200,
        "splits": ["val", "test"],
        "coverage": {"molecules": 2, "clusters": 4},
    }

    def splits(**more):
        settings = SamplingSettings.from_mapping(given | more)
        jobs, _ = plan(molecules, settings, EMT_TEACHER, None, always)
        return {
            job.split for job in jobs if isinstance(job, GroupJob) or job.smiles in {e.molecule.smiles for e in always}
        }

    assert "train" not in splits()
    assert "train" in splits(further={"draws": 1, "molecules": 3, "configurations": 9})
