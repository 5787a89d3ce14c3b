"""What runs when: exact job counts and reasons from dry runs."""

import sys

import pytest
import yaml

from tests.workflow.conftest import ROOT

CONFIG = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
VARIANTS = len(CONFIG["variants"])
REPLICATES = CONFIG["benchmark"]["replicates"]
SCALED = CONFIG["benchmark"]["scaling"]["variants"]
MD_SYSTEMS = len(CONFIG["md"]["systems"])
FIGURES = len(CONFIG["report"]["figures"])
#: What every change of a record ends in.
REPORT = {
    "collect_results": 1,
    "deploy_winners": 1,
    "plot_figure": FIGURES,
    "render_report": 1,
    "print_reports": 1,
    "all": 1,
}
TIMESTEP = len(CONFIG["md"]["timestep"]["variants"]) * MD_SYSTEMS
LONG = len(CONFIG["md"]["long"]["variants"])
#: A short one of each system, which eager's MD needs; with the likely winner's a long one besides.
SHORT_REFERENCES, REFERENCES = {"run_reference": MD_SYSTEMS}, {"run_reference": 2 * MD_SYSTEMS}
ONE_VARIANT = {
    "compile_variant": 1,
    "check_equivalence": 1,
    "benchmark_variant": REPLICATES,
    "run_md": MD_SYSTEMS,
}
ALL_VARIANTS = {
    "compile_variant": VARIANTS,
    "check_equivalence": VARIANTS,
    "benchmark_variant": VARIANTS * REPLICATES,
    "run_md": VARIANTS * MD_SYSTEMS,
    "check_timestep": TIMESTEP,
    "measure_scaling": len(SCALED),
}
CHECKS = {"check_machine": 1, "check_inputs": 1, "check_teacher": 1}
PREFLIGHT = CHECKS | {"obtain_torch_cluster": 1}
DATASET = {"sample_configurations": 1, "label_configurations": 1}
STUDENT = {"copy_student": 1, "measure_accuracy": 1}
#: What follows from the trajectories of eager, and from those of no other variant.
VISITED = {"label_visited": 1, "measure_visited_accuracy": 1}
ACCEPTANCE = {"run_teacher_acceptance": 1, "measure_acceptance": 1}
EVERYTHING = (
    PREFLIGHT | DATASET | STUDENT | VISITED | ACCEPTANCE | {"time_teacher": 1} | ALL_VARIANTS | REFERENCES | REPORT
)


def test_a_fresh_run_starts_every_job_once(fresh):
    assert fresh.plan() == EVERYTHING


def test_without_a_checkpoint_the_student_is_trained(fresh):
    fresh.edit("config/config.yaml", "checkpoint: resources/student/student.safetensors", "checkpoint: null")
    planned = fresh.plan("distill")
    assert planned["train_student"] == 1
    assert "copy_student" not in planned


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("preflight", PREFLIGHT | {"preflight": 1}),
        ("distill", CHECKS | {"distill": 1} | DATASET | STUDENT),
        (
            "accuracy",
            CHECKS
            | {"accuracy": 1}
            | DATASET
            | STUDENT
            | {"compile_variant": 1, "check_equivalence": 1, "run_md": MD_SYSTEMS, "write_model_card": 1}
            | SHORT_REFERENCES
            | VISITED
            | ACCEPTANCE,
        ),
        (
            "acceptance",
            CHECKS | {"copy_student": 1, "acceptance": 1} | ACCEPTANCE,
        ),
        (
            "report",
            EVERYTHING | {"report": 1, "all": 0},
        ),
    ],
)
def test_a_stage_target_starts_what_it_needs(fresh, target, expected):
    assert fresh.plan(target) == {name: count for name, count in expected.items() if count}


def test_a_finished_run_has_nothing_to_do(finished):
    assert finished.plan() == {}


def test_editing_one_variant_reruns_that_variant_and_the_report(finished):
    finished.edit(
        "config/config.yaml", "vesin: {family: eager, neighbors: vesin}", "vesin: {family: eager, neighbors: native}"
    )
    assert finished.plan() == ONE_VARIANT | REPORT
    assert "Params have changed since last execution" in finished.reasons()


def test_adding_a_variant_runs_that_variant_and_the_report(finished):
    finished.edit("config/config.yaml", "  vesin:", "  second_vesin: {family: eager, neighbors: vesin}\n  vesin:")
    assert finished.plan() == ONE_VARIANT | REPORT


#: What is rendered anew when a text or a figure changes, and no more.
PAGES = {"render_report", "print_reports", "plot_figure", "all"}


@pytest.mark.parametrize(
    ("module", "old", "new", "rerun"),
    [
        ("report/captions.py", "Latency against size", "Latency by size", {"render_report", "print_reports", "all"}),
        ("report/acceptance_captions.py", "Gray: teacher.", "Gray is the teacher.", {"render_report", "print_reports", "all"}),
        ("report/figures/style.py", 'INK = "#222222"', 'INK = "#111111"', PAGES),
        ("deploy/texts.py", "potential = load_bundle(bundle)", "fast = load_bundle(bundle)",
         {"deploy_winners", "render_report", "print_reports", "all"}),
        ("records/wording.py", "penicillin G", "benzylpenicillin", {"collect_results", "deploy_winners", *PAGES}),
        ("variants/compile.py", "name of the variant in the configuration", "the variant's name", set()),
        ("preflight/torch_cluster.py", "the source archive could not be downloaded", "no source archive", set()),
        ("utils/errors.py", "did you mean", "is it", set()),
        ("records/kinds/md.py", "Slope of the total energy.", "How fast the total energy rises.", set()),
        ("records/kinds/md.py", "drift_tier: str", "drift_tier: str | None", {"collect_results", "deploy_winners", *PAGES}),
    ],
)  # fmt: skip
def test_editing_what_people_read_reruns_no_measurement(finished, module, old, new, rerun):
    finished.edit(f"workflow/mlff_distiller/{module}", old, new)
    assert set(finished.plan()) == rerun


def test_editing_a_kernel_reruns_what_it_computes_alone(finished):
    with (finished.folder / "workflow/mlff_distiller/kernels/cpu/painn.hpp").open("a") as stream:
        stream.write("const int a_change = 1;\n")
    assert list(CONFIG["md"]["long"]["variants"]) == ["cpp"] == SCALED == CONFIG["md"]["timestep"]["variants"]
    # The kernel computes the long fp64 runs, too, which only its own are compared with.
    own = ONE_VARIANT | {"run_reference": MD_SYSTEMS, "check_timestep": TIMESTEP, "measure_scaling": 1}
    assert finished.plan() == own | REPORT
    assert "kernels/cpu/painn.hpp" in finished.reasons()


def test_editing_a_family_reruns_its_variants_alone(finished):
    finished.change_code("variants/families/torchscript.py")
    scripted = sum(spec["family"] == "torchscript" for spec in CONFIG["variants"].values())
    assert finished.plan() == {name: scripted * count for name, count in ONE_VARIANT.items()} | REPORT
    reasons = finished.reasons()
    assert "Params have changed since last execution" in reasons
    assert "workflow/mlff_distiller/variants/families/torchscript.py" in reasons


def test_editing_the_md_stage_reruns_md_and_the_report(finished):
    finished.change_code("md/simulate.py")
    assert finished.plan() == {"run_md": VARIANTS * MD_SYSTEMS} | VISITED | REPORT


def test_editing_how_nve_is_run_reruns_the_references_too(finished):
    finished.change_code("md/nve.py")
    assert finished.plan() == {"run_md": VARIANTS * MD_SYSTEMS} | REFERENCES | VISITED | REPORT


def test_a_check_that_is_repeated_makes_no_label_or_time_anew(finished):
    """Though they wait for it where it is to be made."""
    finished.change_code("preflight/teacher.py")
    assert finished.plan() == {"check_teacher": 1} | REPORT


def test_editing_an_md_check_reruns_that_check_alone(finished):
    finished.change_code("md/timestep.py")
    assert finished.plan() == {"check_timestep": TIMESTEP} | REPORT


def test_a_longer_run_of_one_variant_reruns_that_variant_alone(finished):
    finished.edit(
        "config/config.yaml",
        "    variants: [cpp]\n    references",
        "    variants: [cpp, vesin]\n    references",
    )
    assert finished.plan() == {"run_md": MD_SYSTEMS} | REPORT


def test_null_makes_the_runs_of_all_variants_long(finished):
    finished.edit(
        "config/config.yaml",
        "    variants: [cpp]\n    references: null    # of all systems",
        "    variants: null\n    references: [water]",
    )
    planned = finished.plan()
    # One stays as it was: the winner's, of the system whose fp64 run is still the long one.
    assert planned["run_md"] == VARIANTS * MD_SYSTEMS - LONG
    assert "run_reference" not in planned


def test_md_of_every_variant_times_nothing_and_ends_in_a_report(fresh):
    n_systems = len(CONFIG["molecules"]["systems"])
    for under in ("full", "gpu"):
        planned = fresh.plan("--configfile", f"config/{under}.yaml", "config/md.yaml")
        assert planned["run_md"] == planned["check_equivalence"] * n_systems
        assert planned["run_reference"] == n_systems, "every reference as long as the run"
        assert planned["render_report"] == 1
        assert not {"benchmark_variant", "measure_scaling", "time_teacher", "check_thermostat"} & planned.keys()


def test_the_full_run_makes_every_md_check():
    full = yaml.safe_load((ROOT / "config" / "full.yaml").read_text())["md"]
    for check in ("timestep", "nvt", "spectra", "liquid"):
        assert full[check]["variants"], check
        assert full[check]["systems"], check
    long = CONFIG["md"]["long"]
    assert long["variants"]
    picoseconds = long["settings"]["steps"] * CONFIG["md"]["settings"]["timestep_fs"] / 1000
    assert picoseconds >= 10
    assert full["systems"] == CONFIG["molecules"]["systems"]


def test_the_teachers_part_of_the_acceptance_waits_for_nothing_of_the_student(finished):
    finished.change_code("acceptance/student.py")
    assert finished.plan() == {"measure_acceptance": 1} | REPORT
    finished.change_code("acceptance/cases.py")
    assert finished.plan() == ACCEPTANCE | REPORT


def test_crystals_are_trained_on_only_where_that_is_certain(fresh):
    crystal = "config/examples/crystal.yaml"

    def commands():
        done = fresh.snakemake("acceptance", "--dry-run", "--printshellcmds", "--configfile", crystal)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    trained = commands()
    assert "--crystals-split train" in trained
    assert "--dataset-card" not in trained
    fresh.edit(crystal, "checkpoint: null", "checkpoint: resources/student/student.safetensors")
    given = commands()
    assert "--crystals-split unknown" in given
    assert "--dataset-card resources/student/dataset_card.json" in given
    fresh.edit(crystal, "checkpoint: resources/student/student.safetensors", "checkpoint: null")
    files = [f"resources/crystals/{name}.cif" for name in ("silicon", "second", "third")]
    for name in files[1:]:
        (fresh.folder / name).write_text((fresh.folder / files[0]).read_text())
    whole = f"files: [{', '.join(files)}]\n      split_by: structure"
    fresh.edit(crystal, "files: [resources/crystals/silicon.cif]", whole)
    assert "--crystals-split unknown" in commands()


def test_other_settings_of_the_acceptance_rerun_it_alone(finished):
    finished.edit("config/config.yaml", "  molecules: {most: 9, max_atoms: 9}", "  molecules: {most: 8, max_atoms: 9}")
    assert finished.plan() == ACCEPTANCE | REPORT


def test_more_timed_runs_rerun_the_benchmarks_alone(finished):
    finished.edit("config/config.yaml", "  runs: 50", "  runs: 60")
    assert finished.plan() == {"benchmark_variant": VARIANTS * REPLICATES} | REPORT


def test_other_sizes_rerun_the_scaling_jobs_alone(finished):
    finished.edit("config/config.yaml", "batches: [1, 4, 16, 32]", "batches: [1, 4, 16]")
    assert finished.plan() == {"measure_scaling": len(SCALED)} | REPORT


#: A stand-in.
CONDA = ROOT / "tests" / "standins" / "conda" / "bin"
ENGINES = ["ipi", "lammps", "metatomic", "openmm", "torchsim"]


def with_engines(checkout):
    """As `make engines` leaves it."""
    python = checkout.folder / ".venv-engines" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)


def test_engines_are_run_where_they_are_installed(finished, monkeypatch):
    with_engines(finished)
    assert finished.plan() == {"measure_engine": len(ENGINES)} | REPORT
    commands = finished.snakemake("--dry-run", "--printshellcmds").stdout
    for engine in ENGINES:
        assert f".venv-engines/bin/python -m mlff_distiller engine --engine {engine} " in commands
    # Conda has an environment of its own, and engines are asked for by name.
    monkeypatch.setenv("PATH", str(CONDA), prepend=":")
    commands = finished.snakemake("--dry-run", "--printshellcmds", "--use-conda").stdout
    assert "mlff_distiller engine" not in commands
    finished.edit("config/config.yaml", "names: null ", "names: [openmm] ")
    commands = finished.snakemake("--dry-run", "--printshellcmds", "--use-conda").stdout
    assert " python -m mlff_distiller engine --engine openmm " in commands
    assert ".venv-engines" not in commands


def test_engines_that_are_asked_for_are_run_whether_they_are_installed_or_not(finished):
    finished.edit("config/config.yaml", "names: null ", "names: [openmm, lammps] ")
    assert finished.plan() == {"measure_engine": 2} | REPORT
    # Once they are, they run again.
    before = set(finished.reasons().split())
    with_engines(finished)
    assert any(".venv-engines" in word for word in set(finished.reasons("--printshellcmds").split()) - before)


def test_editing_an_engines_code_runs_that_engine_alone(finished):
    finished.edit("config/config.yaml", "names: null ", "names: [openmm, torchsim, lammps] ")
    touched = finished.snakemake("--touch")
    assert touched.returncode == 0, touched.stderr
    for name in ("openmm", "torchsim", "lammps"):
        file = finished.folder / f"results/default/engines/{name}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    touched = finished.snakemake("--touch", "--forceall")
    assert touched.returncode == 0, touched.stderr
    assert finished.plan() == {}
    finished.change_code("deploy/engines/torchsim.py")
    assert finished.plan() == {"measure_engine": 1} | REPORT
    finished.change_code("deploy/engines/many_systems.py")
    assert finished.plan() == {"measure_engine": 1} | REPORT
    with (finished.folder / "workflow/mlff_distiller/deploy/engines/lammps/pair_mlff_distiller.cpp").open(
        "a"
    ) as stream:
        stream.write("const int a_change = 1;\n")
    assert finished.plan()["measure_engine"] == 2


def test_another_md_length_reruns_md_alone(finished):
    finished.edit("config/config.yaml", "steps: 500", "steps: 600")
    short = {"run_md": (VARIANTS - LONG) * MD_SYSTEMS}
    assert finished.plan() == short | SHORT_REFERENCES | VISITED | REPORT


def test_the_recipe_is_one_command_from_the_molecule_list_to_the_accuracy(fresh):
    planned = fresh.plan("accuracy", "--configfile", "config/distill.yaml")
    assert planned == (
        CHECKS
        | {"accuracy": 1, "train_student": 1, "measure_accuracy": 1}
        | DATASET
        | {"compile_variant": 1, "check_equivalence": 1, "run_md": MD_SYSTEMS, "write_model_card": 1}
        | SHORT_REFERENCES
        | VISITED
        | ACCEPTANCE
    )


def test_without_visited_frames_the_teacher_labels_the_sample_alone(fresh):
    fresh.edit("config/config.yaml", "visited_frames: 6", "visited_frames: 0")
    assert fresh.plan("accuracy") == (CHECKS | {"accuracy": 1, "write_model_card": 1} | DATASET | STUDENT | ACCEPTANCE)


def test_labels_of_ones_own_take_the_place_of_sampling(fresh):
    (fresh.folder / "mine.extxyz").touch()
    fresh.edit("config/config.yaml", "  dataset: null", "  dataset: mine.extxyz")
    imported = {"import_dataset": 1} | STUDENT
    assert fresh.plan("distill") == CHECKS | imported | {"distill": 1}
    # Without a teacher nothing is asked of one.
    fresh.edit("config/config.yaml", "calculator: tblite.ase:TBLite", "calculator: null")
    asked_nothing = {name: count for name, count in PREFLIGHT.items() if name != "check_teacher"}
    assert fresh.plan() == asked_nothing | imported | ALL_VARIANTS | REFERENCES | REPORT


def test_more_visited_frames_label_those_alone(finished):
    finished.edit("config/config.yaml", "visited_frames: 6", "visited_frames: 8")
    assert finished.plan() == VISITED | REPORT


def test_other_gates_rerender_the_report_alone(finished):
    finished.edit(
        "config/config.yaml", "project: {energy_forces_speedup: 5.0}", "project: {energy_forces_speedup: 6.0}"
    )
    assert finished.plan() == {"render_report": 1, "print_reports": 1, "all": 1}


def test_other_claims_redraw_the_ladder_and_rerender_the_report(finished):
    with (finished.folder / "config/claims.yaml").open("a") as stream:
        stream.write("# a change\n")
    assert finished.plan() == {"plot_figure": 2, "render_report": 1, "print_reports": 1, "all": 1}


def test_editing_the_printing_prints_alone(finished):
    finished.change_code("report/pdf.py")
    assert finished.plan() == {"print_reports": 1, "all": 1}


def test_a_lost_record_is_made_again_alone(finished):
    (finished.folder / "results/default/benchmark/torchscript/1.json").unlink()
    # The report needs nothing new, so only the stage's own target looks for it.
    assert finished.plan("benchmark") == {"benchmark_variant": 1, "benchmark": 1}


def test_timing_jobs_take_every_core(fresh):
    text = fresh.reasons("--cores", "3", "benchmark")
    jobs = text.split("\nrule ")
    timed = [
        job
        for job in jobs
        if job.startswith(("benchmark_variant", "measure_scaling", "compile_variant", "time_teacher"))
    ]
    assert len(timed) == VARIANTS * (REPLICATES + 1) + len(SCALED) + 1
    assert all("threads: 3" in job for job in timed)


def test_changed_settings_are_seen_while_the_checks_run_again():
    """Of a job that waits for another by `ancient`, Snakemake does not see that, and old labels would stay."""
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    assert "ancient(" not in rules
