"""What a batch system is told: needs of every job, and a node alone for what is timed."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import yaml

from tests.workflow.conftest import ROOT

PROFILE = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
DEFAULT = yaml.safe_load((ROOT / "profiles/default/profile.yaml").read_text())
TIMED = {"benchmark_variant", "measure_engine", "measure_scaling", "time_teacher", "compile_variant"}
#: `make` installs it with the rest, so that a continuous integration without it is broken.
needs_plugin = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None and "CI" not in os.environ,
    reason="Snakemake's plugin for Slurm is not in this environment: `make` installs it",
)


def jobs_of(text):
    """(rule, threads, resources) of each job in the text of a dry run."""
    found = []
    for job in text.split("\nrule ")[1:]:
        job = re.split(r"\n\[|\nlocalrule |\nJob stats", job)[0]
        threads = re.search(r"\n +threads: (\d+)", job)
        told = re.search(r"\n +resources: (.*)", job)
        resources = dict(item.split("=", 1) for item in told[1].split(", ")) if told else {}
        found.append((job.partition(":")[0], int(threads[1]) if threads else 1, resources))
    return found


@pytest.mark.parametrize("config", ["config.yaml", "distill.yaml", "gpu.yaml"])
def test_every_job_says_what_it_needs(fresh, config):
    jobs = jobs_of(fresh.reasons("report", "--configfile", f"config/{config}"))
    assert len({rule for rule, _, _ in jobs}) > 20
    # The target runs where Snakemake does.
    jobs = [job for job in jobs if job[0] != "report"]
    for rule, _, resources in jobs:
        assert {"mem_mb", "runtime", "gpu"} <= resources.keys(), rule
        assert resources["mem_mb"] == "<TBD>" or 2000 <= int(resources["mem_mb"]) <= 10_000, rule
        assert 15 <= int(resources["runtime"]) <= 1500, rule
    on_gpu = {rule for rule, _, resources in jobs if resources["gpu"] == "1"}
    if config == "gpu.yaml":
        assert on_gpu >= {
            "check_machine",
            "compile_variant",
            "check_equivalence",
            "benchmark_variant",
            "measure_scaling",
            "run_md",
        }
        assert not on_gpu & {"sample_configurations", "label_configurations", "time_teacher", "plot_figure"}
    else:
        assert not on_gpu


def test_locally_needs_hold_no_job_back(tmp_path):
    """Two jobs that ask for more than any machine has run at once, and no plugin is loaded."""
    (tmp_path / "Snakefile").write_text("""
rule all:
    input: "a", "b"

rule one:
    output: "{name}"
    wildcard_constraints: name="a|b"
    resources: mem_mb=10**9, runtime=10, gpu=1
    # Each waits for the other, up to a minute.
    shell: "touch {output}.here; for i in $(seq 600); do [ -e a.here -a -e b.here ] && touch {output} && exit; sleep 0.1; done"
""")
    command = [sys.executable, "-m", "snakemake", "--cores", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@needs_plugin
def test_on_slurm_what_is_timed_has_its_node_to_itself(fresh):
    local = fresh.plan("report")
    command = [sys.executable, "-m", "snakemake", "report", "--workflow-profile", "profiles/slurm", "--dry-run"]
    command += ["--resources", "mem_mb=2500", "runtime=110"]
    done = subprocess.run(command, cwd=fresh.folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    jobs = jobs_of(done.stdout + done.stderr)
    # Figures and pages are one job, which a dry run does not print.
    grouped = {name.split("=")[0] for name in PROFILE["groups"]}
    assert grouped == {"plot_figure", "render_report", "print_reports"}
    assert sorted(rule for rule, _, _ in jobs) == sorted(rule for rule in local.elements() if rule not in grouped)
    alone = {rule for rule, _, resources in jobs if resources.get("slurm_extra") == "--exclusive"}
    assert alone == TIMED & {rule for rule, _, _ in jobs}
    assert all(threads <= PROFILE["cores"] for _, threads, _ in jobs)
    # No job asks for more than a node or a partition allows; which many would.
    for name, most in (("mem_mb", 2500), ("runtime", 110)):
        asked = [int(resources[name]) for _, _, resources in jobs if resources[name] != "<TBD>"]
        assert max(asked) == most


def test_the_profile_holds_what_the_default_holds_and_names_no_site():
    assert {key: PROFILE[key] for key in DEFAULT if key != "cores"} == {
        k: v for k, v in DEFAULT.items() if k != "cores"
    }
    assert PROFILE["cores"] > 0
    # A job that Slurm's controller lost, as it was away, is tried again.
    assert PROFILE["retries"] >= 2
    assert set(PROFILE["set-resources"]) == TIMED
    # A site's words are there as comments alone.
    assert set(PROFILE["default-resources"]) == {"mem_mb", "runtime"}
    text = (ROOT / "profiles/slurm/profile.yaml").read_text()
    assert {"slurm_partition", "slurm_account", "constraint"} <= set(re.findall(r"# (\w+): ", text))


def test_what_is_timed_is_alone_by_the_profile_for_other_batch_systems_too():
    """The one in docs/cluster.md, by hand."""
    text = (ROOT / "docs/cluster.md").read_text()
    generic = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert set(generic["set-resources"]) == TIMED
    assert set(PROFILE["default-resources"]) <= set(generic["default-resources"])


def test_the_profile_names_rules_that_there_are():
    rules = "\n".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    for name in (
        *PROFILE["set-threads"],
        *PROFILE["set-resources"],
        *(group.split("=")[0] for group in PROFILE["groups"]),
    ):
        assert f"rule {name}:" in rules
    # What takes all cores by number must have its number on the node, too.
    by_number = re.findall(r"rule (\w+):(?:(?!\n *rule ).)*?--(?:cores) \{threads\}", rules, re.DOTALL)
    assert set(by_number) <= set(PROFILE["set-threads"])
