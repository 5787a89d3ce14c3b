# Needs: compiled variants and their equivalence records.
# Makes: results/{run}/benchmark/{variant}/{replicate}.json with all samples, one process per variant and replicate;
# results/{run}/benchmark/{variant}/scaling.json (batches, boxes, ASE, MD steps) for the variants in benchmark.scaling;
# results/{run}/engines/{engine}.json (NVE in an MD engine) for those in benchmark.engines.

SCALING = config["benchmark"]["scaling"]
SCALING_FILES = {what: system_path(SCALING[what], config["molecules"]["folder"]) for what in ("molecule", "liquid")}

RUNS_IN = config["benchmark"]["engines"]
# Of `make engines`; conda has an environment of its own.
ENGINES_PYTHON = Path(".venv-engines/bin/python")
INSTALLED = not WITH_CONDA and ENGINES_PYTHON.is_file()

# By default all, where they are installed.
CHOSEN_ENGINES = RUNS_IN["names"]
if CHOSEN_ENGINES is None:
    CHOSEN_ENGINES = list(ENGINES) if INSTALLED and RUNS_IN["variant"] in config["variants"] else []


rule benchmark_variant:
    input:
        variant="results/{run}/variants/{variant}/variant.json",
        equivalence="results/{run}/variants/{variant}/equivalence.json",
        student="results/{run}/student/student.safetensors",
        torch_cluster=torch_cluster_of,
        molecules=files_of(SYSTEMS),
    output:
        "results/{run}/benchmark/{variant}/{replicate}.json",
    log:
        "logs/{run}/benchmark_variant/{variant}/{replicate}.log",
    benchmark:
        "logs/{run}/benchmark_variant/{variant}/{replicate}.tsv"
    conda:
        "../../envs/student.yaml"
    # No other job may run during a timing.
    threads: workflow.cores
    resources:
        **MEASURED,
    params:
        code=variant_code("benchmark.single"),
        systems=list(SYSTEMS.values()),
        tasks=config["benchmark"]["tasks"],
        warmup=config["benchmark"]["warmup"],
        # Timed calls per replicate, rounded up.
        runs=-(-config["benchmark"]["runs"] // max(1, len(REPLICATES))),
        torch_threads=config["benchmark"]["threads"],
        torch_cluster=torch_cluster_option,
    shell:
        "python -m mlff_distiller benchmark --variant {input.variant:q} --equivalence {input.equivalence:q}"
        " --checkpoint {input.student:q} {params.torch_cluster} --systems {params.systems:q}"
        " --tasks {params.tasks:q} --warmup {params.warmup:q} --runs {params.runs:q} --threads {params.torch_threads:q}"
        " --replicate {wildcards.replicate:q} --output {output:q} > {log:q} 2>&1"


rule measure_scaling:
    input:
        variant="results/{run}/variants/{variant}/variant.json",
        equivalence="results/{run}/variants/{variant}/equivalence.json",
        student="results/{run}/student/student.safetensors",
        torch_cluster=torch_cluster_of,
        molecules=files_of(SYSTEMS),
        molecule=split_frame(SCALING_FILES["molecule"])[0],
        liquid=split_frame(SCALING_FILES["liquid"])[0],
    output:
        "results/{run}/benchmark/{variant}/scaling.json",
    log:
        "logs/{run}/measure_scaling/{variant}.log",
    benchmark:
        "logs/{run}/measure_scaling/{variant}.tsv"
    conda:
        "../../envs/student.yaml"
    # No other job may run during a timing.
    threads: workflow.cores
    resources:
        **SCALED,
    params:
        code=variant_code("benchmark.scaling"),
        systems=list(SYSTEMS.values()),
        molecule=lambda wildcards: SCALING_FILES["molecule"],
        liquid=lambda wildcards: SCALING_FILES["liquid"],
        settings=settings(SCALING["settings"]),
        torch_threads=config["benchmark"]["threads"],
        torch_cluster=torch_cluster_option,
    shell:
        "python -m mlff_distiller scaling --variant {input.variant:q} --equivalence {input.equivalence:q}"
        " --checkpoint {input.student:q} {params.torch_cluster} --systems {params.systems:q}"
        " --molecule {params.molecule:q} --liquid {params.liquid:q} --settings {params.settings:q}"
        " --threads {params.torch_threads:q} --output {output:q} > {log:q} 2>&1"


rule measure_engine:
    input:
        variant=f"results/{{run}}/variants/{RUNS_IN['variant']}/variant.json",
        equivalence=f"results/{{run}}/variants/{RUNS_IN['variant']}/equivalence.json",
        student="results/{run}/student/student.safetensors",
        torch_cluster=lambda wildcards: (
            f"results/{wildcards.run}/preflight/torch_cluster.json"
            if needs_torch_cluster(config["variants"][RUNS_IN["variant"]])
            else []
        ),
        molecules=files_of(SYSTEMS),
        box=split_frame(RUNS_IN["box"])[0] if RUNS_IN["box"] else [],
    output:
        "results/{run}/engines/{engine}.json",
    log:
        "logs/{run}/measure_engine/{engine}.log",
    benchmark:
        "logs/{run}/measure_engine/{engine}.tsv"
    wildcard_constraints:
        engine="|".join(ENGINES),
    conda:
        "../../envs/engines.yaml"
    # No other job may run during a timing.
    threads: workflow.cores
    resources:
        **SCALED,
    params:
        python=str(ENGINES_PYTHON) if INSTALLED else "python",
        code=lambda wildcards: code_of(
            "deploy.engine_runs.measure",
            f"deploy.engine_runs.{wildcards.engine}",
            "deploy.engine_runs.ase",
            FAMILIES[config["variants"][RUNS_IN["variant"]]["family"]].module.removeprefix("mlff_distiller."),
        ),
        systems=list(SYSTEMS.values()),
        box=option("box", RUNS_IN["box"]),
        settings=settings(RUNS_IN["settings"]),
        torch_threads=config["benchmark"]["threads"],
        torch_cluster=torch_cluster_option,
    shell:
        "{params.python:q} -m mlff_distiller engine --engine {wildcards.engine:q} --variant {input.variant:q}"
        " --equivalence {input.equivalence:q} --checkpoint {input.student:q} {params.torch_cluster}"
        " --systems {params.systems:q} {params.box} --settings {params.settings:q} --threads {params.torch_threads:q}"
        " --output {output:q} > {log:q} 2>&1"


rule benchmark:
    input:
        CHECKS,
        expand(
            "results/{run}/benchmark/{variant}/{replicate}.json",
            run=RUN,
            variant=config["variants"],
            replicate=REPLICATES,
        ),
        expand("results/{run}/benchmark/{variant}/scaling.json", run=RUN, variant=SCALING["variants"]),
        expand("results/{run}/engines/{engine}.json", run=RUN, engine=CHOSEN_ENGINES),
        expand("results/{run}/benchmark/teacher.json", run=RUN if TEACHER and REPLICATES else []),
