"""Checkpoints come back as they were saved; what is damaged, foreign or too new is refused in words."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mlff_distiller.student.checkpoint import load_student, read_card, save_student
from mlff_distiller.utils.errors import UserError


@pytest.fixture
def saved(student, tmp_path):
    return save_student(tmp_path / "student.safetensors", student, card={"teacher": "GFN2-xTB"})


def rewrite(path, header=None, tensors=None):
    """The same file with parts of its header or its tensors replaced; a header value of None drops the key."""
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
    metadata = {key: value for key, value in (metadata | (header or {})).items() if value is not None}
    save_file(load_file(path) | (tensors or {}), path, metadata=metadata)
    return path


def test_round_trip_keeps_every_weight_and_the_card(student, saved):
    loaded = load_student(saved)
    assert loaded.config == student.config
    for name, tensor in student.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert loaded.reference_energies.dtype == torch.float64
    assert read_card(saved) == {"teacher": "GFN2-xTB"}


def test_loads_in_fp64_without_rounding_the_reference_energies(student, saved):
    loaded = load_student(saved, dtype=torch.float64)
    assert loaded.dtype == torch.float64
    assert torch.equal(loaded.reference_energies, student.reference_energies)


def test_a_file_from_before_the_neighbor_field_loads_with_the_native_search(saved):
    loaded = load_student(rewrite(saved, {"version": "1", "neighbors": None}))
    assert loaded.neighbor_search.name == "native"


def test_the_choice_of_neighbor_search_travels_and_can_be_overridden(tmp_path):
    from tests.conftest import make_student

    path = save_student(tmp_path / "s.safetensors", make_student(neighbors="vesin"))
    assert load_student(path).neighbor_search.name == "vesin"
    assert load_student(path, neighbors="native").neighbor_search.name == "native"
    assert load_student(path, use_torch_cluster=False).neighbor_search.name == "native"


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such checkpoint"):
        load_student(tmp_path / "none.safetensors")


def test_cut_short(saved):
    saved.write_bytes(saved.read_bytes()[:-1000])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_student(saved)


def test_not_safetensors_at_all(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_student(path)


def test_of_another_program(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="another program"):
        load_student(path)


def test_of_a_newer_version(saved):
    with pytest.raises(UserError, match="header version '99'"):
        load_student(rewrite(saved, {"version": "99"}))


def test_weights_that_do_not_fit_the_header(saved):
    with safe_open(saved, framework="pt") as stream:
        config = json.loads(stream.metadata()["config"])
    with pytest.raises(UserError, match="do not fit the sizes"):
        load_student(rewrite(saved, {"config": json.dumps(config | {"mlp_width": 64})}))


def test_nan_names_the_tensor(saved):
    weights = load_file(saved)["network.filters.weight"]
    weights[3, 4] = float("nan")
    with pytest.raises(UserError, match=r"network\.filters\.weight holds NaN"):
        load_student(rewrite(saved, tensors={"network.filters.weight": weights}))
