"""Whether a GPU is worth it, from small synthetic records of a run on a GPU with one variant on its host."""

import pytest

from mlff_distiller.records.run import Run
from mlff_distiller.report.need_a_gpu import need_a_gpu

SIZES = {"water": 3, "caffeine": 24}


def timing(variant, device, system, milliseconds, **fields):
    return {
        "kind": "benchmark",
        "task": "energy_forces",
        "variant": variant,
        "device": device,
        "system": system,
        "n_atoms": SIZES[system],
        "batch": 1,
        "status": "ok",
        "threads": 2,
        "replicates": 3,
        "median_ms": milliseconds,
        "median_ci95_ms": [0.99 * milliseconds, 1.01 * milliseconds],
        "speedup": 1.0,
        "speedup_ci95": [0.9, 1.1],
    } | fields


def proof(variant, device, equivalent=True):
    return {
        "kind": "equivalence",
        "task": None,
        "variant": variant,
        "device": device,
        "system": "water",
        "status": "ok" if equivalent else "failed",
        "equivalent": equivalent,
    }


@pytest.fixture
def records():
    return [
        *(timing(name, "cuda", system, 0.1) for name in ("eager", "cuda") for system in SIZES),
        proof("cuda", "cuda"),
        timing("cpp", "cpu", "water", 0.2),
        timing("cpp", "cpu", "caffeine", 1.6),
        proof("cpp", "cpu"),
    ]


def test_the_gain_over_the_hosts_cpu_by_size(records):
    text = need_a_gpu(Run(records), "cuda")
    assert text.startswith("On this host's CPU with 2 threads, `cpp` takes 0.20 to 1.6 ms a call: `cuda` is 5.66 times")
    assert "2.0 times with 3 atoms, 16 times with 24" in text


def test_the_fastest_on_the_host_counts_if_it_equals_the_model(records):
    faster = [timing("wrong", "cpu", system, 0.01) for system in SIZES]
    assert "`cpp`" in need_a_gpu(Run([*records, *faster, proof("wrong", "cpu", equivalent=False)]), "cuda")
    assert "`wrong`" in need_a_gpu(Run([*records, *faster, proof("wrong", "cpu")]), "cuda")


def test_nothing_is_said_of_a_host_that_was_not_timed_on_every_molecule(records):
    assert need_a_gpu(Run([e for e in records if (e["variant"], e["system"]) != ("cpp", "caffeine")]), "cuda") == ""
    assert need_a_gpu(Run([e for e in records if e["variant"] != "cpp"]), "cuda") == ""


def test_a_run_on_a_cpu_does_not_ask(records):
    assert need_a_gpu(Run([e | {"device": "cpu"} for e in records]), "cuda") == ""
