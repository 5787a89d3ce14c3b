"""What several tests look at: a report of made-up records."""

import argparse
import json
from pathlib import Path

import pytest

from mlff_distiller.records import collect
from mlff_distiller.report import write
from mlff_distiller.utils.files import write_json
from tests.unit.records.synthetic_records import write_run

LEDGER = Path(__file__).parents[2] / "config" / "claims.yaml"
SETTINGS = {
    "run": "mine",
    "gates": {"week_1": {"energy_speedup": 3.0}, "project": {"energy_forces_speedup": 50.0, "md_passes": True}},
    "torch": {"version": "2.5.1"},
}


@pytest.fixture(scope="session")
def document(tmp_path_factory):
    return collect.collect(write_run(tmp_path_factory.mktemp("jobs"), replicates=3))


@pytest.fixture(scope="session")
def folder(document, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    source = write_json(folder / "phase3_results.json", document)
    parser = argparse.ArgumentParser()
    write.add_arguments(parser)
    settings = SETTINGS | {"claims": str(LEDGER)}
    line = ["--results", source, "--settings", json.dumps(settings), "--output-dir", folder]
    assert write.run(parser.parse_args([str(word) for word in line])) == 0
    return folder
