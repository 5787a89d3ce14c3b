"""Frames of a student's own MD: which are taken, and that the teacher labels all of them."""

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write

from mlff_distiller import cli
from mlff_distiller.data.read import read_dataset
from mlff_distiller.data.trajectories import read_frames
from mlff_distiller.utils.errors import UserError
from mlff_distiller.utils.files import read_json


@pytest.fixture
def trajectories(tmp_path):
    """Eleven frames of water, atom 0 at x = 0, 0.01, ... A; a short one of CO; and one of an MD that did not start."""
    frames = []
    for i in range(11):
        frame = molecule("H2O")
        frame.positions += [0.01 * i - frame.positions[0, 0], 0, 0]
        frame.info["name"] = "water"
        frames.append(frame)
    write(tmp_path / "a.extxyz", frames)
    write(tmp_path / "co.extxyz", [molecule("CO")] * 2)
    (tmp_path / "none.extxyz").write_text("")
    return [tmp_path / name for name in ("a.extxyz", "co.extxyz", "none.extxyz")]


def test_frames_are_spread_over_each_trajectory(trajectories):
    found = read_frames(trajectories, 3)
    assert len(found) == 5
    assert found.molecules == ("water", "co")
    assert np.allclose(found.positions[found.offsets[:3], 0], [0, 0.05, 0.10], atol=1e-6)
    assert {found.splits[row] for row in found.split} == {"visited"}
    # A single frame is the last: where the MD went to.
    assert np.allclose(read_frames(trajectories[:1], 1).positions[0, 0], 0.10, atol=1e-6)


def test_no_md_at_all_gives_no_frames(trajectories):
    assert len(read_frames(trajectories[2:], 3)) == 0


def test_a_missing_trajectory_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.extxyz: ASE cannot read it"):
        read_frames([tmp_path / "gone.extxyz"], 3)


def test_frames_after_a_blank_line_are_not_lost(trajectories):
    text = trajectories[0].read_text()
    trajectories[0].write_text(text + "\n" + text)
    with pytest.raises(UserError, match="line 56 is blank, and more follows on line 57"):
        read_frames(trajectories, 3)


@pytest.mark.parametrize("n", [0, -2])
def test_no_frames_at_all_are_not_asked_for(trajectories, n):
    with pytest.raises(UserError, match=f"--frames {n}: one or more"):
        read_frames(trajectories, n)


def label(output, *trajectories):
    command = ["label", "--trajectories", *map(str, trajectories), "--frames", "4", "--output", str(output)]
    return cli.main(
        [*command, "--card", f"{output}.json", "--settings", '{"teacher": {"calculator": "ase.calculators.emt:EMT"}}']
    )


def test_the_teacher_labels_frames_however_large_their_forces(trajectories, tmp_path):
    crushed = molecule("CO")
    crushed.set_distance(0, 1, 0.6)
    write(tmp_path / "crushed.extxyz", crushed)
    assert label(tmp_path / "visited.h5", *trajectories, tmp_path / "crushed.extxyz") == 0
    labeled = read_dataset(tmp_path / "visited.h5")
    assert len(labeled) == 4 + 2 + 1
    crushed.calc = EMT()
    assert np.abs(crushed.get_forces()).max() > 20
    assert np.allclose(labeled.atoms(6).arrays["forces"], crushed.get_forces(), rtol=1e-4)


def test_frames_that_the_teacher_cannot_label_leave_an_empty_dataset_with_the_reason(tmp_path):
    write(tmp_path / "silane.extxyz", molecule("SiH4"))
    assert label(tmp_path / "visited.h5", tmp_path / "silane.extxyz") == 0
    assert len(read_dataset(tmp_path / "visited.h5")) == 0
    assert read_json(tmp_path / "visited.h5.json")["left_out"] == {"NotImplementedError": 1}
