"""Labeled datasets as one, and what does not belong together."""

from dataclasses import replace

import numpy as np
import pytest

from mlff_distiller import cli
from mlff_distiller.data.dataset import content_hash, read_configurations, write_dataset
from mlff_distiller.data.merge import merge
from mlff_distiller.utils.errors import UserError
from tests.unit.data.labeled_sets import in_boxes, morse_dataset


def only(dataset, molecule, split):
    """The configurations of one molecule, all in one split."""
    part = dataset.select(dataset.molecule == dataset.molecules.index(molecule))
    return replace(part, split=np.full(len(part), part.splits.index(split), dtype=np.uint8))


def test_every_configuration_is_there_as_it_was():
    first, second = morse_dataset(20), morse_dataset(9, seed=1)
    # Of another table of names, methods and splits.
    second = replace(
        second.select(second.molecule > 0),
        methods=("student_md", *second.methods[:9]),
        method=np.zeros(6, dtype=np.uint8),
    )
    merged = merge({"a.h5": first, "b.h5": second})
    assert len(merged) == 26
    for i in range(26):
        part, k = (first, i) if i < 20 else (second, i - 20)
        mine, theirs = merged.atoms(i), part.atoms(k)
        assert mine.info == theirs.info
        np.testing.assert_array_equal(mine.positions, theirs.positions)
        np.testing.assert_array_equal(mine.arrays["forces"], theirs.arrays["forces"])
        assert merged.methods[merged.method[i]] == part.methods[part.method[k]]
    assert merged.teacher == first.teacher


def test_boxes_and_molecules_go_together():
    merged = merge({"a.h5": morse_dataset(4), "b.h5": in_boxes(morse_dataset(3, seed=2), 9.0)})
    assert merged.pbc.any(axis=1).tolist() == [False] * 4 + [True] * 3
    assert merged.atoms(5).cell.lengths() == pytest.approx([9.0] * 3)


def test_another_teacher_is_refused_and_the_file_named():
    other = replace(morse_dataset(6), teacher="EMT")
    with pytest.raises(UserError, match=r"b\.h5 was labeled by EMT, but a\.h5 by Morse pairs"):
        merge({"a.h5": morse_dataset(6), "b.h5": other})
    with pytest.raises(UserError, match=r"b\.h5 was labeled by an unknown teacher"):
        merge({"a.h5": morse_dataset(6), "b.h5": replace(other, teacher="")})


@pytest.mark.parametrize(("here", "there"), [("train", "test"), ("val", "train"), ("larger", "train"), ("test", "val")])
def test_a_molecule_with_two_uses_is_refused_by_name(here, there):
    whole = morse_dataset(30)
    parts = {"a.h5": only(whole, "water", here), "b.h5": only(whole, "methane", "train")}
    merge(parts)
    with pytest.raises(UserError, match=r"water is \w+ on in a\.h5, but \w+ on in c\.h5"):
        merge(parts | {"c.h5": only(whole, "water", there)})


def test_frames_of_one_molecule_may_be_in_several_splits_where_they_were_split_so():
    # Each molecule of this one is in train, val and test.
    whole = morse_dataset(60)
    assert len(merge({"a.h5": whole, "b.h5": only(whole, "water", "val")})) == 80


def test_the_command_joins_and_takes_a_shown_teacher(tmp_path):
    first, second = replace(morse_dataset(12), teacher="labels of mine.extxyz"), morse_dataset(6, seed=4)
    paths = [write_dataset(tmp_path / name, part) for name, part in (("a.h5", first), ("b.h5", second))]
    line = ["merge-data", "--datasets", *map(str, paths), "--output", str(tmp_path / "c.h5")]
    assert cli.main(line) == 2
    assert not (tmp_path / "c.h5").exists()
    shown = tmp_path / "same.json"
    shown.write_text(f'{{"content_sha256": "{content_hash(first)}", "teacher": "Morse pairs"}}')
    assert cli.main([*line, "--same-teacher", str(shown), "--card", str(tmp_path / "c.json")]) == 0
    assert len(read_configurations(tmp_path / "c.h5")) == 18
    assert read_configurations(tmp_path / "c.h5").teacher == "Morse pairs"
    shown.write_text('{"content_sha256": "0", "teacher": "Morse pairs"}')
    assert cli.main([*line, "--same-teacher", str(shown)]) == 2
