"""What the documents at the top say of versions is what the code has."""

import re
import tomllib

import yaml

from mlff_distiller.data import dataset
from mlff_distiller.deploy import bundle
from mlff_distiller.kernels.cpu import weights
from mlff_distiller.records import schema
from mlff_distiller.sources import ROOT
from mlff_distiller.student import checkpoint

CHECKOUT = ROOT.parents[1]
VERSIONS = {
    "student/checkpoint.py": checkpoint.VERSION,
    "deploy/bundle.py": bundle.VERSION,
    "kernels/cpu/weights.py": weights.VERSION,
    "records/schema.py": schema.SCHEMA_VERSION,
    "data/dataset.py": dataset.VERSION,
}


def test_the_changelog_has_the_versions_of_all_files():
    text = (CHECKOUT / "CHANGELOG.md").read_text()
    found = {file: int(now) for now, file in re.findall(r"(?m)^\| .+? \| (\d+) \| [\d, ]+ \| `(.+?)` \|$", text)}
    assert found == VERSIONS


def test_the_citation_is_of_this_version():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"\n## {project['version']}\n" in (CHECKOUT / "CHANGELOG.md").read_text()
