"""Trajectories that ASE would read in part only."""

import pytest
from ase import Atoms
from ase.io import write

from mlff_distiller.systems.frames import read_every_frame
from mlff_distiller.utils.errors import UserError
from tests.unit.data.labeled_sets import emt_frames


@pytest.fixture
def text(tmp_path):
    """Four frames of water as extended XYZ; five lines each."""
    write(tmp_path / "whole.extxyz", emt_frames(4, names=("H2O",)))
    return (tmp_path / "whole.extxyz").read_text()


def refused(tmp_path, text, words):
    (tmp_path / "own.extxyz").write_text(text)
    with pytest.raises(UserError, match=words):
        read_every_frame(tmp_path / "own.extxyz")


def test_all_frames_of_a_whole_file_are_read(tmp_path, text):
    for name, whole in (("a.extxyz", text), ("b.xyz", text + "\n\n  \n"), ("c@1.extxyz", text.rstrip("\n"))):
        (tmp_path / name).write_text(whole)
        assert len(read_every_frame(tmp_path / name)) == 4


def test_frames_after_a_blank_line_are_not_lost(tmp_path, text):
    lines = text.splitlines(keepends=True)
    refused(tmp_path, "".join([*lines[:10], "\n", *lines[10:]]), "line 11 is blank, and more follows on line 12")
    refused(tmp_path, "\n" + text, "line 1 is blank, and more follows on line 2; ASE would stop there, after 0 frames")


def test_lines_that_are_no_frames_are_named(tmp_path, text):
    refused(tmp_path, text + "total energy -14.2\n", "line 21, after 4 frames, is 'total energy -14.2'")
    refused(tmp_path, text + "0\n\n", r"frame 4 \(line 21\) has 0 atoms")
    refused(tmp_path, "<html>\n", "ASE cannot read it|line 1, after 0 frames")


@pytest.mark.parametrize("n_lines", [16, 17, 18, 19])
def test_a_frame_that_is_cut_short_is_named(tmp_path, text, n_lines):
    cut = "".join(text.splitlines(keepends=True)[:n_lines])
    refused(tmp_path, cut, rf"frame 3 \(line 16\) says 3 atoms and has {max(n_lines - 17, 0)}: cut short")


def test_a_file_that_ends_within_a_number_is_refused(tmp_path, text):
    for cut in (2, 5, 8):
        refused(tmp_path, text[:-cut], r"frame 3 \(line 16\) ends in the middle of a number")


def test_other_formats_of_ase_are_read_whole(tmp_path):
    frames = emt_frames(4, names=("H2O",))
    for name in ("own.traj", "own.json", "own.db"):
        write(tmp_path / name, frames)
        assert len(read_every_frame(tmp_path / name)) == 4
    data = (tmp_path / "own.traj").read_bytes()
    (tmp_path / "half.traj").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"half\.traj: ASE cannot read it"):
        read_every_frame(tmp_path / "half.traj")


def test_no_file_no_frames_and_folders(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_every_frame(tmp_path / "absent.xyz")
    with pytest.raises(UserError, match="a folder"):
        read_every_frame(tmp_path)
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(UserError, match="the file is empty"):
        read_every_frame(tmp_path / "empty.xyz")


def test_cell_vectors_behind_the_atoms_are_part_of_the_frame(tmp_path):
    frame = "1\n\nCu 0 0 0\nVEC1 3 0 0\nVEC2 0 3 0\nVEC3 0 0 3\n"
    (tmp_path / "own.xyz").write_text(frame * 2)
    frames = read_every_frame(tmp_path / "own.xyz")
    assert [len(f) for f in frames] == [1, 1]
    assert all(f.pbc.all() for f in frames)
    assert isinstance(frames[0], Atoms)


def test_columns_that_are_not_there_reserve_no_memory(tmp_path):
    path = tmp_path / "own.extxyz"
    path.write_text('1\nProperties=species:S:1:pos:R:38786542 energy=1.0 pbc="F F F"\nO 0 0 0\n')
    with pytest.raises(UserError, match=r"Properties names 38786543 columns, and its atom 0 has 4"):
        read_every_frame(path)
