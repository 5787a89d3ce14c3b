"""A wrong configuration stops before any job, and the message names the right key."""

import contextlib
import copy
import os
import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from mlff_distiller.preflight.config import Gate, Report, check_duplicate_keys, drop_null_variants
from mlff_distiller.preflight.config_checks import check_config
from mlff_distiller.preflight.config_schema import README, SCHEMA, readme_text, schema_text
from mlff_distiller.utils.errors import UserError
from tests.workflow.conftest import ROOT

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
NAN = float("nan")
ENGINES = DEFAULT["benchmark"]["engines"]


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


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "full.yaml",
        "gpu.yaml",
        "one_thread.yaml",
        "distill.yaml",
        "rounds.yaml",
        "examples/crystal.yaml",
        "examples/liquid.yaml",
        "examples/own_molecule.yaml",
    ],
)
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
        ("benchmark.runs", "many", "benchmark.runs: expected whole number >= 2, got 'many'"),
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
        ("md.liquid.systems", None, "md.liquid.systems: expected list of text, got None"),
        ("md.timestep.variants", ["vesin", "torchscript"], "'torchscript' has no fp64 form"),
        ("claims", "config/my claims.yaml", "claims: 'config/my claims.yaml': names and folders without blanks"),
        ("gates.week_1", {"energy_speedups": 3.0}, "unknown key 'energy_speedups'; did you mean 'energy_speedup'"),
        ("md.timestp", {}, "md: unknown key 'timestp'; did you mean 'timestep'"),
        ("student.checkpoint", "nowhere.safetensors", "student.checkpoint: nowhere.safetensors: no such file"),
        ("student.dataset", "nowhere.extxyz", "student.dataset: nowhere.extxyz: no such file"),
        (
            "student.sampling.structures",
            {"files": ["nowhere.cif"]},
            "student.sampling.structures.files: nowhere.cif: no such file",
        ),
        (
            "student.sampling.structures",
            {"files": ["resources/crystals/silicon.cif", "./resources/crystals/silicon.cif"]},
            "student.sampling.structures.files: two of them have the same name",
        ),
        (
            "acceptance.crystals",
            {"files": ["nowhere.cif"]},
            "acceptance.crystals.files: nowhere.cif: no such file",
        ),
        (
            "student.sampling.structures",
            {"file": []},
            "student.sampling.structures: unknown key 'file'; did you mean 'files'",
        ),
        ("student.sampling.molecules", 0, "student.sampling: nothing to sample: molecules is 0"),
        ("teacher.environment", "envs/sevenet.yaml", "teacher.environment: envs/sevenet.yaml: no such file"),
        ("teacher.calculator", None, "null only with labels of your own"),
        ("accuracy.visited_frame", 3, "accuracy: unknown key 'visited_frame'; did you mean 'visited_frames'"),
        ("teacher.calculator", "tblite.ase.TBLite", "got 'tblite.ase.TBLite'; for example tblite.ase:TBLite"),
        ("teacher.arguments", ["GFN2-xTB"], "teacher.arguments: expected mapping, got ['GFN2-xTB']"),
        ("run", "../elsewhere", "run: expected text that matches"),
        ("run", "mine\n", "run: expected text that matches"),
        ("run", "a" * 101, "100 characters at most, got 'aaa"),
        ("run", "published", "run: results/published/ holds the runs that ship; choose another name"),
        ("benchmark.scaling.variants", ["cp"], "'cp' is not among variants; did you mean 'cpp'"),
        ("benchmark.scaling.liquid", "benzen", "'benzen': no such molecule or file; did you mean 'benzene'"),
        ("benchmark.engines.names", ["openm"], "benchmark.engines.names.0: cannot be 'openm'; did you mean 'openmm'"),
        (
            "benchmark.engines",
            ENGINES | {"names": ["ipi"], "variant": "cp"},
            "'cp' is not among variants; did you mean 'cpp'",
        ),
        ("benchmark.engines.box", "nowhere.extxyz", "benchmark.engines.box: nowhere.extxyz: no such file"),
        ("benchmark.engines.settings", {"step": 9}, "unknown key 'step'; did you mean 'steps'"),
        ("benchmark.scaling.settings", {"batch": [1]}, "unknown key 'batch'; did you mean 'batches'"),
        ("benchmark.scaling.settings", {"box_atoms": [0]}, "box_atoms.0: expected whole number >= 1, got 0"),
        ("benchmark.scaling.settings", {"batches": [0]}, "batches.0: expected whole number >= 1, got 0"),
        ("benchmark.scaling.settings", {"runs": 0.5}, "scaling.settings.runs: expected whole number >= 1, got 0.5"),
        ("report.figures", ["latencies"], "did you mean 'latency'"),
        ("report.figures", ["latency", "latency"], "report.figures: 'latency' stands there twice"),
        ("md.settings", {"timestep_fs": -0.5}, "md.settings.timestep_fs: expected number > 0, got -0.5"),
        ("md.settings", {"temperature_k": 0}, "md.settings.temperature_k: expected number > 0, got 0"),
        ("md.settings", {"temperature_k": "300"}, "expected number > 0, got '300'; a number is written without quotes"),
        ("md.settings", {"seed": 1.5}, "md.settings.seed: expected whole number >= 0, got 1.5"),
        ("md.settings", {"loop": "gpu"}, "md.settings.loop: cannot be 'gpu'"),
        ("md.settings", {"gates": {"drift": 1}}, "md.settings.gates: unknown key 'drift'"),
        ("md.settings", {"gates": {"momentum": "small"}}, "gates.momentum: expected number >= 0, got 'small'"),
        ("md.long.settings", {"steps": 100}, "md.long.settings: 100 steps, sampled every 10, give 11 samples"),
        ("md.liquid.settings", {"stepz": 1}, "md.liquid.settings: unknown key 'stepz'; did you mean 'steps'"),
        ("md.timestep.settings", {"windows": 0}, "md.timestep.settings.windows: expected whole number >= 1, got 0"),
        ("gates.week_1", {"md_passes": "yes"}, "gates.week_1.md_passes: expected true | false, got 'yes'"),
        ("student.training", {"n_steps": "many"}, "student.training.n_steps: expected whole number >= 1 or null"),
        ("student.training", {"max_seconds": -1}, "student.training.max_seconds: expected number > 0 or null, got -1"),
        ("student.sampling", {"fractions": {"val": 1.5}}, "fractions.val: expected number >= 0 and <= 1, got 1.5"),
        ("student.sampling", {"molecules": -3}, "student.sampling.molecules: expected whole number >= 0, got -3"),
        ("student.sampling", {"conformers": True}, "student.sampling.conformers: expected whole number >= 1, got True"),
        ("student.limits", {"max_force": 1.0}, "student.limits: unknown key 'max_force'; did you mean"),
        ("student.limits", {"max_force_ev_per_a": -1.0}, "max_force_ev_per_a: expected number > 0 or null, got -1.0"),
        ("student.rounds", {"numbr": 1}, "student.rounds: unknown key 'numbr'; did you mean 'number'"),
        ("student.rounds", {"number": 1}, "student.rounds: student.sampling.splits lacks train and val"),
        (
            "student.rounds",
            {"explore": {"held_out": 1.0}},
            "rounds.explore.held_out: expected number >= 0 and < 1, got 1.0",
        ),
        ("student.rounds", {"explore": {"steps": 25}}, "rounds.explore: steps 25 is not a multiple of look_every 10"),
        (
            "student.rounds",
            {"training": {"n_step": 25}},
            "rounds.training: unknown key 'n_step'; did you mean 'n_steps'",
        ),
        ("student.rounds", {"number": 1, "training": {"max_seconds": None}}, "student.rounds.training: give n_steps"),
        ("student.own_data", {"check_units": "no"}, "student.own_data.check_units: expected true | false, got 'no'"),
        ("equivalence.amplitude", NAN, "equivalence.amplitude: expected number >= 0, got nan"),
        ("torch_cluster.mode", "of", "torch_cluster.mode: cannot be 'of'; did you mean 'off'"),
        ("molecules.list", "resources/{molecule}.csv", "names and folders without braces"),
    ],
)
def test_a_mistake_is_named(path, value, message):
    with pytest.raises(UserError) as error:
        check_config(changed(path, value))
    assert message in str(error.value)


@pytest.mark.parametrize("check", ["long", "timestep", "nvt", "spectra", "pairs", "liquid"])
def test_md_of_another_network_is_refused(check):
    config = changed("variants.schnetpack", {"family": "schnetpack"})
    config["md"][check]["variants"] = ["schnetpack"]
    with pytest.raises(UserError, match=rf"md\.{check}\.variants: 'schnetpack' is another network than the student"):
        check_config(config)


def test_rounds_need_a_teacher_and_labels_to_remember():
    config = changed("student.rounds", {"number": 2})
    config["student"]["sampling"]["splits"] = ["train", "val"]
    check_config(config)
    config["student"] |= {"sampling": DEFAULT["student"]["sampling"], "dataset": "resources/molecules/water.extxyz"}
    check_config(config)
    config["teacher"]["calculator"] = None
    with pytest.raises(UserError, match=r"student\.rounds: name teacher\.calculator"):
        check_config(config)


def test_off_without_quotes_is_off():
    check_config(changed("torch_cluster.mode", yaml.safe_load("off")))


@pytest.mark.parametrize("check", ["spectra", "pairs"])
def test_what_is_compared_with_the_teachers_dynamics_needs_a_teacher(check):
    config = changed(f"md.{check}.variants", ["cpp"])
    config["student"]["dataset"] = "resources/molecules/water.extxyz"
    config["teacher"]["calculator"] = None
    with pytest.raises(UserError, match=rf"md\.{check} compares with the teacher's dynamics"):
        check_config(config)
    config["md"][check]["variants"] = []
    check_config(config)


@pytest.mark.parametrize("strange", ["\r", "a\u2028b", "\x1b[2J", "\ud800"])
def test_a_control_character_in_a_name_is_shown_and_breaks_no_line(strange):
    config = changed("molecules.systems", ["water", strange])
    found = complaints(config)
    assert len(found) > 1
    assert all(line.startswith("configuration: ") and line.isprintable() for line in found)


def test_all_mistakes_are_listed_at_once():
    config = changed("device", "gpu")
    config["benchmark"]["run"] = 3
    config["md"]["systems"] = ["caffein"]
    with pytest.raises(UserError) as error:
        check_config(config)
    assert len(str(error.value).splitlines()) == 3


def places(node, path=()):
    """The paths of all keys and items of a configuration."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.lists(st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=3) | st.integers() | st.none(), st.integers() | st.none(), max_size=2),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(places(DEFAULT), key=str)), WRONG, st.sampled_from(["replace", "add", "remove"]))
def test_a_mutated_default_is_right_or_an_error_that_names_the_key(path, wrong, how):
    config = copy.deepcopy(DEFAULT)
    place = config
    for key in path[:-1]:
        place = place[key]
    if how == "remove":
        del place[path[-1]]
    elif how == "add" and isinstance(place, dict):
        place["strange"] = wrong
    else:
        place[path[-1]] = wrong
    drop_null_variants(config)
    if found := complaints(config):
        assert all(line.startswith("configuration: ") and line.isprintable() for line in found)
    else:
        # What is right here is right for an editor, too.
        assert not list(Draft202012Validator(yaml.safe_load(schema_text())).iter_errors(off_in_quotes(config)))


def complaints(config):
    try:
        check_config(config)
    except UserError as error:
        return str(error).splitlines()
    return []


def off_in_quotes(config):
    with contextlib.suppress(KeyError):
        if config["torch_cluster"]["mode"] is False:
            config["torch_cluster"]["mode"] = "off"
    return config


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("md:\n  threads: 1\n  settings: {steps: 5}\n  threads: 2\nrun: mine\nmd: {}\n")
    with pytest.raises(UserError) as error:
        check_duplicate_keys([ROOT / "config" / "config.yaml", path])
    assert str(error.value).splitlines() == [
        f"{path}: md stands in line 1 and again in line 6; keep one of them",
        f"{path}: md.threads stands in line 2 and again in line 4; keep one of them",
    ]


def test_an_alias_of_what_it_stands_in_ends(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("md: &md\n  again: *md\n  run: 1\n  run: 2\n")
    with pytest.raises(UserError, match=r"md\.run stands in line 3 and again in line 4"):
        check_duplicate_keys([path])


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"run: \x9d\n")
    with pytest.raises(UserError, match=r"mine\.yaml: not valid YAML"):
        check_duplicate_keys([path])


def test_the_files_that_ship_have_no_key_twice():
    check_duplicate_keys((ROOT / "config").glob("*.yaml"))


def test_snakemake_refuses_a_section_that_stands_twice(fresh):
    (fresh.folder / "mine.yaml").write_text("md: {threads: 1}\nmd: {threads: 2}\n")
    done = fresh.snakemake("--dry-run", "--configfile", "mine.yaml")
    assert done.returncode != 0
    assert "md stands in line 1 and again in line 2" in done.stderr + done.stdout


def test_a_checkpoint_with_a_name_that_a_shell_would_read_is_copied(fresh):
    name = "best(1)'s_$HOME&.safetensors"
    shipped = fresh.folder / "resources/student/student.safetensors"
    shipped.rename(fresh.folder / name)
    (fresh.folder / "mine.yaml").write_text(yaml.safe_dump({"student": {"checkpoint": name}}))
    target = "results/default/student/student.safetensors"
    done = fresh.snakemake("--configfile", "mine.yaml", "--", target)
    assert done.returncode == 0, done.stderr
    assert (fresh.folder / target).stat().st_size == (fresh.folder / name).stat().st_size


def test_every_path_in_a_shell_command_is_quoted():
    bare = re.compile(r"\{(?:input|output|log|params|wildcards)(?:\.(\w+))?\}")
    # Made of names and quoted paths by the rules themselves.
    composed = {"given", "expected", "claims", "torch_cluster", "held_out", "more", "command", "structures", "crystals"}
    composed |= {"gathered", "number", "card", "cells", "box", "engines_python", "teacher_python", "next_labels"}
    commands = re.compile(r"^( +)shell:\n((?:\1    .*\n)+)", re.MULTILINE)
    found = 0
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        for _, shell in commands.findall(file.read_text(encoding="utf-8")):
            assert set(bare.findall(shell)) <= composed, f"{file.name}: {shell}"
            found += 1
    assert found > 30


def test_snakemake_stops_with_the_sentence(fresh):
    fresh.edit("config/config.yaml", "  warmup: 10", "  warmpu: 10")
    done = fresh.snakemake("--dry-run")
    assert done.returncode != 0
    assert "unknown key 'warmpu'; did you mean 'warmup'?" in done.stderr + done.stdout


def test_the_schema_and_the_tables_are_those_of_the_classes():
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "run `python -m mlff_distiller config-schema`"
    assert README.read_text(encoding="utf-8") == readme_text(), "run `python -m mlff_distiller config-schema`"


def test_the_configuration_knows_the_figures_and_the_measures_that_there_are():
    from mlff_distiller.decisions.gates import MEASURES
    from mlff_distiller.report.figures.draw import FIGURES

    figures = Report.model_json_schema()["properties"]["figures"]["items"]["enum"]
    assert figures == list(FIGURES)
    assert set(Gate.__annotations__) == set(MEASURES)


def test_the_configuration_needs_neither_numpy_nor_torch():
    program = (
        "import sys; sys.modules |= dict.fromkeys(('numpy', 'torch', 'ase', 'pandas'))\n"
        "import yaml\n"
        "from mlff_distiller.preflight.config_checks import check_config\n"
        "check_config(yaml.safe_load(open('config/config.yaml', encoding='utf-8')))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow")}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=60)
