# Needs: compiled variants and their equivalence records.
# Makes: results/{run}/benchmark/{variant}/{replicate}.json with all samples, one process per variant and replicate;
# results/{run}/benchmark/{variant}/scaling.json (batches, boxes, ASE, MD steps) for the variants in benchmark.scaling.

SCALING = config["benchmark"]["scaling"]
SCALING_FILES = {what: system_path(SCALING[what], config["molecules"]["folder"]) for what in ("molecule", "liquid")}


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
        expand("results/{run}/benchmark/teacher.json", run=RUN if TEACHER and REPLICATES else []),
