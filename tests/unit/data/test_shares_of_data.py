"""Samples and labels in shares, with the real teacher, which must not meet torch in one process."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mlff_distiller.data.dataset import write_dataset
from tests.unit.data.test_dataset import EMT_TEACHER, small_dataset

SETTINGS = {
    "sampling": {
        "molecules": 5,
        "configurations": 24,
        "max_atoms": 7,
        "md_molecules": 1.0,
        "relax_steps": 3,
        "larger": {"molecules": 0},
        "benchmark_configurations": 0,
    },
    "limits": {"max_energy_ev_per_atom": 0.1},
}
#: As the command line, but in parts of a few configurations, so that there is something to share out.
SMALL_PARTS = """
import sys
from mlff_distiller.data import labeling
labeling.PART_WEIGHT = 150
from mlff_distiller.cli import main
sys.exit(main(sys.argv[1:]))
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": "workflow", "OMP_NUM_THREADS": "1"}


def call(*arguments, fails=False):
    command = [sys.executable, "-c", SMALL_PARTS, *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stdout + done.stderr


def in_shares(of, *arguments):
    """Make all shares, the last one first, and gather them."""
    for number in range(of, 0, -1):
        call(*arguments, "--share", f"{number}-of-{of}")
    call(*arguments, "--shares", of)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Samples and labels of one job, and the arguments for both."""
    folder = tmp_path_factory.mktemp("one")
    given = json.dumps({"sampling": SETTINGS["sampling"]})
    sampling = ["sample", "--molecules", "resources/molecule_list.csv", "--settings", given]
    call(*sampling, "--output", folder / "configurations.h5", "--card", folder / "sampling.json", "--cores", 2)
    labeling = ["label", "--configurations", folder / "configurations.h5"]
    labeling += ["--settings", json.dumps({"limits": SETTINGS["limits"]})]
    call(*labeling, "--output", folder / "labels.h5", "--card", folder / "labels.json", "--cores", 2)
    return folder, sampling, labeling


def counts(path):
    """What a card says, less what depends on when and where it was made."""
    card = json.loads(path.read_text())
    return {key: card[key] for key in card.keys() - {"teacher_seconds", "labels_per_core_second", "provenance"}}


def test_samples_of_three_shares_are_those_of_one_byte_for_byte(made, tmp_path):
    folder, sampling, _ = made
    output = tmp_path / "configurations.h5"
    in_shares(3, *sampling, "--output", output, "--card", tmp_path / "sampling.json")
    assert output.read_bytes() == (folder / output.name).read_bytes()
    assert counts(tmp_path / "sampling.json") == counts(folder / "sampling.json")


def test_labels_of_three_shares_are_those_of_one_byte_for_byte(made, tmp_path):
    folder, _, labeling = made
    output = tmp_path / "labels.h5"
    in_shares(3, *labeling, "--output", output, "--card", tmp_path / "labels.json")
    assert output.read_bytes() == (folder / output.name).read_bytes()
    card = counts(tmp_path / "labels.json")
    assert card == counts(folder / "labels.json")
    # Limits hold for all shares together: the lowest energy of a molecule may lie in another one.
    assert card["left_out"]
    sizes = []
    for path in sorted((tmp_path / "labels.h5.shares").glob("*.npz")):
        with np.load(path) as share:
            sizes.append(len(share["energies"]))
    assert sum(sizes) == 24
    assert min(sizes) > 2


def test_a_share_of_other_settings_is_refused_and_so_is_a_gathering_without_one(made, tmp_path):
    folder, _, labeling = made
    output = tmp_path / "labels.h5"
    for number in (1, 2):
        call(*labeling, "--output", output, "--share", f"{number}-of-3")
    said = call(*labeling, "--output", output, "--shares", 3, fails=True)
    assert "3-of-3.npz: no such share; make it by the same command with --share 3-of-3 instead of --shares 3" in said
    other = ["label", "--configurations", folder / "configurations.h5", "--output", output]
    other += ["--settings", json.dumps({"teacher": {"arguments": {"method": "GFN1-xTB"}}})]
    call(*other, "--share", "3-of-3")
    said = call(*labeling, "--output", output, "--shares", 3, fails=True)
    assert "3-of-3.npz: a share of something else: made from other input, or with other settings" in said
    assert not output.exists()
    said = call(*labeling, "--output", output, "--share", "2-of-3", "--shares", 3, fails=True)
    assert "not allowed with argument" in said


def test_a_share_that_is_killed_goes_on_where_it_was(tmp_path):
    write_dataset(tmp_path / "plain.h5", small_dataset(labeled=False).select(np.repeat(np.arange(6), 20_000)))
    command = [sys.executable, "-m", "mlff_distiller", "label", "--configurations", str(tmp_path / "plain.h5")]
    command += ["--output", str(tmp_path / "out.h5"), "--settings", json.dumps({"teacher": EMT_TEACHER})]
    command += ["--share", "2-of-5"]
    parts = tmp_path / "out.h5.shares/2-of-5.parts"
    running = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.npz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(timeout=60)
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.npz")}
    assert 3 <= len(kept) < 100
    again = subprocess.Popen(
        command, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert f"labeling: {len(kept)} of " in again.stdout.readline()
    os.killpg(again.pid, signal.SIGKILL)
    again.communicate(timeout=60)
    assert all((parts / name).stat().st_mtime_ns == stamp for name, stamp in kept.items())
