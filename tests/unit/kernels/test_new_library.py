"""Two processes that compile the same library at once: each into a file of its own, and the first one stays."""

import os

import pytest

from mlff_distiller.kernels.new_library import new_library


def test_the_first_library_stays_and_nothing_else_does(tmp_path):
    library = tmp_path / "cache/molecule.so"
    with new_library(library) as slow:
        with new_library(library) as fast:
            assert fast != slow
            fast.write_text("first")
        inode = library.stat().st_ino
        slow.write_text("second")
    assert library.read_text() == "first"
    assert library.stat().st_ino == inode
    assert library.stat().st_mode & 0o777 == 0o755
    assert list(library.parent.iterdir()) == [library]


def test_a_library_that_could_not_be_compiled_leaves_nothing(tmp_path):
    def fail():
        with new_library(tmp_path / "a.so") as made:
            made.write_text("half")
            raise ValueError("no such flag")

    with pytest.raises(ValueError, match="no such flag"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with new_library(tmp_path / "a.so") as made:
        made.write_text("whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.so", "whole")]
