"""Configurations of structures from files: what is made of them, in which split, and what is refused by name."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.io import write

from mlff_distiller.data.dataset import content_hash
from mlff_distiller.data.molecule_list import read_molecule_list
from mlff_distiller.data.sampling import plan, sample
from mlff_distiller.data.sampling_settings import SamplingSettings
from mlff_distiller.data.structures import read_structures, repeated
from mlff_distiller.utils.errors import UserError

EMT_TEACHER = {"calculator": "ase.calculators.emt:EMT"}
DYNAMICS = {"trajectories": 5, "frames": 4, "stride": 3, "skip": 2, "temperatures": [200, 400]}
FRACTIONS = {"val": 0.2, "test": 0.2}


@pytest.fixture
def copper(tmp_path):
    write(tmp_path / "copper.cif", bulk("Cu", cubic=True))
    return str(tmp_path / "copper.cif")


def settings(files, fractions=FRACTIONS, molecules=0, **structures):
    small = {"least_width": 5.0, "rattled": 10, "dynamics": DYNAMICS}
    given = {"molecules": molecules, "fractions": fractions, "benchmark_configurations": 0}
    return SamplingSettings.from_mapping(given | {"structures": {"files": files} | small | structures})


def made(tmp_path, given, molecules=(), cores=1):
    return sample(molecules, given, EMT_TEACHER, tmp_path / "parts", cores)


def of(dataset, method):
    return dataset.select(dataset.method == dataset.methods.index(method))


def test_a_crystal_alone_gives_what_was_asked_for_periodic_and_repeatable(tmp_path, copper):
    given = settings([copper], vacancies=3)
    dataset, card = made(tmp_path, given, cores=2)
    assert card["molecules_by_class"] == {"structure": 1}
    assert {name: len(of(dataset, name)) for name in ("rattled", "vacancy", "md")} == {
        "rattled": 10,
        "vacancy": 3,
        "md": 20,
    }
    assert dataset.pbc.all()
    # 3.61 A, repeated until 5 A are reached.
    assert set(of(dataset, "rattled").n_atoms) == set(of(dataset, "md").n_atoms) == {32}
    assert set(of(dataset, "vacancy").n_atoms) == {31}
    assert dataset.molecules == ("copper", "copper with a vacancy")
    again, _ = sample((), given, EMT_TEACHER, tmp_path / "other", 1)
    assert content_hash(again) == content_hash(dataset)


def test_the_structure_itself_is_trained_on_and_all_others_are_strained_and_displaced(tmp_path, copper):
    dataset, _ = made(tmp_path, settings([copper], rattle=[0.05], strain=0.04))
    rattled = of(dataset, "rattled")
    start = bulk("Cu", cubic=True).repeat(2)
    train = rattled.of_split("train")
    assert np.allclose(train.atoms(0).positions, start.positions, atol=1e-5)
    assert np.allclose(train.atoms(0).cell.array, start.cell.array)
    strains = [
        np.linalg.solve(start.cell.array, one.cell.array) - np.eye(3)
        for one in map(rattled.atoms, range(len(rattled)))
        if not np.allclose(one.cell.array, start.cell.array)
    ]
    assert len(strains) == 9
    assert all(np.allclose(strain, strain.T) for strain in strains)
    assert 0.02 < np.abs(strains).max() <= 0.04
    one = rattled.of_split("test").atoms(0)
    moved = one.get_scaled_positions(wrap=False) - start.get_scaled_positions(wrap=False)
    assert 0.03 < (moved @ one.cell.array).std() < 0.07


def test_frames_of_one_trajectory_stay_in_one_split_and_every_split_has_one(tmp_path, copper):
    jobs, _ = plan((), settings([copper]), EMT_TEACHER, None)
    trajectories = [job for job in jobs if job.counts[0][0] == "md"]
    assert sorted(job.split for job in trajectories) == ["test", "train", "train", "train", "val"]
    assert {job.counts for job in trajectories} == {(("md", 4),)}
    assert len({job.seed for job in jobs}) == len(jobs)
    assert sorted({job.temperature for job in trajectories}) == [200.0, 400.0]
    dataset, _ = made(tmp_path, settings([copper]))
    md = of(dataset, "md")
    # All frames of a trajectory have its cell, and no other one has.
    splits = {}
    for i in range(len(md)):
        splits.setdefault(md.cells[i].tobytes(), []).append(md.splits[md.split[i]])
    assert sorted(splits.values()) == [["test"] * 4, ["train"] * 4, ["train"] * 4, ["train"] * 4, ["val"] * 4]


def test_whole_structures_are_held_out_where_that_is_asked_for(tmp_path):
    files = []
    for symbol in ("Cu", "Ag", "Au", "Pd", "Ni"):
        files.append(str(tmp_path / f"{symbol}.vasp"))
        write(files[-1], bulk(symbol, cubic=True), format="vasp")
    jobs, _ = plan((), settings(files, split_by="structure"), EMT_TEACHER, None)
    splits = {name: {job.split for job in jobs if job.name == name} for name in ("Cu", "Ag", "Au", "Pd", "Ni")}
    assert sorted(map(list, splits.values())) == [["test"], ["train"], ["train"], ["train"], ["val"]]
    with pytest.raises(UserError, match="split_by: structure needs three files or more"):
        settings(files[:2], split_by="structure")


def test_with_molecules_their_jobs_are_those_without_structures(tmp_path, copper):
    molecules = read_molecule_list("resources/molecule_list.csv")
    alone = SamplingSettings.from_mapping({"molecules": 5, "configurations": 20, "benchmark_configurations": 0})
    both = alone.model_copy(update={"structures": settings([copper]).structures})
    without, _ = plan(molecules, alone, EMT_TEACHER, None)
    together, _ = plan(molecules, both, EMT_TEACHER, None)

    def told(jobs):
        return [(job.smiles, job.split, job.seed, job.counts) for job in jobs]

    assert told(together[: len(without)]) == told(without)
    assert {job.name for job in together[len(without) :]} == {"copper"}
    # As before there were any structures, so that samples are recognized.
    assert "structures" not in alone.to_mapping()


def test_molecules_and_crystals_lie_in_one_dataset(tmp_path, copper):
    write(tmp_path / "ethanol.xyz", molecule("CH3CH2OH"))
    given = settings([copper, str(tmp_path / "ethanol.xyz")], rattled=4, dynamics={**DYNAMICS, "trajectories": 1})
    dataset, _ = made(tmp_path, given)
    periodic = {name: dataset.pbc[dataset.molecule == i] for i, name in enumerate(dataset.molecules)}
    assert periodic["copper"].all()
    assert not periodic["ethanol"].any()
    assert not dataset.cells[dataset.molecule == dataset.molecules.index("ethanol")].any()


def test_a_slab_is_repeated_and_strained_in_its_plane_alone(tmp_path):
    write(tmp_path / "slab.extxyz", fcc111("Cu", (1, 1, 3), vacuum=6.0, periodic=False))
    dataset, _ = made(tmp_path, settings([str(tmp_path / "slab.extxyz")]))
    height = np.ptp(read_structures([str(tmp_path / "slab.extxyz")])["slab"].positions[:, 2])
    for i in range(len(dataset)):
        assert dataset.pbc[i].tolist() == [True, True, False]
        assert np.allclose(dataset.cells[i][:2, 2], 0.0)
        if dataset.methods[dataset.method[i]] == "rattled":
            assert np.ptp(dataset.atoms(i).positions[:, 2]) == pytest.approx(height, abs=1.2)
    assert set(dataset.n_atoms) == {27}


def test_supercells(copper):
    cell = bulk("Cu", "fcc", a=3.6)
    wanted = settings([copper], least_width=8.0).structures
    found = repeated(cell, wanted)
    widths = 1 / np.linalg.norm(np.linalg.inv(found.cell.array), axis=0)
    assert (widths >= 8.0 - 1e-6).all()
    assert (widths < 8.0 + 3.6).all()
    assert len(repeated(cell, settings([copper], supercell=[1, 2, 3]).structures)) == 6
    # A primitive cell stays as small as it is, if that is what is asked for.
    assert len(repeated(cell, settings([copper], least_width=0.1).structures)) == 1
    with pytest.raises(UserError, match="5000 at most: set supercell, or a smaller least_width"):
        repeated(cell, settings([copper], supercell=[30, 30, 30]).structures)


def test_files_that_cannot_be_used_are_named(tmp_path, copper):
    with pytest.raises(UserError, match=r"absent\.cif: no such file"):
        read_structures(["absent.cif"])
    (tmp_path / "broken.cif").write_text("not a crystal\n")
    with pytest.raises(UserError, match=r"broken\.cif"):
        read_structures([str(tmp_path / "broken.cif")])
    alloy = (tmp_path / "copper.cif").read_text().replace("1.0000", "0.5000")
    (tmp_path / "alloy.cif").write_text(alloy)
    with pytest.raises(UserError, match=r"alloy\.cif: site 0 is occupied by \{'Cu': 0\.5\}.*write an ordered one"):
        read_structures([str(tmp_path / "alloy.cif")])
    with pytest.raises(UserError, match=r"nothing to sample: molecules is 0, and structures\.files names no file"):
        settings([])
    with pytest.raises(UserError, match="nothing of the files"):
        settings([copper], rattled=0, dynamics={"trajectories": 0})


def test_the_default_teacher_is_refused_for_cells(copper):
    with pytest.raises(
        UserError, match=r"student\.sampling\.structures: GFN2-xTB with periodic images(.|\n)*crystal\.yaml"
    ):
        plan((), settings([copper]), None, None)


def test_a_trajectory_of_a_teacher_that_dies_is_noted_and_the_rest_goes_on(tmp_path, copper, monkeypatch):
    (tmp_path / "mortal.py").write_text(
        "import os\nfrom ase.calculators.emt import EMT\n"
        "class Mortal(EMT):\n    def calculate(self, *given):\n        os._exit(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    dataset, card = sample((), settings([copper]), {"calculator": "mortal:Mortal"}, tmp_path / "parts", 2)
    assert {dataset.methods[i] for i in dataset.method} == {"rattled"}
    assert card["notes"] == {"left out, for the teacher's process died: md of copper": 5}


def test_by_the_command_line_to_labels(tmp_path, copper):
    """Sampled without any molecule, labeled, and told in the card by which the sample is recognized."""
    given = {"sampling": settings([copper]).to_mapping(), "teacher": EMT_TEACHER}
    command = [sys.executable, "-m", "mlff_distiller"]
    environment = {**os.environ, "PYTHONPATH": os.path.abspath("workflow")}

    def run(*arguments):
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run(
        *("sample", "--molecules", "resources/molecule_list.csv", "--settings", json.dumps(given)),
        *("--output", str(tmp_path / "c.h5"), "--card", str(tmp_path / "c.json")),
    )
    assert "30 configurations, 1 molecules, clusters and structures" in said
    run(
        *("label", "--configurations", str(tmp_path / "c.h5"), "--sample-card", str(tmp_path / "c.json")),
        *("--settings", json.dumps({"teacher": EMT_TEACHER}), "--output", str(tmp_path / "l.h5")),
        *("--card", str(tmp_path / "l.json")),
    )
    card = json.loads((tmp_path / "l.json").read_text())
    assert card["configurations"] == 30
    assert card["periodic"]["configurations"] == 30
    assert list(card["sampling"]["structures_sha256"]) == [copper]


def test_a_molecule_starts_from_its_own_geometry_and_from_conformers(tmp_path):
    butane = molecule("trans-butane")
    write(tmp_path / "butane.xyz", butane)
    many = DYNAMICS | {"trajectories": 6}
    given = settings([str(tmp_path / "butane.xyz")], conformers=3, rattle=[0.0], rattled=12, dynamics=many)
    jobs, _ = plan((), given, EMT_TEACHER, None)
    names = ["butane", "butane conformer 1", "butane conformer 2"]
    assert sorted({job.name for job in jobs}) == names
    starts = {job.name: np.array(job.positions) for job in jobs}
    assert np.allclose(starts["butane"], butane.positions, atol=1e-6)
    # The same bonds in another order of the torsion: trans or gauche.
    for positions in starts.values():
        other = butane.copy()
        other.positions = positions
        assert np.allclose(other.get_distances(0, [1, 2]), butane.get_distances(0, [1, 2]), atol=0.1)
    rattled = [job for job in jobs if job.counts[0][0] == "rattled"]
    assert sum(job.counts[0][1] for job in rattled) == 12
    assert {job.name for job in rattled if job.split == "train"} == set(names)
    # Two temperatures and three geometries: each geometry is moved at both.
    moved = [(job.name, job.temperature) for job in jobs if job.counts[0][0] == "md"]
    assert len(set(moved)) == 6


def test_what_has_no_bonds_of_a_molecule_has_no_conformers_and_says_so(tmp_path):
    write(tmp_path / "odd.xyz", bulk("Cu").repeat(2), format="xyz")
    with pytest.raises(UserError, match=r"odd: its distances show no bonds .*; set conformers: 1"):
        plan((), settings([str(tmp_path / "odd.xyz")], conformers=2), EMT_TEACHER, None)
