"""Molecule lists and SMILES that are not what they should be."""

import pytest

from mlff_distiller.data.molecule_list import read_molecule_list
from mlff_distiller.data.molecules import molecule_from_smiles
from mlff_distiller.data.teacher import make_calculator
from mlff_distiller.utils.errors import UserError


def test_a_byte_order_mark_is_no_part_of_the_columns(tmp_path):
    (tmp_path / "list.csv").write_bytes("\ufeffname,smiles,class\nethanol,CCO,alcohol\n".encode())
    (found,) = read_molecule_list(tmp_path / "list.csv")
    assert (found.name, found.smiles, found.family, found.n_atoms) == ("ethanol", "CCO", "alcohol", 9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column class, name, smiles"),
        (b"name,smiles,class\n", "no molecules in it"),
        (b"name;smiles;class\nethanol;CCO;alcohol\n", "no column class, name, smiles; .* with commas"),
        (b"name,smiles\nethanol,CCO\n", "no column class"),
        ("name,smiles,class\nazúcar,CCO,alcohol\n".encode("latin-1"), "not a CSV file in UTF-8"),
        ("name,smiles,class\nethanol,CCO,alcohol\n".encode("utf-16"), "not a CSV file in UTF-8"),
        (b"name,smiles,class\nx,,alcohol\n", "line 2, x : RDKit cannot read it"),
        (b"name,smiles,class\nx,C(C,alcohol\n", r"line 2, x C\(C: RDKit cannot read it"),
        (b"name,smiles,class\nx,CN(C)(C)C,amine\n", "line 2, x .*RDKit cannot read it"),
        (b"name,smiles,class\nx,C*,alcohol\n", "line 2, x .*it holds"),
        (b"name,smiles,class\nx\n", "line 2, x : RDKit cannot read it"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_with_the_line(tmp_path, data, message):
    (tmp_path / "list.csv").write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read_molecule_list(tmp_path / "list.csv")
    assert "list.csv" in str(caught.value)


@pytest.mark.parametrize("smiles", ["", " ", "C(", "xyz", None, 5])
def test_smiles_that_are_none_are_refused(smiles):
    with pytest.raises(UserError, match="RDKit cannot read it"):
        molecule_from_smiles(smiles)


@pytest.mark.parametrize("code", ["def f(:", "1 / 0", "raise SystemExit"])
def test_a_teachers_file_that_does_not_run_is_named(tmp_path, monkeypatch, code):
    (tmp_path / "broken_teacher.py").write_text(code + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        UserError, match=r"importing 'broken_teacher' failed: (SyntaxError|ZeroDivisionError|SystemExit)"
    ):
        make_calculator({"calculator": "broken_teacher:f"})
