"""Datasets: the file, what reads it, and labels that are not what they should be."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
from ase.calculators.emt import EMT

from mlff_distiller.data.dataset import (
    content_hash,
    element_energies,
    from_lists,
    read_configurations,
    summary,
    write_dataset,
)
from mlff_distiller.data.labeling import NO_LIMITS, label_dataset, label_work
from mlff_distiller.data.labeling_settings import LabelLimits
from mlff_distiller.data.read import read_dataset
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.parallel import read_part, run_in_parts
from tests.unit.data.labeled_sets import emt_frames

EMT_TEACHER = {"calculator": "ase.calculators.emt:EMT"}


def small_dataset(labeled=True):
    frames = emt_frames(3, names=("H2O", "CH4"))
    labels = {}
    if labeled:
        labels = {
            "energies": np.array([frame.get_potential_energy() for frame in frames]),
            "forces": np.concatenate([frame.get_forces() for frame in frames]).astype(np.float32),
            "teacher": "EMT",
        }
    return from_lists(
        [frame.numbers for frame in frames],
        [frame.positions for frame in frames],
        ["O"] * 3 + ["C"] * 3,
        ["train", "val", "train", "test", "test", "test"],
        ["random"] * 6,
        **labels,
    )


def test_round_trip_keeps_every_bit_and_the_same_data_give_the_same_file(tmp_path):
    dataset = small_dataset()
    write_dataset(tmp_path / "a.h5", dataset)
    write_dataset(tmp_path / "b.h5", read_dataset(tmp_path / "a.h5"))
    again = read_dataset(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert content_hash(again) == content_hash(dataset)
    assert again.energies.dtype == np.float64
    assert again.forces.dtype == np.float32
    assert again.molecules == ("O", "C")
    assert again.teacher == "EMT"
    assert again.cells is None


def test_the_layout_is_the_documented_one(tmp_path):
    write_dataset(tmp_path / "a.h5", small_dataset())
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {
            *("numbers", "positions", "offsets", "molecule", "split", "method", "energies", "forces", "molecules")
        }
        assert file["offsets"][()].tolist() == [0, 3, 6, 9, 14, 19, 24]
        assert file["positions"].shape == file["forces"].shape == (24, 3)
        assert "eV" in file.attrs["units"]


def test_content_hash_sees_one_changed_force():
    one, other = small_dataset(), small_dataset()
    other.forces[7, 1] += 1e-3
    assert content_hash(one) != content_hash(other)


def test_selection_by_mask_index_and_split_keeps_atoms_with_their_configuration():
    dataset = small_dataset()
    picked = dataset.select(np.array([4, 1]))
    for new, old in ((0, 4), (1, 1)):
        assert np.array_equal(picked.atoms(new).positions, dataset.atoms(old).positions)
        assert np.array_equal(picked.atoms(new).arrays["forces"], dataset.atoms(old).arrays["forces"])
        assert picked.atoms(new).info == dataset.atoms(old).info
    assert len(dataset.of_split("train", "val")) == 3
    assert len(dataset.select(dataset.n_atoms == 5)) == 3
    assert len(dataset.select(np.zeros(6, dtype=bool))) == 0
    with pytest.raises(UserError, match="did you mean 'train'"):
        dataset.of_split("trian")


def test_unlabeled_damaged_foreign_and_later_files_are_refused(tmp_path):
    write_dataset(tmp_path / "plain.h5", small_dataset(labeled=False))
    assert len(read_configurations(tmp_path / "plain.h5")) == 6
    with pytest.raises(UserError, match="without labels"):
        read_dataset(tmp_path / "plain.h5")
    data = (tmp_path / "plain.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="not a readable dataset"):
        read_dataset(tmp_path / "half.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(UserError, match="not a dataset of this project"):
        read_dataset(tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "plain.h5", "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(UserError, match="layout version 99"):
        read_configurations(tmp_path / "plain.h5")
    with pytest.raises(UserError, match="no such dataset"):
        read_dataset(tmp_path / "absent.h5")


def test_reading_a_large_dataset_is_fast_and_needs_neither_torch_nor_ase(tmp_path):
    n = 100_000
    rng = np.random.default_rng(0)
    big = from_lists([np.full(16, 6)] * n, [np.zeros((16, 3))] * n, ["C"] * n, ["train"] * n, ["random"] * n)
    big.positions[:] = rng.normal(size=big.positions.shape)
    labels = {"energies": rng.normal(size=n), "forces": rng.normal(size=(16 * n, 3)).astype(np.float32)}
    write_dataset(tmp_path / "big.h5", type(big)(**{**vars(big), **labels}))
    code = (
        "import sys, time; from mlff_distiller.data.read import read_dataset; start = time.perf_counter();"
        f"d = read_dataset({str(tmp_path / 'big.h5')!r}); took = time.perf_counter() - start;"
        "import json; print(json.dumps([len(d), took, 'torch' in sys.modules, 'ase' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": "workflow"}, capture_output=True, text=True, check=True
    )
    length, took, torch_loaded, ase_loaded = json.loads(done.stdout)
    assert length == n
    assert not torch_loaded
    assert not ase_loaded
    assert took < 10.0


def test_element_energies_recover_what_was_put_in():
    dataset = small_dataset()
    names = [[8, 1, 1], [6, 1, 1, 1, 1], [6, 8]]
    made = from_lists(names, [np.zeros((len(z), 3)) for z in names], "abc", ["train"] * 3, ["given"] * 3)
    made = type(dataset)(
        **{**vars(made), "energies": np.array([sum({1: -2.0, 6: -7.0, 8: -9.0}[z] for z in m) for m in names])}
    )
    elements, energies = element_energies(made)
    assert elements.tolist() == [1, 6, 8]
    assert energies == pytest.approx([-2.0, -7.0, -9.0])


def test_labels_are_the_teachers_and_resume_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("mlff_distiller.data.labeling.DEAR_PART_WEIGHT", 20)
    plain = small_dataset(labeled=False)
    labeled, card = label_dataset(plain, EMT_TEACHER, tmp_path / "parts", cores=2)
    assert len(labeled) == 6
    assert card["left_out"] == {}
    for i in range(6):
        atoms = plain.atoms(i)
        atoms.calc = EMT()
        assert labeled.energies[i] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)
        assert np.allclose(labeled.atoms(i).arrays["forces"], atoms.get_forces(), atol=1e-6)
    parts = sorted((tmp_path / "parts").glob("*.npz"))
    assert len(parts) > 2
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    again, _ = label_dataset(plain, EMT_TEACHER, tmp_path / "parts", cores=1)
    assert content_hash(again) == content_hash(labeled)
    assert parts[0].stat().st_mtime_ns == kept
    assert parts[1].is_file()


def test_a_part_keeps_nothing_of_the_others_in_memory():
    """Views of the whole dataset cost nothing, but what is made of all of it would be kept once for each part."""
    whole = small_dataset(labeled=False)
    task = label_work(whole, EMT_TEACHER).task(0)
    for name in ("numbers", "positions", "counts"):
        array = getattr(task, name)
        assert array.base is None or array.base is getattr(whole, name, None), name


def test_parts_of_other_configurations_or_another_teacher_are_not_reused(tmp_path):
    plain = small_dataset(labeled=False)
    label_dataset(plain, EMT_TEACHER, tmp_path / "parts", cores=1)
    moved = small_dataset(labeled=False)
    moved.positions[0, 0] += 0.05
    labeled, _ = label_dataset(moved, EMT_TEACHER, tmp_path / "parts", cores=1)
    atoms = moved.atoms(0)
    atoms.calc = EMT()
    assert labeled.energies[0] == pytest.approx(atoms.get_potential_energy(), abs=1e-12)


def _worker_dies(task):
    if task == 1:
        os._exit(1)
    return {"task": np.array(task)}


def test_a_dead_worker_is_reported_and_loses_no_finished_part(tmp_path):
    run_in_parts(_worker_dies, [0, 2], tmp_path, "key", 1, "trying")
    with pytest.raises(UserError, match="a worker process died"):
        run_in_parts(_worker_dies, [0, 2, 1], tmp_path, "key", 1, "trying")
    assert int(read_part(tmp_path / "000001.npz")["task"]) == 2


def test_what_a_dead_worker_was_at_is_named(tmp_path):
    with pytest.raises(
        UserError,
        match=r"a worker process died \(out of memory, or ended from outside\?\) at number 2; what is done stays in",
    ):
        run_in_parts(
            _worker_dies,
            [0, 2, 1],
            tmp_path,
            "key",
            1,
            "trying",
            name_of="number {}".format,
        )


def test_a_damaged_part_is_named(tmp_path):
    run_in_parts(_worker_dies, [0, 2], tmp_path, "key", 1, "trying")
    (tmp_path / "000001.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"000001\.npz: not a readable part"):
        run_in_parts(_worker_dies, [0, 2], tmp_path, "key", 1, "trying")


def _slow(task):
    time.sleep(0.3)
    return {"task": np.array(task)}


def test_two_at_once_in_one_folder_take_turns(tmp_path, capsys):
    """The second waits, and then finds the first one's parts."""
    found = []
    first = threading.Thread(target=lambda: found.append(run_in_parts(_slow, [1, 2, 3], tmp_path, "key", 1, "trying")))
    first.start()
    while not list(tmp_path.glob("*.npz")):
        time.sleep(0.05)
    found.append(run_in_parts(_worker_dies, [1, 2, 3], tmp_path, "key", 1, "trying"))
    first.join()
    assert [[int(part["task"]) for part in parts] for parts in found] == [[1, 2, 3]] * 2
    assert "another process is at work" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise SystemExit('no convergence')", "SystemExit"),
        ("raise RuntimeError('no convergence')", "RuntimeError"),
        ("self.results['energy'] = float('nan')", "energy or forces not finite"),
        ("self.results['forces'] = self.results['forces'][:2]", "forces of shape"),
        ("self.results['forces'] = None", "forces of shape"),
        ("self.results['energy'] = None", "TypeError"),
        ("self.results['energy'] = 'low'", "ValueError"),
        ("__import__('os')._exit(1)", "the teacher's process died"),
    ],
)
def test_a_frame_at_which_the_teacher_fails_is_left_out_and_counted(tmp_path, monkeypatch, body, reason):
    (tmp_path / "odd_teacher.py").write_text(
        "from ase.calculators.emt import EMT\n"
        "class Odd(EMT):\n"
        "    def calculate(self, *given):\n"
        "        super().calculate(*given)\n"
        f"        if len(self.atoms) == 5: {body}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plain = small_dataset(labeled=False)
    labeled, card = label_dataset(plain, {"calculator": "odd_teacher:Odd"}, tmp_path / "parts", cores=1)
    assert len(labeled) == 3
    assert [(entry["index"], entry["molecule"]) for entry in card["examples"]] == [(3, "C"), (4, "C"), (5, "C")]
    ((counted, n),) = card["left_out"].items()
    assert counted.startswith(reason)
    assert n == 3


def test_a_teacher_that_dies_everywhere_is_not_tried_on_all(tmp_path, monkeypatch):
    monkeypatch.setattr("mlff_distiller.data.labeling.MOST_DEATHS", 2)
    (tmp_path / "mortal.py").write_text(
        "import os\nfrom ase.calculators.emt import EMT\n"
        "class Mortal(EMT):\n    def calculate(self, *given):\n        os._exit(1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="died at 2 configurations in a row, each alone in it; is there memory enough"):
        label_dataset(small_dataset(labeled=False), {"calculator": "mortal:Mortal"}, tmp_path / "parts", cores=2)


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(tmp_path):
    write_dataset(tmp_path / "plain.h5", small_dataset(labeled=False).select(np.repeat(np.arange(6), 20_000)))
    command = [sys.executable, "-m", "mlff_distiller", "label", "--configurations", str(tmp_path / "plain.h5")]
    command += ["--output", str(tmp_path / "out.h5"), "--settings", json.dumps({"teacher": EMT_TEACHER})]
    environment = {**os.environ, "PYTHONPATH": "workflow"}
    # A background job of a shell ignores interrupts, and so would what it starts.
    heeds = {
        "start_new_session": True,
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        "text": True,
    }
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, **heeds)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out.h5.parts/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGINT)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 2
    assert "error: interrupted; what is done stays in" in said
    assert "Traceback" not in said
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("out.h5.parts/*.npz")}
    assert 0 < len(kept) < 450
    again = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, **heeds)
    assert "parts are done already" in again.stdout.readline()
    os.killpg(again.pid, signal.SIGINT)
    again.communicate(timeout=60)
    assert all((tmp_path / "out.h5.parts" / name).stat().st_mtime_ns == stamp for name, stamp in kept.items())


def test_failures_and_absurd_labels_are_left_out_and_counted(tmp_path):
    stretched = [[0, 0, 0], [0, 0, 1.1]], [[0, 0, 0], [0, 0, 1.15]], [[0, 0, 0], [0, 0, 0.6]], [[0, 0, 0], [0, 0, 2.0]]
    plain = from_lists(
        [[6, 8]] * 3 + [[92, 8]],
        stretched,
        ["CO"] * 3 + ["UO"],
        ["train"] * 4,
        ["given"] * 4,
    )
    limits = LabelLimits(max_force_ev_per_a=20.0)
    labeled, card = label_dataset(plain, EMT_TEACHER, tmp_path / "parts", cores=1, limits=limits)
    assert card["left_out"] == {"force beyond the limit": 1, "NotImplementedError": 1}
    assert card["labels_tried"] == 4
    assert len(labeled) == 2
    assert {entry["molecule"] for entry in card["examples"]} == {"CO", "UO"}
    without, _ = label_dataset(plain, EMT_TEACHER, tmp_path / "parts", cores=1, limits=NO_LIMITS)
    assert len(without) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"max_forces_ev_per_a": 20.0},
            "student.limits: unknown key 'max_forces_ev_per_a'; did you mean 'max_force_ev_per_a'",
        ),
        ({"max_force_ev_per_a": -20.0}, "student.limits.max_force_ev_per_a: expected number > 0 or null, got -20.0"),
    ],
)
def test_limits_that_make_no_sense_are_refused(given, words):
    with pytest.raises(UserError, match=words):
        LabelLimits.from_mapping(given)


def test_a_teacher_that_labels_nothing_says_why(tmp_path):
    plain = from_lists([[92]], [[[0, 0, 0]]], ["U"], ["train"], ["given"])
    with pytest.raises(UserError, match=r"labeled none of 1 configurations.*NotImplementedError"):
        label_dataset(plain, EMT_TEACHER, tmp_path / "parts", cores=1)


def test_summary_counts_what_is_there():
    card = summary(small_dataset())
    assert card["configurations"] == 6
    assert card["by_split"]["train"] == {
        "configurations": 2,
        "molecules": 1,
        "n_atoms": {"min": 3, "mean": 3.0, "max": 3},
    }
    assert card["atoms_by_atomic_number"] == {"1": 18, "6": 3, "8": 3}
    assert card["by_method"] == {"random": 6}
    assert json.loads(json.dumps(card)) == card


def rewritten(path, source, change):
    """A copy of an HDF5 file, without its checksum, changed by ``change(file)``."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "a") as file:
        del file.attrs["content_sha256"]
        change(file)
    return path


def put(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            put("offsets", [0, 3, 6, 9, 14, 19, 10**15]),
            r"numbers has the shape \(24,\), by its offsets it is \(1000000",
        ),
        (put("offsets", [0, 6, 3, 9, 14, 19, 24]), "offsets do not begin with 0 and ascend"),
        (put("offsets", [3, 6, 9, 14, 19, 24]), "offsets do not begin with 0 and ascend"),
        (put("offsets", np.zeros(0, dtype=np.int64)), "offsets do not begin with 0 and ascend"),
        (put("offsets", None), "no offsets in it"),
        (put("offsets", 7), "offsets do not begin with 0"),
        (put("forces", np.zeros((23, 3), np.float32)), "forces has the shape"),
        (put("energies", np.zeros(5)), "energies has the shape"),
        (put("energies", np.array([0, 1, 2, np.nan, 3, 4])), "energies holds numbers that are not finite"),
        (put("energies", ["a"] * 6), "energies is of type object, expected float64"),
        (put("forces", None), "energies and forces belong together"),
        (put("positions", np.full((24, 3), np.inf, np.float32)), "positions holds numbers that are not finite"),
        (put("numbers", np.full(24, 0, np.uint8)), "an atomic number is 0"),
        (put("numbers", np.full(24, 300)), "numbers holds numbers beyond uint8"),
        (put("split", np.full(6, 9, np.uint8)), "split 9 has no name: there are 7"),
        (put("method", np.full(6, 200, np.uint8)), "method 200 has no name"),
        (put("molecule", np.full(6, -1, np.int32)), "molecule -1 has no name"),
        (put("molecules", ["O"]), "molecule 1 has no name: there are 1"),
        (lambda file: file.attrs.__setitem__("splits", ["trian"] * 6), "unknown split 'trian'; did you mean 'train'"),
        (lambda file: file.attrs.__delitem__("version"), "not a readable dataset"),
        (lambda file: file.create_group("cells"), "not a readable dataset"),
        (lambda file: file.__setitem__("cells", np.zeros((6, 3, 3))), "cells and pbc belong together"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tmp_path, change, message):
    write_dataset(tmp_path / "good.h5", small_dataset())
    path = rewritten(tmp_path / "bad.h5", tmp_path / "good.h5", change)
    with pytest.raises(UserError, match=message) as caught:
        read_dataset(path)
    assert "delete" not in str(caught.value)


def test_a_shape_beyond_the_file_is_refused_before_it_takes_memory(tmp_path):
    write_dataset(tmp_path / "good.h5", small_dataset())

    def huge(file):
        del file["positions"]
        file.create_dataset("positions", (10**12, 3), chunks=(1000, 3), dtype=np.float32)

    with pytest.raises(UserError, match="positions is larger than the file can hold"):
        read_dataset(rewritten(tmp_path / "bad.h5", tmp_path / "good.h5", huge))


def test_a_file_without_checksum_is_read_and_a_changed_number_shows_in_one_that_has_it(tmp_path):
    write_dataset(tmp_path / "good.h5", small_dataset())
    plain = rewritten(tmp_path / "plain.h5", tmp_path / "good.h5", lambda file: None)
    assert content_hash(read_dataset(plain)) == content_hash(small_dataset())
    with h5py.File(tmp_path / "good.h5", "a") as file:
        file["forces"][3, 1] += 0.01
    with pytest.raises(UserError, match="its arrays are not those that were written"):
        read_dataset(tmp_path / "good.h5")


def test_three_hundred_damaged_files_are_refused_or_read_right(tmp_path):
    write_dataset(tmp_path / "good.h5", small_dataset())
    good, whole = (tmp_path / "good.h5").read_bytes(), content_hash(small_dataset())
    random, refused = np.random.default_rng(0), 0
    for trial in range(300):
        data = bytearray(good)
        for _ in range(random.integers(1, 6)):
            at = int(random.integers(len(data)))
            data[at : at + int(random.integers(1, 5))] = random.bytes(int(random.integers(1, 5)))
        if trial % 10 == 0:
            data = data[: random.integers(len(data))]
        (tmp_path / "bad.h5").write_bytes(bytes(data))
        try:
            assert content_hash(read_dataset(tmp_path / "bad.h5")) == whole
        except UserError:
            refused += 1
    assert 50 < refused < 300
