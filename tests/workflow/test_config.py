"""A wrong configuration stops before any job, and the message names the right key."""

import copy

import pytest
import yaml

from mlff_distiller.preflight.config import SCHEMA, check_config, drop_null_variants
from mlff_distiller.utils.errors import UserError
from tests.workflow.conftest import ROOT

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)


def changed(path, value):
    config = copy.deepcopy(DEFAULT)
    *parents, last = path.split(".")
    place = config
    for key in parents:
        place = place[key]
    place[last] = value
    return config


def test_the_default_is_right():
    check_config(DEFAULT)


@pytest.mark.parametrize("name", ["config.yaml", "full.yaml", "gpu.yaml", "one_thread.yaml", "distill.yaml"])
def test_every_shipped_file_is_right_over_the_default(name):
    def lay(over, under):
        both = isinstance(over, dict) and isinstance(under, dict)
        return under | {key: lay(value, under.get(key)) for key, value in over.items()} if both else over

    config = lay(yaml.safe_load((ROOT / "config" / name).read_text()), DEFAULT)
    drop_null_variants(config)
    check_config(config)


def test_a_variant_that_is_null_is_left_out():
    config = changed("variants.vesin", None)
    drop_null_variants(config)
    assert config["variants"] == {name: spec for name, spec in DEFAULT["variants"].items() if name != "vesin"}
    check_config(config)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("benchmrk", {}, "unknown key 'benchmrk'; did you mean 'benchmark'"),
        ("benchmark.run", 50, "benchmark: unknown key 'run'; did you mean 'runs'"),
        ("benchmark.runs", "many", "benchmark.runs: 'many' is not of type 'integer'"),
        ("benchmark.tasks", ["energy_force"], "did you mean 'energy_forces'"),
        ("device", "gpu", "device: cannot be 'gpu'"),
        ("variants.torchscript", {"family": "torchscrip"}, "unknown family 'torchscrip'; did you mean 'torchscript'"),
        (
            "variants.vesin",
            {"family": "eager", "neighbours": "vesin"},
            "no option 'neighbours'; did you mean 'neighbors'",
        ),
        ("variants.vesin", {"family": "eager", "neighbors": "vesinn"}, "did you mean 'vesin'"),
        ("variants.eager", {"family": "torchscript"}, "eager must be there"),
        ("molecules.systems", ["watr"], "'watr': no such molecule or file; did you mean 'water'"),
        ("molecules.systems", ["mine/molecule.xyz"], "no such molecule or file"),
        ("md.systems", ["caffein"], "did you mean 'caffeine'"),
        ("md.nvt.systems", ["caffein"], "md.nvt.systems: 'caffein' is not among molecules.systems; did you mean"),
        ("md.spectra.variants", ["ccp"], "md.spectra.variants: 'ccp' is not among variants; did you mean 'cpp'"),
        ("md.liquid.systems", ["nowhere.extxyz"], "md.liquid.systems: nowhere.extxyz: no such file"),
        ("md.liquid.systems", None, "md.liquid.systems: None is not of type 'array'"),
        ("md.timestep.variants", ["vesin", "torchscript"], "'torchscript' has no fp64 form"),
        ("claims", "config/my claims.yaml", "claims: 'config/my claims.yaml': names and folders without blanks"),
        ("gates.week_1", {"energy_speedups": 3.0}, "unknown key 'energy_speedups'; did you mean 'energy_speedup'"),
        ("md.timestp", {}, "md: unknown key 'timestp'; did you mean 'timestep'"),
        ("student.checkpoint", "nowhere.safetensors", "student.checkpoint: nowhere.safetensors: no such file"),
        ("student.dataset", "nowhere.extxyz", "student.dataset: nowhere.extxyz: no such file"),
        ("teacher.calculator", None, "null only with labels of your own"),
        ("accuracy.visited_frame", 3, "accuracy: unknown key 'visited_frame'; did you mean 'visited_frames'"),
        ("teacher.calculator", "tblite.ase.TBLite", "teacher.calculator"),
        ("run", "../elsewhere", "run:"),
        ("benchmark.scaling.variants", ["cp"], "'cp' is not among variants; did you mean 'cpp'"),
        ("benchmark.scaling.liquid", "benzen", "'benzen': no such molecule or file; did you mean 'benzene'"),
        ("benchmark.scaling.settings", {"batch": [1]}, "unknown key 'batch'; did you mean 'batches'"),
        ("benchmark.scaling.settings", {"box_atoms": [0]}, "box_atoms must be positive whole numbers"),
        ("report.figures", ["speedups"], "did you mean 'speedup'"),
    ],
)
def test_a_mistake_is_named(path, value, message):
    with pytest.raises(UserError) as error:
        check_config(changed(path, value))
    assert message in str(error.value)


def test_spectra_need_a_teacher():
    config = changed("md.spectra.variants", ["cpp"])
    config["student"]["dataset"] = "resources/molecules/water.extxyz"
    config["teacher"]["calculator"] = None
    with pytest.raises(UserError, match=r"md\.spectra compares with the teacher's dynamics"):
        check_config(config)
    config["md"]["spectra"]["variants"] = []
    check_config(config)


def test_all_mistakes_are_listed_at_once():
    config = changed("device", "gpu")
    config["benchmark"]["run"] = 3
    with pytest.raises(UserError) as error:
        check_config(config)
    assert len(str(error.value).splitlines()) == 2


def test_snakemake_stops_with_the_sentence(fresh):
    fresh.edit("config/config.yaml", "  warmup: 10", "  warmpu: 10")
    done = fresh.snakemake("--dry-run")
    assert done.returncode != 0
    assert "unknown key 'warmpu'; did you mean 'warmup'?" in done.stderr + done.stdout


def test_every_key_is_explained():
    text = (ROOT / "config" / "README.md").read_text()
    schema = yaml.safe_load(SCHEMA.read_text())

    def keys(node, path=""):
        for key, inner in node.get("properties", {}).items():
            yield f"{path}{key}"
            yield from keys(inner, f"{path}{key}.")

    missing = [key for key in keys(schema) if f"`{key}`" not in text]
    assert not missing


def test_the_schema_lists_the_figures_that_there_are():
    from mlff_distiller.report.figures.draw import FIGURES

    schema = yaml.safe_load(SCHEMA.read_text())
    assert schema["properties"]["report"]["properties"]["figures"]["items"]["enum"] == list(FIGURES)


def test_the_schema_lists_the_measures_of_gates_that_there_are():
    from mlff_distiller.decisions.gates import MEASURES

    schema = yaml.safe_load(SCHEMA.read_text())
    assert set(schema["properties"]["gates"]["additionalProperties"]["properties"]) == set(MEASURES)
