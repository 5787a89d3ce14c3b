"""Checkpoints come back as they were saved; what is damaged, foreign or too new is refused in words."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mlff_distiller.student.checkpoint import learned_elements, load_student, read_card, save_student
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


def test_the_elements_of_the_card_come_with_the_student(student, tmp_path):
    card = {"data": {"atoms_by_atomic_number": {"1": 10, "8": 5}}}
    path = save_student(tmp_path / "s.safetensors", student, card)
    assert load_student(path).limits.elements == learned_elements(path) == {1, 8}
    assert load_student(save_student(tmp_path / "t.safetensors", student)).limits.elements is None


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"config": None}, "its header has no 'config'"),
        ({"config": "{"}, "'config' in its header is no JSON"),
        ({"config": "[1]"}, "'config' in its header is .*not a mapping"),
        ({"config": '{"n_feature": 128}'}, "did you mean 'n_features'"),
        ({"config": '{"cutoff": Infinity}'}, "config.cutoff: expected number > 0, got inf"),
        ({"config": '{"n_features": 1000000}'}, "do not fit the sizes"),
        ({"config": '{"n_features": 128.5}'}, "config.n_features: expected whole number >= 1, got 128.5"),
        ({"card": "{"}, "'card' in its header is no JSON"),
        ({"card": '{"data": [1]}'}, "the card in its header is broken"),
        ({"card": '{"data": {"atoms_by_atomic_number": {"H": 1}}}'}, "the card in its header is broken"),
        ({"neighbors": "vesn"}, "did you mean 'vesin'"),
        ({"version": "²"}, "header version"),
    ],
)
def test_a_broken_header_names_the_file_and_what_is_wrong(saved, header, words):
    with pytest.raises(UserError, match=rf"student\.safetensors: .*{words}"):
        load_student(rewrite(saved, header))


def test_a_card_may_be_missing(saved):
    assert load_student(rewrite(saved, {"card": None})).limits.elements is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int8, torch.int64])
def test_weights_of_fewer_digits_are_refused(saved, dtype):
    narrow = {name: tensor.to(dtype) for name, tensor in load_file(saved).items()}
    with pytest.raises(UserError, match=f"is {dtype}; only float32 and float64 are read"):
        load_student(rewrite(saved, tensors=narrow))


def test_a_weight_that_is_missing_or_too_many_is_named(saved):
    with pytest.raises(UserError, match=r"do not fit .*extra is unknown"):
        load_student(rewrite(saved, tensors={"extra": torch.zeros(3)}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.int32, "float16"])
def test_a_student_runs_in_float32_or_float64_only(saved, dtype):
    with pytest.raises(UserError, match="dtype must be"):
        load_student(saved, dtype=dtype)


def test_the_default_dtype_of_torch_changes_nothing(student, saved):
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        loaded = load_student(saved)
    finally:
        torch.set_default_dtype(before)
    assert loaded.dtype == torch.float32
    for name, tensor in student.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
