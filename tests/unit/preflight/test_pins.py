"""The pins: one source, nothing drifts, everything hashed, nothing machine-specific. All of it offline."""

import re
import shutil
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlff_distiller.preflight import pins
from mlff_distiller.utils.errors import UserError

ENVS = pins.REPOSITORY / "envs"
LOCK = pins.parse_lock((ENVS / "requirements.lock").read_text())


@pytest.fixture
def copy(tmp_path):
    """The files that must agree, to be spoiled."""
    shutil.copy(pins.REPOSITORY / "pyproject.toml", tmp_path)
    shutil.copytree(ENVS, tmp_path / "envs")
    return tmp_path


def pip_lines(stage: str) -> list[str]:
    dependencies = yaml.safe_load((ENVS / f"{stage}.yaml").read_text())["dependencies"]
    (entry,) = [entry for entry in dependencies if isinstance(entry, dict)]
    return entry["pip"]


def test_nothing_has_drifted():
    assert pins.find_drift() == []


@pytest.mark.parametrize(
    ("path", "pattern", "replacement", "complaint"),
    [
        (
            "pyproject.toml",
            r'"torch==2\.5\.1"',
            '"torch==2.6.0"',
            r"'student' wants torch==2\.6\.0, the lock has 2\.5\.1",
        ),
        (
            "pyproject.toml",
            r'    "tblite==0\.8\.0",\n',
            "",
            r"tblite stands there for group 'teacher', which does not name",
        ),
        (
            "pyproject.toml",
            r"report = \[\n",
            'report = [\n"seaborn",\n',
            r"seaborn of group 'report' is not in the lock",
        ),
        ("pyproject.toml", r"torch-cluster==1\.6\.3", "torch-cluster==1.6.1", r"torch-cluster\.lock: does not pin"),
        ("envs/requirements.lock", r"matplotlib==[\d.]+", "matplotlib==3.0.0", r"envs/report\.yaml: not what the lock"),
        ("envs/student.yaml", r"- torch==2\.5\.1", "- torch==2.5.0", r"envs/student\.yaml: not what the lock gives"),
        ("envs/teacher.yaml", r"--hash=sha256:0", "--hash=sha256:1", r"envs/teacher\.yaml: not what the lock gives"),
        ("envs/bootstrap.lock", r"uv==", "uv==1", r"envs/bootstrap\.lock: not what the lock gives"),
        (
            "pyproject.toml",
            r"sevenn==0\.13\.0",
            "sevenn==0.12.1",
            r"wants sevenn==0\.12\.1, envs/sevennet\.lock has 0\.13",
        ),
        (
            "envs/sevennet.lock",
            r"\nscipy==[\d.]+",
            "\nscipy==1.0",
            r"sevennet\.lock: scipy 1\.0, in requirements\.lock 1\.",
        ),
        ("envs/sevennet.yaml", r"- sevenn==", "- sevenn==9", r"envs/sevennet\.yaml: not what the lock gives"),
    ],
)
def test_drift_is_found(copy, path, pattern, replacement, complaint):
    before = (copy / path).read_text()
    after = re.sub(pattern, replacement, before, count=1)
    assert after != before
    (copy / path).write_text(after)
    problems = pins.find_drift(copy)
    assert any(re.search(complaint, problem) for problem in problems), problems


def test_the_pins_meet_what_the_package_asks_of_its_users():
    document = tomllib.loads((pins.REPOSITORY / "pyproject.toml").read_text())
    project = document["project"]
    extras = project["optional-dependencies"]
    asked = [Requirement(entry) for entry in [*project["dependencies"], *extras["workflow"]]]
    asked = [requirement for requirement in asked if requirement.name != project["name"]]
    locked = {pin.name: pin.version for pin in LOCK}
    assert not [str(one) for one in asked if not one.specifier.contains(locked[canonicalize_name(one.name)])]
    # The extra brings all that the stages import: their groups without what sets up an environment or compiles in it.
    groups = {Requirement(entry).name for stage in pins.ENVIRONMENTS for entry in document["dependency-groups"][stage]}
    assert {requirement.name for requirement in asked} == groups - {"ninja", "pip", "setuptools", "uv", "wheel"} | {
        "scipy"
    }


def test_the_engines_are_those_of_the_extras_that_install_them_one_by_one():
    document = tomllib.loads((pins.REPOSITORY / "pyproject.toml").read_text())
    extras = document["project"]["optional-dependencies"]
    asked = [Requirement(entry) for name, entries in extras.items() if name != "workflow" for entry in entries]
    locked = {pin.name: pin.version for pin in pins.parse_lock((ENVS / "engines.lock").read_text())}
    assert len(asked) >= 7
    assert not [str(one) for one in asked if not one.specifier.contains(locked[canonicalize_name(one.name)])]
    group = {Requirement(entry).name for entry in document["dependency-groups"]["engines"]}
    assert {requirement.name for requirement in asked} <= group


def test_a_lock_is_made_of_the_groups_alone(copy, monkeypatch):
    """Were pyproject.toml named too, uv would add the package's own dependencies."""
    commands = []
    monkeypatch.setattr(pins.subprocess, "run", lambda command, **_: commands.append(command))
    pins.resolve(copy)
    assert [sum(word.startswith("--group=") for word in command) for command in commands] == [
        len(pins.read_groups(copy)) - 1 - len(pins.OPTIONAL),
        *[1] * len(pins.OPTIONAL),
        1,
    ]
    assert not [word for command in commands for word in command if "pyproject.toml" in word]
    assert pins.find_drift(copy) == []


def test_lock_without_a_hash_is_refused(copy):
    with pytest.raises(UserError, match=r"jinja2 has no hash; run `make lock`"):
        pins.parse_lock("jinja2==3.1.6\n    # via torch\n")
    with pytest.raises(UserError, match=r"requirements\.lock:2: 'jinja2>=3 .*' is no pin"):
        pins.parse_lock("# head\njinja2>=3 \\\n    --hash=sha256:" + "0" * 64 + "\n")


def test_closure_follows_what_needs_what():
    names = {stage: {pin.name for pin in pins.closure(LOCK, stage)} for stage in pins.ENVIRONMENTS}
    assert {"torch", "triton", "sympy", "nvidia-cublas-cu12", "ase", "scipy"} <= names["student"]
    # torch and the teacher's library must not be loaded together, so they are not installed together either.
    assert not names["student"] & {"tblite", "rdkit", "snakemake"}
    assert not names["teacher"] & {"torch", "triton", "snakemake"}
    assert not names["report"] & {"torch", "tblite", "snakemake"}
    assert {"tblite", "cffi", "rdkit", "h5py"} <= names["teacher"]


@pytest.mark.parametrize("stage", [*pins.ENVIRONMENTS, *pins.OPTIONAL])
def test_environment_is_complete_and_locked(stage):
    text = (ENVS / f"{stage}.yaml").read_text()
    specification = yaml.safe_load(text)
    assert specification["channels"] == ["conda-forge"]
    assert specification["dependencies"][:2] == [f"python={pins.CONDA_PYTHON}", "pip"]
    named = set()
    for line in pip_lines(stage):
        # One line for pip, with hashes: nothing that points to another file, which would not be there.
        requirement, *hashes = line.split(" --hash=")
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), line
        assert [specifier.operator for specifier in Requirement(requirement).specifier] == ["=="]
        named.add(canonicalize_name(Requirement(requirement).name))
    group = tomllib.loads((pins.REPOSITORY / "pyproject.toml").read_text())["dependency-groups"][stage]
    assert {canonicalize_name(Requirement(entry).name) for entry in group} <= named


def test_shared_packages_have_one_version_everywhere():
    versions: dict[str, set[str]] = {}
    for stage in (*pins.ENVIRONMENTS, *pins.OPTIONAL):
        for line in pip_lines(stage):
            name, version = line.split()[0].split("==")
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_files_name_no_machine_and_no_index():
    for path in ENVS.iterdir():
        if path.suffix in (".lock", ".yaml"):
            text = path.read_text()
            assert "://" not in text, path
            assert not re.search(r"(?m)^\s*(-i|--index-url|--extra-index-url|-f|--find-links|-r|-e)\b", text), path
            assert not re.search(r"/(home|root|tmp|opt)/", text), path


def test_bootstrap_pins_are_those_of_the_lock():
    bootstrap = {pin.name: pin for pin in pins.parse_lock((ENVS / "bootstrap.lock").read_text())}
    locked = {pin.name: pin for pin in LOCK}
    assert set(bootstrap) == set(pins.BOOTSTRAP)
    for name, pin in bootstrap.items():
        assert (pin.version, pin.hashes) == (locked[name].version, locked[name].hashes)
